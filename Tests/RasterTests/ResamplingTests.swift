import Raster
import Testing

@Suite struct ResamplingTests {
    @Test(arguments: Index.shared.resizes)
    func resizingIsPillows(entry: Index.Resize) {
        let source = noise(seed: entry.seed, width: entry.width, height: entry.height, channels: entry.channels)
        let result = source.resized(width: entry.newWidth, height: entry.newHeight)
        #expect(result.width == entry.newWidth && result.height == entry.newHeight)
        #expect(difference(result.pixels, Index.pixels(entry.offset, entry.count)) == "")
    }

    @Test(arguments: Index.shared.fits)
    func fittingIsPillows(entry: Index.Fit) throws {
        let source = noise(seed: entry.seed, width: entry.width, height: entry.height, channels: entry.channels)
        let mode = try #require(Raster.Fit(rawValue: entry.mode))
        let result = source.fitted(toSquare: entry.side, mode: mode)
        #expect(result.width == entry.side && result.height == entry.side && result.channels == 3)
        #expect(difference(result.pixels, Index.pixels(entry.offset, entry.count)) == "")
    }

    @Test func aLuminanceMaskBecomesAlpha() throws {
        let image = noise(seed: 1, width: 3, height: 1, channels: 3)
        let mask = Raster(width: 3, height: 1, channels: 3, pixels: [255, 255, 255, 0, 0, 0, 255, 0, 0])
        let masked = try image.masked(by: mask, path: "mask.png")
        // Red's luminance is 0.299.
        #expect([masked.pixels[3], masked.pixels[7], masked.pixels[11]] == [255, 0, 76])
        let white = masked.compositedOnWhite().pixels
        #expect(white[0..<3] == image.pixels[0..<3])
        #expect(white[3..<6] == [255, 255, 255])
        let exact = 255 - Double(255 - image.pixels[6]) * 76 / 255
        #expect(white[6] == UInt8(exact.rounded()))
    }

    private func rgba(_ pixels: [(UInt8, UInt8, UInt8, UInt8)]) -> Raster {
        Raster(width: pixels.count, height: 1, channels: 4, pixels: pixels.flatMap { [$0.0, $0.1, $0.2, $0.3] })
    }

    private func alpha(_ picture: Raster) -> [UInt8] {
        stride(from: 3, to: picture.pixels.count, by: 4).map { picture.pixels[$0] }
    }

    @Test func aMaskMayHaveItsShapeInItsAlpha() throws {
        let image = noise(seed: 1, width: 3, height: 1, channels: 3)
        // The cut-out picture itself.
        let picture = rgba([(90, 230, 200, 255), (70, 80, 90, 200), (0, 0, 0, 0)])
        #expect(alpha(try image.masked(by: picture, path: "m")) == [255, 200, 0])
        // A drawing in black and white with soft edges: both count.
        let drawn = rgba([(255, 255, 255, 255), (255, 255, 255, 200), (0, 0, 0, 255)])
        #expect(alpha(try image.masked(by: drawn, path: "m")) == [255, 200, 0])
        // An opaque alpha says nothing.
        let opaque = rgba([(255, 255, 255, 255), (0, 0, 0, 255), (128, 128, 128, 255)])
        #expect(alpha(try image.masked(by: opaque, path: "m")) == [255, 0, 128])
    }

    @Test(arguments: [
        Raster(width: 3, height: 1, color: (0, 0, 0)), Raster(width: 3, height: 1, color: (4, 4, 4)),
        Raster(width: 3, height: 1, channels: 4, pixels: [UInt8](repeating: 0, count: 12)),
        Raster(width: 3, height: 1, channels: 4, pixels: [255, 255, 255, 0, 255, 255, 255, 0, 9, 9, 9, 0]),
        // Black, its shape in its alpha, as some cut-out tools write: case mask-that-keeps-nothing.
        Raster(width: 3, height: 1, channels: 4, pixels: [0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 0]),
        Raster(width: 3, height: 1, channels: 4, pixels: [9, 9, 9, 255, 9, 9, 9, 200, 0, 0, 0, 0]),
        Raster(width: 3, height: 1, channels: 4, pixels: [255, 255, 255, 90, 255, 255, 255, 127, 0, 0, 0, 255]),
    ])
    func aMaskThatKeepsNothingIsRefused(_ mask: Raster) throws {
        let image = noise(seed: 1, width: 3, height: 1, channels: 3)
        let error = try #require(throws: RasterError.self) { try image.masked(by: mask, path: "a_mask.png") }
        #expect(error.description.hasPrefix("a_mask.png: mask: found a mask without foreground"))
        let clear = rgba([(1, 2, 3, 0), (1, 2, 3, 20), (1, 2, 3, 127)])
        let own = try #require(throws: RasterError.self) { try clear.checkForeground(path: "a.png") }
        #expect(own.description.hasPrefix("a.png: alpha: found a picture without foreground"))
        try image.checkForeground(path: "a.png")
    }

    @Test func aMaskOfAnotherSizeIsAnError() throws {
        let image = noise(seed: 1, width: 3, height: 2, channels: 3)
        let error = try #require(throws: RasterError.self) {
            try image.masked(by: noise(seed: 1, width: 2, height: 3, channels: 3), path: "a_mask.png")
        }
        #expect(error.description == "a_mask.png: mask size: found 2x3, expected 3x2, the image's")
    }

    @Test func compositingRoundsToNearestForEveryAlpha() {
        for value in stride(from: 0, through: 255, by: 5) {
            for alpha in 0...255 {
                let pixel = Raster(width: 1, height: 1, channels: 4, pixels: [UInt8(value), 0, 255, UInt8(alpha)])
                let exact = Double(value * alpha + 255 * (255 - alpha)) / 255
                #expect(pixel.compositedOnWhite().pixels[0] == UInt8(exact.rounded()))
            }
        }
    }
}
