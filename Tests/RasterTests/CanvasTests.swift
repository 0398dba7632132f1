import Testing

@testable import Raster

@Suite struct CanvasTests {
    private static let black: (UInt8, UInt8, UInt8) = (0, 0, 0)

    private func row(_ y: Int, of canvas: Canvas) -> [UInt8] {
        (0..<canvas.width).map { canvas.raster.pixels[3 * (y * canvas.width + $0)] }
    }

    /// A line through the middle of a row covers that row; one on the edge of two covers half of each.
    @Test func linesCoverWhatTheyPass() {
        var canvas = Canvas(width: 7, height: 5)
        canvas.draw(line: [(1.5, 2.5), (5.5, 2.5)], thickness: 1, color: Self.black)
        #expect(row(2, of: canvas) == [255, 0, 0, 0, 0, 0, 255])
        #expect(row(1, of: canvas) == [UInt8](repeating: 255, count: 7))
        var between = Canvas(width: 7, height: 5)
        between.draw(line: [(-10, 2), (20, 2)], thickness: 1, color: Self.black)
        for y in [1, 2] { #expect(row(y, of: between) == [UInt8](repeating: 128, count: 7)) }
        #expect(row(3, of: between) == [UInt8](repeating: 255, count: 7))
    }

    /// Where segments meet, the colour is mixed in once; going there and back changes nothing.
    @Test func linesMeetOnce() {
        var once = Canvas(width: 9, height: 9), twice = once
        let (a, b) = ((x: 1.0, y: 1.3), (x: 8.0, y: 6.7))
        once.draw(line: [a, b], thickness: 1.5, color: (200, 30, 90))
        twice.draw(line: [a, b, a], thickness: 1.5, color: (200, 30, 90))
        #expect(once.raster == twice.raster && once.raster != Canvas(width: 9, height: 9).raster)
    }

    @Test func whatIsNotThereIsLeftOut() {
        var canvas = Canvas(width: 4, height: 4)
        let empty = canvas.raster
        canvas.draw(line: [], thickness: 3, color: Self.black)
        canvas.draw(line: [(1, 1)], thickness: 3, color: Self.black)
        let far = [(x: Double.nan, y: 1.0), (.infinity, 2), (1e300, 1e300), (1e300, 1.1e300)]
        canvas.draw(line: far, thickness: 3, color: Self.black)
        canvas.draw(line: [(-50, 9), (50, 90)], thickness: 3, color: Self.black)
        #expect(canvas.raster == empty)
    }
}
