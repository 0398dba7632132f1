import Foundation
import Pages

/// Points with their intervals, as SVG.
struct Plot {
    struct Point {
        let x: Double
        let y: Spread
        let label: String
    }

    /// Points that a line joins.
    struct Curve {
        let name: String
        let points: [Point]

        /// The rows that have a scale. Those whose labels differ in the scale's number alone are one curve: `self, image_scale 1`
        /// and `self, image_scale 2` are, and `image_scale 1` is of another.
        static func of(_ rows: [Report.Row], _ column: String) -> [Curve] {
            var names: [String] = []
            var points: [String: [Point]] = [:]
            for row in rows {
                guard let scale = row.imageScale, let score = row.scores[column] else { continue }
                let words = row.label.split(separator: " ")
                let name = words.filter { Double($0.trimmingSuffix(",")) != scale }.joined(separator: " ")
                if points[name] == nil { names.append(name) }
                points[name, default: []].append(Point(x: scale, y: score, label: ""))
            }
            return names.map { Curve(name: $0, points: (points[$0] ?? []).sorted { $0.x < $1.x }) }
        }
    }

    let x: String
    let y: String
    /// Points that stand alone.
    var points: [Point] = []
    var curves: [Curve] = []

    /// Of points that stand alone and of curves, from the first; colours that people with any eyes tell apart (Okabe and Ito 2008).
    private static let colors = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]

    var svg: String {
        let all = points + curves.flatMap(\.points)
        guard !all.isEmpty else { return "" }
        func padded(_ low: Double, _ high: Double) -> ClosedRange<Double> {
            let margin = max((high - low) * 0.15, 0.01)
            return low - margin...high + margin
        }
        let across = padded(all.map(\.x).min() ?? 0, all.map(\.x).max() ?? 1)
        let up = padded(all.map(\.y.low).min() ?? 0, all.map(\.y.high).max() ?? 1)
        func place(_ value: Double, _ range: ClosedRange<Double>, _ from: Double, _ to: Double) -> String {
            let share = (value - range.lowerBound) / (range.upperBound - range.lowerBound)
            return String(format: "%.1f", from + share * (to - from))
        }
        func px(_ value: Double) -> String { place(value, across, 60, 440) }
        func py(_ value: Double) -> String { place(value, up, 260, 20) }
        func mark(_ point: Point, _ color: String) -> String {
            """
            <line x1="\(px(point.x))" y1="\(py(point.y.low))" x2="\(px(point.x))" y2="\(py(point.y.high))" stroke="#999"/>\
            <circle cx="\(px(point.x))" cy="\(py(point.y.mean))" r="4" fill="\(color)"/>\
            <text x="\(px(point.x))" y="\(py(point.y.mean))" dx="7" dy="-5">\(PageText.escaped(point.label))</text>
            """
        }
        var marks = points.map { mark($0, Self.colors[0]) }
        for (number, curve) in curves.enumerated() {
            let color = Self.colors[number % Self.colors.count]
            let line = curve.points.map { "\(px($0.x)),\(py($0.y.mean))" }.joined(separator: " ")
            marks.append("<polyline points=\"\(line)\" fill=\"none\" stroke=\"\(color)\"/>")
            marks += curve.points.map { mark($0, color) }
            if curves.count > 1 {
                let name = PageText.escaped(curve.name)
                marks.append("<text x=\"66\" y=\"\(16 + 14 * number)\" style=\"fill: \(color)\">\(name)</text>")
            }
        }
        func ticks(_ values: [Double]) -> [Double] {
            let (low, high) = (values.min() ?? 0, values.max() ?? 1)
            return low < high ? [low, (low + high) / 2, high] : [low]
        }
        return frame(
            marks, across: ticks(all.map(\.x)).map { ($0, px($0)) }, up: ticks(all.map(\.y.mean)).map { ($0, py($0)) })
    }

    /// Axes with their names and numbers around what is inside.
    private func frame(_ marks: [String], across: [(Double, String)], up: [(Double, String)]) -> String {
        let ticks =
            across.map { "<text x=\"\($1)\" y=\"278\" text-anchor=\"middle\">\(Self.number($0))</text>" }
            + up.map { "<text x=\"54\" y=\"\($1)\" text-anchor=\"end\">\(Self.number($0))</text>" }
        return """
            <svg width="460" height="310" viewBox="0 0 460 310" role="img">
            <path d="M60 20V260H440" fill="none" stroke="#444"/>\(ticks.joined())
            <text x="250" y="300" text-anchor="middle">\(PageText.escaped(x))</text>
            <text x="16" y="140" text-anchor="middle" transform="rotate(-90 16 140)">\(PageText.escaped(y))</text>
            \(marks.joined(separator: "\n"))
            </svg>
            """
    }

    private static func number(_ value: Double) -> String { String(format: "%.3g", value) }
}

extension Substring {
    fileprivate func trimmingSuffix(_ suffix: Character) -> Substring { last == suffix ? dropLast() : self }
}
