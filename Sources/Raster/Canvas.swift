/// An RGB image that is drawn into.
public struct Canvas: Sendable {
    /// Columns and rows.
    public let width: Int, height: Int
    private var pixels: [UInt8]

    /// A white one.
    public init(width: Int, height: Int) {
        (self.width, self.height) = (width, height)
        pixels = [UInt8](repeating: 255, count: width * height * 3)
    }

    /// What was drawn.
    public var raster: Raster { Raster(width: width, height: height, channels: 3, pixels: pixels) }

    /// `picture`, RGB, at a place where it fits.
    public mutating func draw(_ picture: Raster, x: Int, y: Int) {
        let row = picture.width * 3
        for line in 0..<picture.height {
            let target = ((y + line) * width + x) * 3
            pixels.replaceSubrange(target..<(target + row), with: picture.pixels[(line * row)..<((line + 1) * row)])
        }
    }

    /// A rectangle; what lies outside is left out.
    public mutating func fill(x: Int, y: Int, width: Int, height: Int, color: (UInt8, UInt8, UInt8)) {
        for row in max(0, y)..<max(0, y, min(y + height, self.height)) {
            for column in max(0, x)..<max(0, x, min(x + width, self.width)) {
                let start = (row * self.width + column) * 3
                (pixels[start], pixels[start + 1], pixels[start + 2]) = color
            }
        }
    }

    /// One line of text in the fixed font, `textSize` a letter, from the upper left corner of its first letter.
    public mutating func write(_ text: String, x: Int, y: Int, scale: Int, color: (UInt8, UInt8, UInt8)) {
        for (index, character) in text.enumerated() {
            for (row, bits) in Fixed6x13.rows(of: character).enumerated() {
                for column in 0..<Fixed6x13.width where bits & (0x80 >> column) != 0 {
                    fill(
                        x: x + (index * Fixed6x13.width + column) * scale, y: y + row * scale, width: scale,
                        height: scale, color: color)
                }
            }
        }
    }

    /// The room of a letter, in pixels.
    public static let textSize = (width: Fixed6x13.width, height: Fixed6x13.height)

    /// Lines from point to point with smooth edges, in pixels from the upper left corner; points that are not finite are left
    /// out, and so is what lies outside.
    public mutating func draw(line points: [(x: Double, y: Double)], thickness: Double, color: (UInt8, UInt8, UInt8)) {
        let points = points.filter { $0.x.isFinite && $0.y.isFinite }
        // Of all segments together: where two of them meet, the colour is mixed in once.
        var coverage = [Float](repeating: 0, count: width * height)
        let reach = thickness / 2 + 1
        for (from, to) in zip(points, points.dropFirst()) {
            let columns = Self.pixels(min(from.x, to.x) - reach, max(from.x, to.x) + reach, below: width)
            for row in Self.pixels(min(from.y, to.y) - reach, max(from.y, to.y) + reach, below: height) {
                for column in columns {
                    let distance = Self.distance(from: (Double(column) + 0.5, Double(row) + 0.5), to: (from, to))
                    let covered = Float(min(max(thickness / 2 + 0.5 - distance, 0), 1))
                    coverage[row * width + column] = max(coverage[row * width + column], covered)
                }
            }
        }
        for (pixel, share) in coverage.enumerated() where share > 0 {
            for (channel, value) in [color.0, color.1, color.2].enumerated() {
                let old = Float(pixels[3 * pixel + channel])
                pixels[3 * pixel + channel] = UInt8((old + share * (Float(value) - old)).rounded())
            }
        }
    }

    /// The pixels from `first` to `last`, as far as they are there.
    private static func pixels(_ first: Double, _ last: Double, below count: Int) -> Range<Int> {
        let start = Int(min(max(first, 0), Double(count)))
        return start..<max(start, Int(min(max(last.rounded(.up), 0), Double(count))))
    }

    private static func distance(
        from point: (x: Double, y: Double), to line: (from: (x: Double, y: Double), to: (x: Double, y: Double))
    ) -> Double {
        let (dx, dy) = (line.to.x - line.from.x, line.to.y - line.from.y)
        let (px, py) = (point.x - line.from.x, point.y - line.from.y)
        let square = dx * dx + dy * dy
        let along = square > 0 ? min(max((px * dx + py * dy) / square, 0), 1) : 0
        let (x, y) = (px - along * dx, py - along * dy)
        return (x * x + y * y).squareRoot()
    }
}
