import Foundation
import Raster
import Testing

@Suite struct EncodingTests {
    private let metadata = ImageMetadata(
        parameters: "a cat\nNegative prompt: blurred\nSteps: 10, Seed: 42 — ünïcödé 😀",
        xmp: XMP.generatedImage(creatorTool: "DreamCache <1> & \"more\""))

    @Test(arguments: [3, 4]) func pngReadsBack(channels: Int) throws {
        let image = noise(seed: 3, width: 31, height: 17, channels: channels)
        let bytes = try image.encodedPNG(metadata: metadata)
        #expect(try Raster.decode(bytes, path: "x") == image)
        #expect(try ImageMetadata.read(bytes, path: "x") == metadata)
        #expect(bytes == (try image.encodedPNG(metadata: metadata)))
        #expect(chunks(bytes).map(\.type) == ["IHDR", "iTXt", "iTXt", "IDAT", "IEND"])
    }

    @Test func latin1TextIsTEXtAndAllTextsKeepTheirOrder() throws {
        let texts = ["b", "a"].map { ImageMetadata.Text(keyword: $0, text: "text of \($0), ÿ\nand more") }
        let metadata = ImageMetadata(parameters: "plain", texts: texts)
        let bytes = try noise(seed: 3, width: 2, height: 2, channels: 3).encodedPNG(metadata: metadata)
        #expect(chunks(bytes).map(\.type) == ["IHDR", "tEXt", "tEXt", "tEXt", "IDAT", "IEND"])
        #expect(chunks(bytes)[1].data == Array("parameters\0plain".utf8))
        #expect(try ImageMetadata.read(bytes, path: "x") == metadata)
        #expect(try noise(seed: 3, width: 2, height: 2, channels: 3).encodedPNG().count < bytes.count)
    }

    @Test func compressedTextsAreReadWithinBounds() throws {
        var file = chunks(try fixture("rgb8.png"))
        // The zlib stream of "hello hello hello hello".
        let hello: [UInt8] = [120, 156, 203, 72, 205, 201, 201, 87, 200, 64, 39, 1, 104, 3, 8, 177]
        file.insert(("zTXt", Array("k\0\0".utf8) + hello), at: 1)
        file.insert(("iTXt", Array("parameters\0\u{1}\0en\0Wort\0".utf8) + hello), at: 1)
        file.insert(("zTXt", Array("bad\0\0".utf8) + hello.dropLast(6)), at: 1)
        let texts = [ImageMetadata.Text(keyword: "k", text: "hello hello hello hello")]
        #expect(
            try ImageMetadata.read(assembled(file), path: "x")
                == ImageMetadata(parameters: "hello hello hello hello", texts: texts))
        // 16 MiB of one byte.
        file.insert(("zTXt", Array("bomb\0\0".utf8) + (try fixture("bomb.zlib"))), at: 1)
        #expect(try ImageMetadata.read(assembled(file), path: "x").texts == texts)
    }

    @Test(arguments: [(95, 43.0), (90, 40.0), (60, 30.0)]) func jpegReadsBack(quality: Int, decibels: Double) throws {
        let image = try Raster.decode(try fixture("ycc444.jpg"), path: "x").resized(width: 64, height: 48)
        let bytes = try image.encodedJPEG(quality: quality, metadata: metadata)
        let ratio = psnr(try Raster.decode(bytes, path: "x"), image)
        #expect(ratio > decibels)
        #expect(try ImageMetadata.read(bytes, path: "x") == metadata)
        #expect(bytes == (try image.encodedJPEG(quality: quality, metadata: metadata)))
        // The luminance's sampling factors, in the frame header.
        let frame = try #require(bytes.indices.dropLast().first { bytes[$0] == 0xff && bytes[$0 + 1] == 0xc0 })
        #expect(bytes[frame + 11] == (quality >= 90 ? 0x11 : 0x22))
        // JFIF first, then EXIF.
        #expect(bytes[2..<4] == [0xff, 0xe0])
    }

    @Test func alphaIsWhiteInAJPEG() throws {
        let clear = Raster(width: 8, height: 8, channels: 4, pixels: [UInt8](repeating: 0, count: 256))
        let read = try Raster.decode(try clear.encodedJPEG(), path: "x")
        #expect(read.pixels.allSatisfy { $0 >= 254 })
    }

    @Test func textsThatCannotBeCarriedAreNamed() throws {
        let image = noise(seed: 3, width: 2, height: 2, channels: 3)
        func message(_ encode: () throws -> [UInt8]) throws -> String {
            try #require(throws: RasterError.self) { _ = try encode() }.description
        }
        #expect(
            try message { try image.encodedPNG(metadata: .init(parameters: "a\0b"), path: "out.png") }
                == "out.png: text parameters: found a NUL character, expected text without NUL")
        let keyword = ImageMetadata(texts: [.init(keyword: " k", text: "")])
        #expect(try message { try image.encodedPNG(metadata: keyword) }.contains("a keyword that PNG cannot carry"))
        let long = ImageMetadata(xmp: String(repeating: "p", count: 70_000))
        #expect(try message { try image.encodedJPEG(metadata: long) }.contains("expected at most 65533"))
        let text = ImageMetadata(texts: [.init(keyword: "k", text: "")])
        #expect(try message { try image.encodedJPEG(metadata: text) }.contains("JPEG has no place for"))
        #expect(try message { try image.encodedJPEG(quality: 0) }.contains("quality: found 0, expected 1 to 100"))
    }

    /// Case refused-after-rendering-jpeg: no prompt is too long for a JPEG.
    @Test(arguments: [("p", 32_000), ("p", 33_000), ("p", 65_000), ("é", 40_000), ("🚀", 40_000), ("p", 400_000)])
    func parametersAlwaysFitAJPEG(_ character: String, _ count: Int) throws {
        let end = ", Version: x, DreamCache: {\"manifest\": {}}"
        let text = String(repeating: character, count: count) + end
        let image = noise(seed: 3, width: 8, height: 8, channels: 3)
        let bytes = try image.encodedJPEG(metadata: ImageMetadata(parameters: text))
        let read = try #require(try ImageMetadata.read(bytes, path: "x").parameters)
        #expect(read.hasPrefix(character) && read.hasSuffix(end))
        if read != text {
            #expect(read.contains("[... shortened") && read.utf16.count < text.utf16.count)
            #expect(!read.unicodeScalars.contains("\u{FFFD}"))
            // What is kept fills the room there is.
            #expect(read.utf16.count > 32_000)
        } else {
            #expect(count < 66_000)
        }
        _ = try Raster.decode(bytes, path: "x")
    }

    /// What other programs write is read: little-endian EXIF with UNICODE and with ASCII comments.
    @Test func commentsOfOtherProgramsAreRead() throws {
        let jpeg = try noise(seed: 3, width: 8, height: 8, channels: 3).encodedJPEG()
        func comment(_ value: [UInt8]) throws -> String? {
            let tiff: [UInt8] =
                [0x49, 0x49, 42, 0, 8, 0, 0, 0] + [1, 0, 0x69, 0x87, 4, 0, 1, 0, 0, 0, 26, 0, 0, 0, 0, 0, 0, 0]
                + [1, 0, 0x86, 0x92, 7, 0, UInt8(value.count), 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0] + value
            let payload = Array("Exif\0\0".utf8) + tiff
            let segment = [0xff, 0xe1, 0, UInt8(payload.count + 2)] + payload
            return try ImageMetadata.read(jpeg[..<2] + segment + jpeg[2...], path: "x").parameters
        }
        #expect(try comment(Array("UNICODE\0h\0i\0".utf8)) == "hi")
        #expect(try comment(Array("UNICODE\0".utf8) + [0xfe, 0xff, 0, 0x68]) == "h")
        #expect(try comment(Array("ASCII\0\0\0hi\0".utf8)) == "hi")
        #expect(try comment(Array("UNICODE\0".utf8)) == "")
    }

    @Test func theXMPPacketNamesItsSource() {
        let packet = XMP.generatedImage(creatorTool: "A<\"&\u{0}")
        #expect(
            packet.contains(
                "DigitalSourceType=\"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia\""))
        #expect(packet.contains("CreatorTool=\"A&lt;&quot;&amp;\""))
        #expect(packet.hasPrefix("<?xpacket begin=\"\u{feff}\""))
    }
}
