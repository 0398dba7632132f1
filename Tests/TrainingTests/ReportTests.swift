import Foundation
import Raster
import Testing

@testable import Training

@Suite struct ReportTests {
    @Test func thePageShowsTheLosses() throws {
        let folder = try TemporaryFolder()
        let run = try RunFolder(folder.path("run"))
        let log = try TrainingLog(path: run.log, upTo: 0)
        for step in 1...2000 {
            try log.add(
                TrainingStep(
                    step: step, loss: 1 / Double(step).squareRoot(), error: 1, learningRate: 1, gradientNorm: 1),
                seconds: 0.1)
        }
        for step in [0, 1000, 2000] {
            let ranges = (0..<5).map {
                ValidationResult.Range(from: 200 * $0, to: 200 * ($0 + 1), error: $0 == 4 ? nil : 0.1 * Double($0 + 1))
            }
            try log.add(ValidationResult(step: step, error: 0.25, ranges: ranges))
        }
        var settings = TrainingSettings()
        settings.start = "<b>&\".safetensors"
        try LossReport(log, settings: settings).write(to: run)
        let page = try String(contentsOfFile: run.file("losses.html"), encoding: .utf8)
        #expect(page.contains("t 800 to 999") && page.contains("Step 2000 of 10000"))
        #expect(page.contains("&lt;b&gt;&amp;") && !page.contains("<b>"))
        // The names of the two SVG elements' format are the only addresses.
        #expect(page.components(separatedBy: "http").count == 3)
        #expect(page.components(separatedBy: "<polyline").count == 1 + 2 + 4 + 1)
        // The same curves as pixels: their colours are there, the last range's, which has no number, in its key alone.
        let picture = try Raster.decode(path: run.file("losses.png"))
        #expect(picture.width == 2 * LineChart.size.width && picture.height == 4 * LineChart.size.height)
        func count(_ color: (UInt8, UInt8, UInt8)) -> Int {
            stride(from: 0, to: picture.pixels.count, by: 3).count {
                (picture.pixels[$0], picture.pixels[$0 + 1], picture.pixels[$0 + 2]) == color
            }
        }
        let key = 24 * 24
        #expect(count((30, 90, 170)) > 2 * key && count((213, 94, 0)) > 2 * key && count((120, 94, 180)) == key)
        // Log and reports are read by the next run as they are, and the log again.
        let again = try TrainingLog(path: run.log, upTo: 1500)
        #expect(again.steps.count == 1500 && again.validations.map(\.step) == [0, 1000])
    }

    @Test func ticksAreRound() {
        #expect(LineChart.ticks(0...1, most: 5) == [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1])
        #expect(LineChart.ticks(0...2000, most: 8) == [0, 500, 1000, 1500, 2000])
        #expect(LineChart.ticks(3...3, most: 8) == [3])
    }

    @Test func runningMeans() {
        #expect(LossReport.means([1, 3, 5, 7], over: 2) == [1, 2, 4, 6])
        #expect(LossReport.thinned((0..<1720).map { (Double($0), 1) }).count == 860)
    }
}
