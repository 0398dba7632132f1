import Bytes
import Pages
import Raster

/// Losses and scores of a run as curves: `losses.html`, which needs nothing beside itself, and the same curves in `losses.png`.
struct LossReport {
    private let charts: [LineChart]
    private let settings: TrainingSettings
    private let step: Int

    /// More points than a chart has columns show nothing more.
    private static let mostPoints = 860

    init(_ log: TrainingLog, settings: TrainingSettings) {
        self.settings = settings
        step = log.steps.last?.step ?? 0
        let losses = log.steps.map { (x: Double($0.step), y: $0.loss) }
        let means = Self.means(losses.map(\.y), over: Trainer.window)
        var charts = [
            LineChart(
                title: "Training loss", xName: "steps",
                curves: [
                    LineChart.Curve(
                        name: "each step", color: (190, 205, 225), points: Self.thinned(losses), isFaint: true),
                    LineChart.Curve(
                        name: "mean of \(Trainer.window)", color: (30, 90, 170),
                        points: Self.thinned(zip(losses, means).map { ($0.x, $1) })),
                ])
        ]
        let validations = log.validations
        if let ranges = validations.last?.ranges {
            let all = validations.map { (x: Double($0.step), y: $0.error) }
            var curves = ranges.indices.map { index in
                LineChart.Curve(
                    name: "t \(ranges[index].from) to \(ranges[index].to - 1)",
                    color: Self.colors[index % Self.colors.count],
                    points: validations.compactMap { validation in
                        validation.ranges[index].error.map { (Double(validation.step), $0) }
                    })
            }
            curves.append(LineChart.Curve(name: "all", color: (30, 30, 30), points: all))
            charts.append(
                LineChart(title: "Validation error by timestep", xName: "steps", curves: curves))
        }
        if !log.milestones.isEmpty {
            func curve(_ name: String, _ color: (UInt8, UInt8, UInt8), _ score: (MilestoneResult) -> Double)
                -> LineChart.Curve
            {
                LineChart.Curve(name: name, color: color, points: log.milestones.map { (Double($0.step), score($0)) })
            }
            charts.append(
                LineChart(
                    title: "Pictures of milestones", xName: "steps",
                    curves: [
                        curve("subject_match", (0, 158, 115)) { $0.match }, curve("copy", (213, 94, 0)) { $0.copy },
                    ]))
        }
        self.charts = charts
    }

    private static let colors: [(UInt8, UInt8, UInt8)] = [
        (213, 94, 0), (230, 159, 0), (0, 158, 115), (86, 180, 233), (120, 94, 180),
    ]

    /// The mean of each value and those before it, `count` in all.
    static func means(_ values: [Double], over count: Int) -> [Double] {
        var sum = 0.0
        return values.indices.map { i in
            sum += values[i]
            if i >= count { sum -= values[i - count] }
            return sum / Double(min(i + 1, count))
        }
    }

    /// Neighbours as one, where there are more than a chart shows.
    static func thinned(_ points: [(x: Double, y: Double)]) -> [(x: Double, y: Double)] {
        let size = (points.count + mostPoints - 1) / mostPoints
        guard size > 1 else { return points }
        return stride(from: 0, to: points.count, by: size).map { start in
            let part = points[start..<min(start + size, points.count)]
            let count = Double(part.count)
            return (part.reduce(0) { $0 + $1.x } / count, part.reduce(0) { $0 + $1.y } / count)
        }
    }

    var page: String {
        """
        <!DOCTYPE html>
        <html lang="en">
        <head><meta charset="utf-8"><title>Training, step \(step) of \(settings.steps)</title>
        <style>body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}svg{width:100%}\
        pre{background:#f4f4f4;padding:1em;overflow:auto}</style></head>
        <body>
        <h1>Step \(step) of \(settings.steps)</h1>
        \(charts.map(\.svg).joined())
        <h2>Settings</h2>
        <pre>\(PageText.escaped(settings.yaml))</pre>
        </body>
        </html>

        """
    }

    /// The charts one below the other.
    var picture: Raster {
        let rasters = charts.map(\.raster)
        var canvas = Canvas(
            width: rasters.map(\.width).max() ?? 1, height: max(1, rasters.reduce(0) { $0 + $1.height }))
        var y = 0
        for raster in rasters {
            canvas.draw(raster, x: 0, y: y)
            y += raster.height
        }
        return canvas.raster
    }

    /// Writes page and picture into a run's folder, in place of those that are there.
    func write(to folder: RunFolder) throws(TrainingError) {
        let png = try onPictures { () throws(RasterError) in
            try picture.encodedPNG(path: folder.file("losses.png"))
        }
        try onFiles { () throws(FileError) in
            try AtomicFile.write(Array(page.utf8), to: folder.file("losses.html"))
            try AtomicFile.write(png, to: folder.file("losses.png"))
        }
    }
}
