import Foundation
import Pages
import Raster

/// Curves over one axis, as SVG and as pixels.
struct LineChart: Sendable {
    /// One of the curves.
    struct Curve: Sendable {
        /// What it is called.
        var name: String
        /// Red, green, blue.
        var color: (UInt8, UInt8, UInt8)
        /// In the order of x; numbers that are not finite are left out.
        var points: [(x: Double, y: Double)]
        /// Whether it only stands behind the others: it then does not decide how high the chart reaches.
        var isFaint: Bool

        /// A curve.
        init(
            name: String, color: (UInt8, UInt8, UInt8), points: [(x: Double, y: Double)], isFaint: Bool = false
        ) {
            (self.name, self.color, self.isFaint) = (name, color, isFaint)
            self.points = points.filter { $0.x.isFinite && $0.y.isFinite }
        }
    }

    /// Above the chart.
    var title: String
    /// Below it.
    var xName: String
    /// The later ones are drawn over the earlier.
    var curves: [Curve]

    /// Of the picture, in the units of its coordinates.
    static let size = (width: 960, height: 420)
    private static let frame = (x: 76..<940, y: 44..<350)

    // MARK: Axes

    private var xRange: ClosedRange<Double> {
        let all = curves.flatMap { $0.points.map(\.x) }
        let (low, high) = (all.min() ?? 0, all.max() ?? 1)
        return low...max(high, low + 1e-9)
    }

    /// From 0, or from the least where that is negative.
    private var yRange: ClosedRange<Double> {
        let clear = curves.filter { !$0.isFaint && !$0.points.isEmpty }
        let all = (clear.isEmpty ? curves : clear).flatMap { $0.points.map(\.y) }
        let (low, high) = (min(0, all.min() ?? 0), all.max() ?? 1)
        return low...max(low + (high - low) * 1.1, low + 1e-9)
    }

    private func place(_ point: (x: Double, y: Double)) -> (x: Double, y: Double) {
        let (frame, x, y) = (Self.frame, xRange, yRange)
        let across = (point.x - x.lowerBound) / (x.upperBound - x.lowerBound)
        let up = min(max((point.y - y.lowerBound) / (y.upperBound - y.lowerBound), 0), 1)
        return (
            Double(frame.x.lowerBound) + across * Double(frame.x.count),
            Double(frame.y.upperBound) - up * Double(frame.y.count)
        )
    }

    /// Round numbers in a range: steps of 1, 2 or 5 times a power of ten.
    static func ticks(_ range: ClosedRange<Double>, most: Int) -> [Double] {
        let rough = (range.upperBound - range.lowerBound) / Double(max(1, most))
        guard rough > 0, rough.isFinite else { return [range.lowerBound] }
        let power = pow(10, floor(log10(rough)))
        let step = [1, 2, 5, 10].map { $0 * power }.first { $0 >= rough * 0.999 } ?? 10 * power
        let first = Int((range.lowerBound / step).rounded(.up)), last = Int((range.upperBound / step).rounded(.down))
        return first > last ? [] : (first...last).map { Double($0) * step }
    }

    private static func text(_ number: Double) -> String {
        abs(number) >= 1e6 ? String(format: "%gM", number / 1e6) : String(format: "%.6g", number)
    }

    // MARK: SVG

    /// One `<svg>` element without references to anything outside.
    var svg: String {
        let frame = Self.frame
        var out = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Self.size.width) \(Self.size.height)" \
            font-family="sans-serif" font-size="13" role="img">
            <title>\(PageText.escaped(title))</title>
            <text x="\(frame.x.lowerBound)" y="26" font-size="16">\(PageText.escaped(title))</text>

            """
        for tick in Self.ticks(yRange, most: 6) {
            let y = place((xRange.lowerBound, tick)).y
            out += "<line x1=\"\(frame.x.lowerBound)\" x2=\"\(frame.x.upperBound)\" y1=\"\(Self.short(y))\" "
            out += "y2=\"\(Self.short(y))\" stroke=\"#ddd\"/><text x=\"\(frame.x.lowerBound - 8)\" "
            out += "y=\"\(Self.short(y + 4))\" text-anchor=\"end\">\(Self.text(tick))</text>\n"
        }
        for tick in Self.ticks(xRange, most: 8) {
            let x = place((tick, 0)).x
            out += "<text x=\"\(Self.short(x))\" y=\"\(frame.y.upperBound + 18)\" text-anchor=\"middle\">"
            out += "\(Self.text(tick))</text>\n"
        }
        out += "<text x=\"\(frame.x.upperBound)\" y=\"\(frame.y.upperBound + 36)\" text-anchor=\"end\">"
        out += "\(PageText.escaped(xName))</text>\n"
        for curve in curves where !curve.points.isEmpty {
            let points = curve.points.map(place).map { "\(Self.short($0.x)),\(Self.short($0.y))" }
            out += "<polyline fill=\"none\" stroke=\"\(curve.webColor)\" stroke-width=\"\(curve.isFaint ? 1 : 2)\" "
            out += "points=\"\(points.joined(separator: " "))\"/>\n"
        }
        for (index, curve) in curves.enumerated() {
            let x = frame.x.lowerBound + index * Self.keyWidth
            out += "<rect x=\"\(x)\" y=\"\(Self.size.height - 22)\" width=\"12\" height=\"12\" "
            out += "fill=\"\(curve.webColor)\"/><text x=\"\(x + 18)\" y=\"\(Self.size.height - 11)\">"
            out += "\(PageText.escaped(curve.name))</text>\n"
        }
        return out + "</svg>\n"
    }

    private static let keyWidth = 140

    private static func short(_ number: Double) -> String { String(format: "%.1f", number) }
}

extension LineChart {
    /// Pixels for one unit of the coordinates.
    private static let scale = 2

    /// The chart as pixels, of twice its size.
    var raster: Raster {
        let (frame, size, scale) = (Self.frame, Self.size, Self.scale)
        var canvas = Canvas(width: size.width * scale, height: size.height * scale)
        // As in the SVG, `x` and `y` are where a line of writing begins, or ends, or has its middle.
        func write(_ text: String, x: Double, y: Double, anchor: Double = 0) {
            let width = Double(text.count * Canvas.textSize.width)
            canvas.write(
                text, x: Int((x - anchor * width) * Double(scale)), y: Int((y - 10) * Double(scale)), scale: scale,
                color: (0, 0, 0))
        }
        write(title, x: Double(frame.x.lowerBound), y: 26)
        for tick in Self.ticks(yRange, most: 6) {
            let y = place((xRange.lowerBound, tick)).y
            canvas.fill(
                x: frame.x.lowerBound * scale, y: Int(y * Double(scale)), width: frame.x.count * scale, height: scale,
                color: (221, 221, 221))
            write(Self.text(tick), x: Double(frame.x.lowerBound - 8), y: y + 4, anchor: 1)
        }
        for tick in Self.ticks(xRange, most: 8) {
            write(Self.text(tick), x: place((tick, 0)).x, y: Double(frame.y.upperBound + 18), anchor: 0.5)
        }
        write(xName, x: Double(frame.x.upperBound), y: Double(frame.y.upperBound + 36), anchor: 1)
        for curve in curves {
            let points = curve.points.map(place).map { (x: $0.x * Double(scale), y: $0.y * Double(scale)) }
            canvas.draw(line: points, thickness: Double(curve.isFaint ? scale : 2 * scale), color: curve.color)
        }
        for (index, curve) in curves.enumerated() {
            let x = frame.x.lowerBound + index * Self.keyWidth
            canvas.fill(
                x: x * scale, y: (size.height - 22) * scale, width: 12 * scale, height: 12 * scale, color: curve.color)
            write(curve.name, x: Double(x + 18), y: Double(size.height - 11))
        }
        return canvas.raster
    }
}

extension LineChart.Curve {
    fileprivate var webColor: String { String(format: "#%02x%02x%02x", color.0, color.1, color.2) }
}
