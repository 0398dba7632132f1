import Foundation
import Pages
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
        <p>Protocol: \(PageText.escaped(report.method.rawValue)). \(Self.meaning(report.method))
        Each number is a mean with the interval that holds 95 per cent of the means of samples drawn again.</p>
        <ul>\(report.measures.map { "<li><b>\(PageText.escaped($0.name))</b>: \(PageText.escaped($0.description))</li>" }.joined())</ul>
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
        let head = "<tr><th></th>" + columns.map { "<th>\(PageText.escaped($0))</th>" }.joined() + "</tr>"
        let rows = report.rows.map { row in
            "<tr><td>\(PageText.escaped(row.label))</td>"
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
                plots.append(Plot(x: "text.\(text)", y: "identity.\(name)", points: points).svg)
            }
        }
        for column in report.columns {
            // A single set beside a curve is in the table.
            let curves = Plot.Curve.of(report.rows, column).filter { $0.points.count > 1 }
            if !curves.isEmpty { plots.append(Plot(x: "image_scale", y: column, curves: curves).svg) }
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
                "<figure><img class=\"\(entry.isCopy ? "copy" : "")\" src=\"\(source)\" alt=\"\(PageText.escaped(entry.file))\">"
                + "<figcaption>\(caption.map(PageText.escaped).joined(separator: "<br>"))</figcaption></figure>"
        }
        let rest = all.count > Self.shown ? "<p><small>and \(all.count - Self.shown) more</small></p>" : ""
        return "<h2>\(PageText.escaped(row.label))</h2>\(figures.joined())\(rest)"
    }

}
