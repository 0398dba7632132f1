import Foundation
import Raster

/// A report as one page that needs nothing beside it: table, plots and pictures.
public struct ReportPage {
    private let report: Report
    private let thumbnail: (Report.PictureEntry) -> Raster?
    /// Pictures shown of each row; a benchmark has thousands.
    private static let shown = 24

    /// - Parameter thumbnail: finds a judged picture again.
    public init(_ report: Report, thumbnail: @escaping (Report.PictureEntry) -> Raster?) {
        self.report = report
        self.thumbnail = thumbnail
    }

    /// HTML.
    public var html: String {
        """
        <!doctype html>
        <html lang="en"><head><meta charset="utf-8"><title>DreamCache: evaluation</title>
        <style>
        body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
        table { border-collapse: collapse } td, th { padding: .3em .8em; border-bottom: 1px solid #ddd; text-align: left }
        small { color: #666 } figure { display: inline-block; margin: .3em; width: 128px; vertical-align: top }
        figure img { width: 128px } figcaption { font-size: 11px } .copy { outline: 3px solid #c22 }
        svg { border: 1px solid #ddd; margin: .5em 1em .5em 0 } svg text { font: 11px system-ui, sans-serif }
        </style></head><body>
        <h1>Evaluation</h1>
        <p>Protocol: \(Self.escaped(report.method.rawValue)). \(Self.meaning(report.method))
        Each number is a mean with the interval that holds 95 per cent of the means of samples drawn again.</p>
        <ul>\(report.measures.map { "<li><b>\(Self.escaped($0.name))</b>: \(Self.escaped($0.description))</li>" }.joined())</ul>
        \(table)
        <p><small>identity: how much of the subject is there. text: how well the prompt is met. diversity: mean distance between
        the pictures of a set. copy: the greatest correlation with a reference, pixel by pixel; \(CopyScore.copied) and more is a
        copy, in a red frame.</small></p>
        \(plots)
        \(report.rows.map(gallery).joined(separator: "\n"))
        </body></html>

        """
    }

    private static func meaning(_ method: ReferenceProtocol) -> String {
        switch method {
        case .dreambooth: "All pictures are compared with all photographs."
        case .paper: "All pictures are compared with the first photograph."
        case .source: "All pictures are compared with the photograph they were made from."
        case .masked: "All pictures are compared with all photographs, without their backgrounds."
        }
    }

    private var table: String {
        let columns = report.columns
        let head = "<tr><th></th>" + columns.map { "<th>\(Self.escaped($0))</th>" }.joined() + "</tr>"
        let rows = report.rows.map { row in
            "<tr><td>\(Self.escaped(row.label))</td>"
                + columns.map { column in
                    guard let spread = row.scores[column] else { return "<td>-</td>" }
                    let mean = String(format: "%.3f", spread.mean)
                    let rest = String(
                        format: "%.3f to %.3f, deviation %.3f, n %d", spread.low, spread.high, spread.deviation,
                        spread.count)
                    return "<td>\(mean)<br><small>\(rest)</small></td>"
                }.joined() + "</tr>"
        }
        return "<table>\(head)\(rows.joined())</table>"
    }

    // MARK: Plots

    private var plots: String {
        var plots: [String] = []
        let names = report.measures.map(\.name)
        if let text = names.first(where: { name in report.rows.contains { $0.scores["text.\(name)"] != nil } }) {
            for name in names {
                let points = report.rows.compactMap { row in
                    row.scores["text.\(text)"].flatMap { x in
                        row.scores["identity.\(name)"].map { Plot.Point(x: x.mean, y: $0, label: row.label) }
                    }
                }
                plots.append(Plot(x: "text.\(text)", y: "identity.\(name)", points: points, isCurve: false).svg)
            }
        }
        for column in report.columns {
            let points = report.rows.compactMap { row in
                row.imageScale.flatMap { x in row.scores[column].map { Plot.Point(x: x, y: $0, label: "") } }
            }.sorted { $0.x < $1.x }
            if points.count > 1 { plots.append(Plot(x: "image_scale", y: column, points: points, isCurve: true).svg) }
        }
        return plots.joined(separator: "\n")
    }

    // MARK: Pictures

    private func gallery(_ row: Report.Row) -> String {
        let all = report.pictures.filter { $0.set == row.label }
        let figures = all.prefix(Self.shown).map { entry -> String in
            let picture = thumbnail(entry).flatMap { try? $0.fitted(toSquare: 128).encodedPNG() }
            let source = picture.map { "data:image/png;base64," + Data($0).base64EncodedString() } ?? ""
            let scores = entry.scores.sorted { $0.key < $1.key }.map { "\($0.key) \(String(format: "%.3f", $0.value))" }
            let caption = [entry.subject, entry.file] + (entry.prompt.map { [$0] } ?? []) + scores
            return
                "<figure><img class=\"\(entry.isCopy ? "copy" : "")\" src=\"\(source)\" alt=\"\(Self.escaped(entry.file))\">"
                + "<figcaption>\(caption.map(Self.escaped).joined(separator: "<br>"))</figcaption></figure>"
        }
        let rest = all.count > Self.shown ? "<p><small>and \(all.count - Self.shown) more</small></p>" : ""
        return "<h2>\(Self.escaped(row.label))</h2>\(figures.joined())\(rest)"
    }

    static func escaped(_ text: String) -> String {
        [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&#39;")].reduce(text) {
            $0.replacingOccurrences(of: $1.0, with: $1.1)
        }
    }
}

/// Points with their intervals, as SVG.
struct Plot {
    struct Point {
        let x: Double
        let y: Spread
        let label: String
    }

    let x: String
    let y: String
    let points: [Point]
    /// Whether a line joins the points.
    let isCurve: Bool

    var svg: String {
        guard !points.isEmpty else { return "" }
        func padded(_ low: Double, _ high: Double) -> ClosedRange<Double> {
            let margin = max((high - low) * 0.15, 0.01)
            return low - margin...high + margin
        }
        let xs = points.map(\.x)
        let across = padded(xs.min() ?? 0, xs.max() ?? 1)
        let up = padded(points.map(\.y.low).min() ?? 0, points.map(\.y.high).max() ?? 1)
        func place(_ value: Double, _ range: ClosedRange<Double>, _ from: Double, _ to: Double) -> String {
            let share = (value - range.lowerBound) / (range.upperBound - range.lowerBound)
            return String(format: "%.1f", from + share * (to - from))
        }
        func px(_ value: Double) -> String { place(value, across, 60, 440) }
        func py(_ value: Double) -> String { place(value, up, 260, 20) }
        func number(_ value: Double) -> String { String(format: "%.3g", value) }
        var marks = points.map { point in
            """
            <line x1="\(px(point.x))" y1="\(py(point.y.low))" x2="\(px(point.x))" y2="\(py(point.y.high))" stroke="#999"/>\
            <circle cx="\(px(point.x))" cy="\(py(point.y.mean))" r="4" fill="#26c"/>\
            <text x="\(px(point.x))" y="\(py(point.y.mean))" dx="7" dy="-5">\(ReportPage.escaped(point.label))</text>
            """
        }
        if isCurve {
            let line = points.map { "\(px($0.x)),\(py($0.y.mean))" }.joined(separator: " ")
            marks.insert("<polyline points=\"\(line)\" fill=\"none\" stroke=\"#26c\"/>", at: 0)
        }
        let ticks = [0, 0.5, 1].map { share -> String in
            let (h, v) = (
                across.lowerBound + share * (across.upperBound - across.lowerBound),
                up.lowerBound + share * (up.upperBound - up.lowerBound)
            )
            return "<text x=\"\(px(h))\" y=\"278\" text-anchor=\"middle\">\(number(h))</text>"
                + "<text x=\"54\" y=\"\(py(v))\" text-anchor=\"end\">\(number(v))</text>"
        }
        return """
            <svg width="460" height="310" viewBox="0 0 460 310" role="img">
            <path d="M60 20V260H440" fill="none" stroke="#444"/>\(ticks.joined())
            <text x="250" y="300" text-anchor="middle">\(ReportPage.escaped(x))</text>
            <text x="16" y="140" text-anchor="middle" transform="rotate(-90 16 140)">\(ReportPage.escaped(y))</text>
            \(marks.joined(separator: "\n"))
            </svg>
            """
    }
}
