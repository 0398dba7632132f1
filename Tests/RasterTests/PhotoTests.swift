import Foundation
import Raster
import Testing

/// Photos as phones, cameras and programs write them, beside what Pillow makes of them; see generate.py in their folder.
@Suite struct PhotoTests {
    static let photos = folder.deletingLastPathComponent().appending(path: "Photos")

    struct Photo: Decodable, Sendable, CustomTestStringConvertible {
        let file: String, profile: String, reason: String
        let width, height, channels, offset, count, tolerance: Int
        var testDescription: String { file }
    }

    /// None makes the first test fail.
    static let all: [Photo] = {
        struct Index: Decodable { let images: [Photo] }
        guard let data = try? Data(contentsOf: photos.appending(path: "index.json")) else { return [] }
        return (try? JSONDecoder().decode(Index.self, from: data))?.images ?? []
    }()

    private static let expected =
        (try? Data(contentsOf: photos.appending(path: "expected.raw"))).map { [UInt8]($0) } ?? []

    static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: photos.appending(path: name)))
    }

    @Test func thePhotosAreThere() {
        #expect(!Self.all.isEmpty)
        #expect(Self.all.map { $0.offset + $0.count }.max() == Self.expected.count)
        // More than a level is the exception, and has a reason.
        #expect(Self.all.filter { $0.tolerance > 1 }.allSatisfy { !$0.reason.isEmpty })
    }

    @Test(arguments: all) func pixelsAreThoseOfPillow(_ photo: Photo) throws {
        let raster = try Raster.decode(Self.bytes(photo.file), path: photo.file)
        try #require((raster.width, raster.height, raster.channels) == (photo.width, photo.height, photo.channels))
        let expected = Self.expected[photo.offset..<photo.offset + photo.count]
        var worst = 0
        for (index, pair) in zip(raster.pixels, expected).enumerated() {
            // Where nothing is seen, it does not matter which colour it has.
            let alpha = photo.channels == 4 ? expected[expected.startIndex + index / 4 * 4 + 3] : 255
            if alpha > 0 || index % 4 == 3 { worst = max(worst, abs(Int(pair.0) - Int(pair.1))) }
        }
        #expect(worst <= photo.tolerance)
    }

    /// A file that is cut off anywhere is refused as such, whatever its format; a few bytes are of no format yet.
    @Test(arguments: [
        "size-29x21.heic", "size-29x21.avif", "brand-mif1-alone.avif", "lossy.webp", "profile-p3.webp",
        "profile-p3.jpg", "burst.mpo",
    ])
    func everyTruncationSaysSo(_ name: String) throws {
        let whole = try Self.bytes(name)
        // Of a burst the first picture counts.
        let end = name == "burst.mpo" ? 1000 : whole.count
        for count in 1..<end {
            let error = try #require(throws: RasterError.self) { try Raster.decode(Array(whole[..<count]), path: name) }
            #expect(error.cause == .truncated || count < 24, "\(count) bytes: \(error)")
        }
    }

    @Test func highDynamicRangeIsRefusedByName() throws {
        for (transfer, name) in [(UInt8(16), "PQ"), (18, "HLG")] {
            var file = chunks(try Self.bytes("cicp-p3.png"))
            let at = try #require(file.firstIndex { $0.type == "cICP" })
            file[at].data = [9, transfer, 0, 1]
            let error = try #require(throws: RasterError.self) { try Raster.decode(assembled(file), path: "x.png") }
            #expect(error.description.contains("found an HDR picture (ITU-R BT.2100 \(name))"))
            var heic = try Self.bytes("nclx-p3.heic")
            let nclx = try #require(heic.indices.first { heic[$0...].starts(with: "nclx".utf8) })
            heic[nclx + 7] = transfer
            let second = try #require(throws: RasterError.self) { try Raster.decode(heic, path: "x.heic") }
            #expect(second.cause == .unsupported && second.description.contains(name))
        }
    }

    /// A picture beyond `exactPixels` is decoded smaller where the caller needs less: by libjpeg, or by averaging.
    @Test(arguments: ["profile-p3.jpg", "orientation-6.heic", "size-64x48.avif", "lossy.webp", "profile-adobe.png"])
    func largePicturesAreReduced(_ name: String) throws {
        let bytes = try Self.bytes(name)
        var limits = Raster.Limits()
        let whole = try Raster.decode(bytes, path: name, limits: limits, neededSide: 2)
        limits.exactPixels = 100
        #expect(try Raster.decode(bytes, path: name, limits: limits) == whole)
        // Its shorter side keeps twice the pixels that are needed.
        #expect(try Raster.decode(bytes, path: name, limits: limits, neededSide: 100) == whole)
        for factor in [2, 4] {
            let needed = min(whole.width, whole.height) / factor / 2
            let small = try Raster.decode(bytes, path: name, limits: limits, neededSide: needed)
            try #require(small.width == (whole.width + factor - 1) / factor)
            try #require(small.height == (whole.height + factor - 1) / factor)
            // libjpeg reduces before it converts, and cuts off high frequencies; the others average.
            let allowed = name.hasSuffix("jpg") ? 24 : 1
            #expect(worstDifference(small, fromSquaresOf: factor, in: whole) <= allowed)
        }
    }

    /// Of the inner pixels, whose squares are whole.
    private func worstDifference(_ small: Raster, fromSquaresOf side: Int, in whole: Raster) -> Int {
        var worst = 0
        for y in 0..<whole.height / side {
            for x in 0..<whole.width / side {
                for c in 0..<3 {
                    let values = (0..<side * side).map { i in
                        Int(
                            whole.pixels[
                                ((y * side + i / side) * whole.width + x * side + i % side) * whole.channels + c])
                    }
                    let mean = (values.reduce(0, +) + values.count / 2) / values.count
                    worst = max(worst, abs(mean - Int(small.pixels[(y * small.width + x) * small.channels + c])))
                }
            }
        }
        return worst
    }

    @Test func reductionLeavesTransparentColoursOut() throws {
        var pixels = [UInt8](repeating: 0, count: 64 * 64 * 4)
        for i in 0..<64 * 64 where i % 2 == 0 { pixels.replaceSubrange(4 * i..<4 * i + 4, with: [200, 100, 50, 255]) }
        let bytes = try Raster(width: 64, height: 64, channels: 4, pixels: pixels).encodedPNG()
        var limits = Raster.Limits()
        limits.exactPixels = 1
        let small = try Raster.decode(bytes, path: "x", limits: limits, neededSide: 16)
        #expect(small.width == 32 && Array(small.pixels.prefix(4)) == [200, 100, 50, 128])
    }

    @Test func whatIsHeldWholeHasALimitOfItsOwn() throws {
        var limits = Raster.Limits()
        limits.heldBytes = 4000
        // Of clap.avif 40 x 30 pixels are shown, and all are decoded.
        for name in ["size-64x48.heic", "size-64x48.avif", "lossless.webp", "clap.avif"] {
            let error = try #require(throws: RasterError.self) {
                try Raster.decode(Self.bytes(name), path: name, limits: limits)
            }
            #expect(error.cause == .tooLarge, "\(error)")
        }
        #expect(throws: Never.self) { try Raster.decode(Self.bytes("profile-p3.jpg"), path: "x", limits: limits) }
    }
}
