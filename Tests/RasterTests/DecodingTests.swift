import Foundation
import Glibc
import Raster
import Testing

@Suite struct DecodingTests {
    @Test func theIndexIsThere() {
        #expect(!Index.shared.images.isEmpty)
        #expect(!Index.shared.resizes.isEmpty)
        #expect(!Index.shared.fits.isEmpty)
    }

    /// Every PNG colour type and depth, plain and interlaced; every JPEG colour space; every orientation.
    @Test(arguments: Index.shared.images)
    func pixelsAreTheExpectedOnes(image: Index.Image) throws {
        let raster = try Raster.decode(path: folder.appending(path: image.file).path)
        #expect(raster.width == image.width && raster.height == image.height && raster.channels == image.channels)
        #expect(difference(raster.pixels, Index.pixels(image.offset, image.count)) == "")
    }

    @Test(arguments: ["rgb8.png", "palette4-adam7.png", "progressive.jpg", "ycc420.jpg", "cmyk-adobe.jpg"])
    func everyTruncationIsAnErrorThatSaysSo(name: String) throws {
        let whole = try fixture(name)
        for count in 0..<whole.count {
            let error = try #require(throws: RasterError.self) { try Raster.decode(Array(whole[..<count]), path: name) }
            // Within the signature a file is of no kind; within JPEG's headers libjpeg may miss a table first.
            let isNamed = error.cause == .truncated || count < 8 || error.cause == .corrupt && name.hasSuffix("jpg")
            #expect(isNamed, "\(count) bytes: \(error)")
            #expect(error.description.hasPrefix(name))
        }
    }

    @Test func mostTruncationsOfAJPEGAreCalledTruncated() throws {
        let whole = try fixture("ycc420.jpg")
        let scan = try #require(whole.indices.dropLast().last { whole[$0] == 0xff && whole[$0 + 1] == 0xda })
        for count in scan + 20..<whole.count {
            let error = try #require(throws: RasterError.self) { try Raster.decode(Array(whole[..<count]), path: "x") }
            #expect(error.cause == .truncated, "\(error)")
        }
    }

    @Test func bytesAfterTheImageAreIgnored() throws {
        for name in ["rgb8.png", "ycc444.jpg"] {
            let whole = try fixture(name)
            #expect(try Raster.decode(whole + [1, 2, 3], path: name) == Raster.decode(whole, path: name))
        }
    }

    @Test func limitsAreCheckedFromTheHeader() throws {
        func error(_ bytes: [UInt8], _ limits: Raster.Limits = .init()) throws -> RasterError {
            try #require(throws: RasterError.self) { try Raster.decode(bytes, path: "bomb") }
        }
        var header = chunks(try fixture("rgb8.png"))
        func sized(_ width: UInt32, _ height: UInt32) -> [UInt8] {
            let size = withUnsafeBytes(of: (width.bigEndian, height.bigEndian), Array.init)
            header[0].data.replaceSubrange(0..<8, with: size)
            return assembled(header)
        }
        #expect(try error(sized(16_385, 1)).description.contains("size: found 16385x1, expected at most 16384 a side"))
        #expect(try error(sized(1, .max)).description.contains("1x4294967295"))
        #expect(try error(sized(16_000, 12_501)).cause == .tooLarge)
        #expect(try error(sized(0, 1)).description.contains("found 0x1, expected at least one pixel"))
        // Within the limits, but without the data for it.
        #expect(try error(sized(5000, 5000)).cause == .corrupt)

        var jpeg = try fixture("ycc444.jpg")
        let frame = try #require(jpeg.indices.dropLast().first { jpeg[$0] == 0xff && jpeg[$0 + 1] == 0xc0 })
        jpeg.replaceSubrange(frame + 5..<frame + 9, with: [0xfd, 0xe8, 0xfd, 0xe8])
        #expect(try error(jpeg).description.contains("size: found 65000x65000"))

        var limits = Raster.Limits()
        limits.fileSize = 100
        let tooLong = try #require(throws: RasterError.self) {
            try Raster.decode(try fixture("rgb8.png"), path: "a", limits: limits)
        }
        #expect(tooLong.description.contains("expected at most 100"))
        #expect(throws: RasterError.self) {
            try Raster.decode(path: folder.appending(path: "rgb8.png").path, limits: limits)
        }
    }

    @Test(arguments: [
        ([], "an empty file"), (Array("GIF89a".utf8), "a GIF image"), (Array("BM123456".utf8), "a BMP image"),
        (Array("II*\0....".utf8), "a TIFF"), ([0, 0, 0, 24] + Array("ftypisom0000".utf8), "an MP4 video"),
        ([0, 0, 0, 12] + Array("JXL \r\n..".utf8), "a JPEG XL image"), ([0xff, 0x0a, 1], "a JPEG XL image"),
        (Array("hello".utf8), "a file that begins with 0x68 0x65 0x6C 0x6C 0x6F"),
    ])
    func otherFormatsAreNamed(bytes: [UInt8], message: String) throws {
        let error = try #require(throws: RasterError.self) { try Raster.decode(bytes, path: "x") }
        #expect(
            error.description.contains(message) && error.description.contains("expected PNG, JPEG, HEIC, AVIF or WebP"))
    }

    @Test func filesThatCannotBeReadAreNamed() throws {
        let missing = try #require(throws: RasterError.self) { try Raster.decode(path: "/nonexistent.png") }
        #expect(missing.cause == .system(code: ENOENT))
        let directory = try #require(throws: RasterError.self) { try Raster.decode(path: folder.path) }
        #expect(directory.description.contains("found a folder, expected a regular file"))
    }

    @Test func damagedDataIsAnError() throws {
        var png = try fixture("rgb8.png")
        png[60] ^= 1
        let checksum = try #require(throws: RasterError.self) { try Raster.decode(png, path: "x") }
        #expect(checksum.description == "x: corrupt: PNG: found IDAT: incorrect data check, expected a sound image")
        var jpeg = try fixture("restarts.jpg")
        let restart = try #require(jpeg.indices.dropLast().first { jpeg[$0] == 0xff && jpeg[$0 + 1] == 0xd0 })
        jpeg[restart + 1] = 0xd3
        let warning = try #require(throws: RasterError.self) { try Raster.decode(jpeg, path: "x") }
        #expect(warning.cause == .corrupt)
    }

    /// Scans may repeat as often as a file likes, and each costs a pass over the whole image.
    @Test func endlessScansAreRefused() throws {
        let jpeg = try fixture("three-scans.jpg")
        let scans = jpeg.indices.dropLast().filter { jpeg[$0] == 0xff && jpeg[$0 + 1] == 0xda }
        try #require(scans.count == 3)
        func repeated(_ count: Int) throws -> Raster {
            let again = Array(repeating: jpeg[scans[0]..<scans[1]], count: count).flatMap { $0 }
            return try Raster.decode(Array(jpeg[..<scans[0]]) + again + jpeg[scans[0]...], path: "x")
        }
        #expect(try repeated(50) == Raster.decode(jpeg, path: "x"))
        let error = try #require(throws: RasterError.self) { try repeated(200) }
        #expect(error.description.contains("found more than 100 scans"))
    }

    @Test func aDamagedOrientationIsIgnored() throws {
        var bytes = try fixture("orientation-6.jpg")
        let exif = try #require(bytes.indices.first { bytes[$0...].starts(with: "Exif\0\0".utf8) })
        for offset in 6..<30 {
            var damaged = bytes
            damaged[exif + offset] = 0xff
            #expect(throws: Never.self) { try Raster.decode(damaged, path: "x") }
        }
        bytes[exif] = 0
        #expect(try Raster.decode(bytes, path: "x").width == 37)
    }
}

/// Mutated files are refused or read, never crash.
@Suite struct RasterFuzzTests {
    @Test(arguments: [
        "rgb8.png", "palette4-trns-adam7.png", "orientation-6.png", "ycc420.jpg", "progressive.jpg", "ycck-adobe.jpg",
        "orientation-7.jpg",
    ])
    func files(name: String) throws {
        let original = try fixture(name)
        var random = TestRandom(state: UInt64(11 + 100 * fuzzFactor))
        for _ in 0..<1500 * fuzzFactor {
            let bytes = random.mutated(original)
            _ = try? Raster.decode(bytes, path: name)
            _ = try? ImageMetadata.read(bytes, path: name)
        }
    }

    /// With right checksums, so that libpng looks into the chunks.
    @Test func pngChunks() throws {
        let files = try ["rgb8.png", "palette4-trns-adam7.png", "orientation-6.png"].map { chunks(try fixture($0)) }
        var random = TestRandom(state: UInt64(12 + 100 * fuzzFactor))
        var read = 0
        for round in 0..<4000 * fuzzFactor {
            var file = files[round % files.count]
            let victim = Int.random(in: 0..<file.count, using: &random)
            file[victim].data = random.mutated(file[victim].data)
            if (try? Raster.decode(assembled(file), path: "x")) != nil { read += 1 }
        }
        #expect(read > 100 && read < 3900 * fuzzFactor)
    }

    @Test func metadata() throws {
        let raster = noise(seed: 1, width: 8, height: 8, channels: 3)
        let texts = [ImageMetadata.Text(keyword: "k", text: "ü"), ImageMetadata.Text(keyword: "j", text: "✓")]
        let png = chunks(try raster.encodedPNG(metadata: ImageMetadata(parameters: "p", xmp: "<x/>", texts: texts)))
        let jpeg = try raster.encodedJPEG(metadata: ImageMetadata(parameters: "p✓", xmp: "<x/>"))
        var random = TestRandom(state: UInt64(13 + 100 * fuzzFactor))
        for _ in 0..<2000 * fuzzFactor {
            var file = png
            let victim = Int.random(in: 1..<file.count - 2, using: &random)
            file[victim].data = random.mutated(file[victim].data)
            _ = try? ImageMetadata.read(assembled(file), path: "x")
            _ = try? ImageMetadata.read(random.mutated(Array(jpeg.prefix(300))) + jpeg.dropFirst(300), path: "x")
        }
    }
}
