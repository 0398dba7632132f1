import Raster
import Testing

/// From a coarse mask to a cut-out: the photo's own edges, its own colours, and the square around it.
@Suite struct MattingTests {
    private let width = 157
    private let height = 103

    /// Whether a disc covers a pixel.
    private func isInside(_ x: Int, _ y: Int, _ radius: Int = 31) -> Bool {
        (x - 70) * (x - 70) + (y - 52) * (y - 52) <= radius * radius
    }

    /// An orange disc on blue, both with a little structure.
    private var disc: Raster {
        Raster(
            width: width, height: height, channels: 3,
            pixels: (0..<height).flatMap { y in
                (0..<width).flatMap { x -> [UInt8] in
                    let wave = UInt8((x * 7 + y * 3) % 13)
                    return isInside(x, y) ? [220 + wave, 120 + wave, 30] : [20, 60 + wave, 160 + wave]
                }
            })
    }

    /// The disc as a segmenter sees it: coarse, and a little beside.
    private var coarse: Plane {
        Plane(
            width: 32, height: 32,
            values: (0..<32).flatMap { y in
                (0..<32).map { x in isInside((x * width + width / 2) / 32 + 1, (y * height + height / 2) / 32) ? 1 : 0 }
            })
    }

    @Test(arguments: [640, 80]) func alphaFollowsThePhotosEdges(_ side: Int) {
        let alpha = disc.alpha(refining: coarse, side: side)
        #expect(alpha.width == width && alpha.height == height)
        func wrong(_ plane: Plane) -> Int {
            plane.values.indices.count { (plane.values[$0] > 0.5) != isInside($0 % width, $0 / width) }
        }
        let before = wrong(coarse.resized(width: width, height: height))
        #expect(wrong(alpha) * 3 < before, "\(wrong(alpha)) of \(before)")
        #expect(alpha.values.allSatisfy { (0...1).contains($0) })
    }

    @Test func aRimLosesTheBackgroundsColour() {
        // A hard edge photographed softly: a column of pixels is half of each.
        let (front, back): ([Float], [Float]) = ([220, 40, 40], [20, 200, 60])
        let alphas: [Float] = (0..<24).map { min(1, max(0, 11.5 - Float($0))) }
        let pixels = (0..<9).flatMap { _ in
            alphas.flatMap { a in (0..<3).map { UInt8((a * front[$0] + (1 - a) * back[$0]).rounded()) } }
        }
        let cut = Raster(width: 24, height: 9, channels: 3, pixels: pixels)
            .cutOut(by: Plane(width: 24, height: 9, values: (0..<9).flatMap { _ in alphas }), radius: 6)
        let rim = cut.pixels[(4 * 24 + 11) * 4..<(4 * 24 + 12) * 4]
        #expect(rim.last == 128)
        for (found, expected) in zip(rim, front) { #expect(abs(Float(found) - expected) < 12, "\(Array(rim))") }
        // What is wholly the subject's stays as it is.
        #expect(cut.pixels[(4 * 24 + 2) * 4..<(4 * 24 + 3) * 4] == [220, 40, 40, 255])
    }

    @Test func theSquareHoldsTheSubjectAndAMargin() throws {
        var alpha = Plane(width: 50, height: 30, repeating: 0)
        for y in 2..<12 { for x in 40..<50 { alpha.values[y * 50 + x] = 1 } }
        let square = try #require(alpha.subjectSquare(margin: 1.2))
        #expect(square.columns == 39..<51 && square.rows == 1..<13)
        #expect(Plane(width: 5, height: 5, repeating: 0.4).subjectSquare(margin: 1) == nil)
        let part = Raster(width: 50, height: 30, color: (1, 2, 3)).part(columns: square.columns, rows: square.rows)
        #expect(part.width == 12 && part.height == 12)
        // Beyond the picture it is white.
        #expect(part.pixels[0..<3] == [1, 2, 3] && part.pixels[33..<36] == [255, 255, 255])
        let ramp = Plane(width: 3, height: 2, values: [1, 2, 3, 4, 5, 6])
        #expect(ramp.part(columns: -1..<2, rows: 1..<3).values == [0, 4, 5, 0, 0, 0])
    }

    @Test func aPlainBorderIsTold() {
        #expect(Raster(width: 40, height: 31, color: (250, 252, 249)).hasPlainBorder)
        #expect(!Raster(width: 40, height: 31, color: (220, 220, 220)).hasPlainBorder)
        #expect(!disc.hasPlainBorder)
        let product = Raster(
            width: 40, height: 40, channels: 3,
            pixels: (0..<1600).flatMap { i -> [UInt8] in
                (5..<35).contains(i % 40) && (5..<35).contains(i / 40) ? [9, 9, 9] : [255, 255, 255]
            })
        #expect(product.hasPlainBorder)
        #expect(!product.hasTransparency)
        #expect(Raster(width: 1, height: 1, channels: 4, pixels: [0, 0, 0, 254]).hasTransparency)
        #expect(!Raster(width: 1, height: 1, channels: 4, pixels: [0, 0, 0, 255]).hasTransparency)
    }
}
