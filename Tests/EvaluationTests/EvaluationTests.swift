import Foundation
import Raster
import Testing

@testable import Evaluation

/// Scores and reports over a measure that a test can work out by hand: a picture's mean colour.
@Suite struct EvaluationTests {
    private static var colour: Measure {
        Measure(
            name: "colour", description: "mean colour",
            features: { picture in
                let pixels = picture.compositedOnWhite().pixels
                let sums = (0..<3).map { c in
                    stride(from: c, to: pixels.count, by: 3).reduce(Float(0)) { $0 + Float(pixels[$1]) }
                }
                return Features(rows: sums, width: 3)
            },
            text: { text in Features(rows: text == "red" ? [1, 0, 0] : [0, 0, 1], width: 3) })
    }

    private func plain(_ name: String, _ color: (UInt8, UInt8, UInt8), prompt: String? = nil) -> Picture {
        Picture(name: name, raster: Raster(width: 8, height: 8, color: color), prompt: prompt)
    }

    /// A drawing with structure, in a square of white.
    private func drawing(seed: Int, side: Int = 64, at place: (x: Int, y: Int) = (8, 8), ground: UInt8 = 255) -> Raster
    {
        var pixels = [UInt8](repeating: ground, count: side * side * 3)
        for y in 0..<40 {
            for x in 0..<40 {
                let start = ((y + place.y) * side + x + place.x) * 3
                for c in 0..<3 {
                    pixels[start + c] = UInt8(((x / 8 * (3 + seed) + y / 8 * (5 + c) + seed * c) * 37) % 240)
                }
            }
        }
        return Raster(width: side, height: side, channels: 3, pixels: pixels)
    }

    private func evaluated(_ method: ReferenceProtocol, source: String? = nil) throws -> Report {
        var evaluation = Evaluation(measures: [Self.colour], method: method)
        try evaluation.add(
            EvaluatedSubject(
                name: "ball", references: [plain("0.png", (200, 0, 0)), plain("1.png", (0, 200, 0))], source: source,
                sets: [
                    .init(
                        label: "image_scale 1", imageScale: 1,
                        pictures: [
                            plain("a.png", (200, 0, 0), prompt: "red"), plain("b.png", (0, 0, 200), prompt: "red"),
                        ])
                ]))
        return evaluation.result
    }

    @Test func aFoundTokenIsTheNearest() {
        let reference = Features(rows: [1, 0, 0, 2, 5, 5], width: 2, foreground: [true, true, false])
        let picture = Features(rows: [3, 0, 1, 1], width: 2)
        #expect(abs(reference.found(in: picture) - (1 + 0.5.squareRoot()) / 2) < 1e-6)
        // Where nothing is said to be the subject, all is.
        #expect(Features(rows: [1, 0, 0, 2], width: 2, foreground: [false, false]).foreground == [true, true])
        #expect(Features(rows: [0, 0], width: 2).found(in: picture) == 0)
        // Large numbers have a direction too.
        let large = Features(rows: [3e30, 4e30], width: 2)
        #expect(abs(large.found(in: Features(rows: [3, 4], width: 2)) - 1) < 1e-6)
    }

    @Test func theProtocolsChooseThePhotos() throws {
        func identity(_ report: Report, _ row: Int) -> Double? { report.rows[row].scores["identity.colour"]?.mean }
        // Of a.png and b.png with both photos: 1, 0, 0, 0.
        let all = try evaluated(.dreambooth)
        #expect(all.rows.map(\.label) == [Evaluation.real, "image_scale 1"])
        #expect(identity(all, 1) == 0.25)
        // The photos among themselves: red and green.
        #expect(identity(all, 0) == 0)
        #expect(identity(try evaluated(.paper), 1) == 0.5)
        #expect(identity(try evaluated(.source, source: "1.png"), 1) == 0)
        #expect(all.rows[1].scores["text.colour"]?.mean == 0.5)
        #expect(all.rows[1].scores["diversity.colour"]?.mean == 1)
        #expect(all.rows[0].scores["text.colour"] == nil)
    }

    @Test func maskedLooksAtWhatIsCutOut() throws {
        var evaluation = Evaluation(measures: [Self.colour], method: .masked) { _ in
            Raster(width: 1, height: 1, color: (9, 9, 9))
        }
        try evaluation.add(
            EvaluatedSubject(
                name: "x", references: [plain("0.png", (200, 0, 0))],
                sets: [.init(label: "s", pictures: [plain("a.png", (0, 0, 200))])]))
        #expect(abs((evaluation.result.rows[1].scores["identity.colour"]?.mean ?? 0) - 1) < 1e-6)
    }

    @Test func intervalsHoldTheMeanAndAreRepeatable() throws {
        let scores = (0..<200).map { Double($0 % 10) / 10 }
        let spread = try #require(Spread(groups: [scores]))
        #expect(abs(spread.mean - 0.45) < 1e-9 && abs(spread.deviation - 0.288) < 1e-2)
        // The mean of 200 scatters by .0203: the interval is about 1.96 times that on each side.
        #expect(abs(spread.mean - spread.low - 0.04) < 0.01 && abs(spread.high - spread.mean - 0.04) < 0.01)
        #expect(spread == Spread(groups: [scores]))
        // Of subjects that differ, the interval is as wide as they are few.
        let subjects = try #require(
            Spread(groups: [[Double](repeating: 0, count: 100), [Double](repeating: 1, count: 100)]))
        #expect(subjects.low == 0 && subjects.high == 1)
        #expect(Spread(groups: [[]]) == nil)
    }

    @Test func aPastedReferenceIsACopyAndAnotherPictureIsNot() {
        let score = CopyScore(reference: drawing(seed: 1))
        let pasted = score(drawing(seed: 1, at: (20, 16), ground: 90))
        let other = score(drawing(seed: 4, at: (20, 16), ground: 90))
        #expect(pasted >= CopyScore.copied, "\(pasted)")
        #expect(other < CopyScore.copied, "\(other)")
        #expect(score(Raster(width: 64, height: 64, color: (7, 8, 9))) == 0)
    }

    // MARK: Pasted drawings

    private static let subjects = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Fixtures/demo-subjects")

    /// A drawing before a grey ground of 128 x 128 pixels, at a size and place of no grid, turned by some degrees.
    private func pasted(_ drawing: Raster, longer: Double, at place: (x: Double, y: Double), turned: Double) -> Raster {
        let white = drawing.compositedOnWhite()
        let (side, scale) = (128, Double(max(white.width, white.height)) / longer)
        let (sine, cosine) = (sin(turned * .pi / 180), cos(turned * .pi / 180))
        var pixels = [UInt8](repeating: 0, count: side * side * 3)
        for y in 0..<side {
            for x in 0..<side {
                // From the middle of the pasted square, turned back, to the drawing.
                let (dx, dy) = (Double(x) - place.x - longer / 2, Double(y) - place.y - longer / 2)
                let u = (dx * cosine + dy * sine + longer / 2) * scale
                let v = (dy * cosine - dx * sine + longer / 2) * scale
                for c in 0..<3 { pixels[(y * side + x) * 3 + c] = Self.sample(white, u, v, c) }
            }
        }
        return Raster(width: side, height: side, channels: 3, pixels: pixels)
    }

    /// Between four pixels, where white is the ground.
    private static func sample(_ picture: Raster, _ u: Double, _ v: Double, _ c: Int) -> UInt8 {
        let (left, top) = (Int(u.rounded(.down)), Int(v.rounded(.down)))
        let ground: [Double] = [120, 130, 140]
        var value = 0.0
        for (x, y) in [(left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)] {
            let weight = (1 - abs(u - Double(x))) * (1 - abs(v - Double(y)))
            let isInside = (0..<picture.width).contains(x) && (0..<picture.height).contains(y)
            let start = isInside ? (y * picture.width + x) * 3 : 0
            let isShown = isInside && picture.pixels[start..<start + 3].contains { $0 < 250 }
            value += weight * (isShown ? Double(picture.pixels[start + c]) : ground[c])
        }
        return UInt8(min(max(value.rounded(), 0), 255))
    }

    /// Whatever size and place it is pasted at, a drawing is found; turned by some degrees it is another pose.
    @Test(arguments: ["crown", "pineapple", "toy-10", "turtle"]) func aDrawingIsFoundAtAnySize(_ name: String)
        throws
    {
        let drawing = try Raster.decode(path: Self.subjects.appendingPathComponent("\(name).png").path)
        let score = CopyScore(reference: drawing)
        let found = score(pasted(drawing, longer: 83, at: (23.4, 21.7), turned: 0))
        #expect(found >= CopyScore.copied, "\(found)")
        let turned = score(pasted(drawing, longer: 83, at: (23.4, 21.7), turned: 8))
        #expect(turned < CopyScore.copied, "\(turned)")
    }

    @Test func reportsAreForProgramsAndPeople() throws {
        let report = try evaluated(.dreambooth)
        #expect(report == (try JSONDecoder().decode(Report.self, from: report.json())))
        let lines = report.csv.split(separator: "\r\n").map(String.init)
        #expect(lines[0] == "set,image_scale,score,mean,deviation,low,high,count")
        #expect(lines.contains { $0.hasPrefix("image_scale 1,1.0,identity.colour,0.250000,") && $0.hasSuffix(",2") })
        #expect(report.table.contains("image_scale 1"))
        let html = ReportPage(report) { _ in Raster(width: 4, height: 4, color: (1, 2, 3)) }.html
        #expect(html.contains("data:image/png;base64,") && html.contains("<svg") && !html.contains("http"))
    }

    /// `self` and a trained adapter at the same scales are two curves, each in its colour, with their names.
    @Test func eachKindOfSetIsACurve() throws {
        func row(_ label: String, _ scale: Double?) throws -> Report.Row {
            let spread = try #require(Spread(groups: [[0.2 + (scale ?? 0) / 10, 0.3]]))
            return Report.Row(label: label, imageScale: scale, scores: ["copy": spread])
        }
        let rows = try [
            row("photographs", nil), row("self, image_scale 2", 2), row("self, image_scale 0.5", 0.5),
            row("image_scale 2", 2), row("image_scale 4", 4), row("self, image_scale 2, best of 4", 2),
        ]
        let curves = Plot.Curve.of(rows, "copy")
        #expect(curves.map(\.name) == ["self, image_scale", "image_scale", "self, image_scale best of 4"])
        #expect(curves.map { $0.points.map(\.x) } == [[0.5, 2], [2, 4], [2]])
        let svg = Plot(x: "image_scale", y: "copy", curves: curves).svg
        // The numbers at the axes are those of points, not of the margin around them.
        #expect(svg.contains(">4</text>") && svg.contains(">0.5</text>") && !svg.contains(">-"))
        #expect(svg.components(separatedBy: "<polyline").count == 4 && svg.contains(">self, image_scale</text>"))
    }
}
