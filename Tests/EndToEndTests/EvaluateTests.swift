import Foundation
import Golden
import Raster
import Testing

/// Sets of pictures judged through the program, on the tiny model and a tiny CLIP.
@Suite(.serialized) struct EvaluateTests {
    private static let subjects = Golden.fixtures.appendingPathComponent("demo-subjects")
    private static let clip = Golden.fixtures.appendingPathComponent("encoders/clip").path

    /// A folder of pictures.
    private func folder(_ place: Workplace, _ name: String, _ pictures: [String: Raster]) throws -> String {
        let folder = place.folder.appendingPathComponent(name)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for (file, picture) in pictures {
            try Data(picture.encodedPNG()).write(to: folder.appendingPathComponent(file))
        }
        return folder.path
    }

    private func subject(_ name: String) throws -> Raster {
        try Raster.decode(path: Self.subjects.appendingPathComponent("\(name).png").path)
    }

    /// The subject's pixels, where it is not white, on grey ground.
    private func pasted(_ picture: Raster) -> Raster {
        let white = picture.compositedOnWhite()
        return Raster(
            width: white.width, height: white.height, channels: 3,
            pixels: stride(from: 0, to: white.pixels.count, by: 3).flatMap { i in
                let pixel = Array(white.pixels[i..<i + 3])
                return pixel.contains { $0 < 250 } ? pixel : [120, 130, 140]
            })
    }

    @Test func aPastedSetIsFoundAndReported() throws {
        let place = try Workplace()
        let photos = try folder(place, "crown", ["0.png": subject("crown"), "1.png": subject("turtle")])
        let copied = try folder(place, "copied", ["0000.png": pasted(subject("crown")), "grid.png": subject("house")])
        let other = try folder(place, "other", ["0000.png": subject("house"), "0001.png": subject("pineapple")])
        let result = try place.dreamcache(
            "evaluate", copied, "image_scale 2=\(other)", "--references", photos, "--encoder", Self.clip, "--out",
            place.path("report"))
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.output.contains("identity.subject_match") && result.output.contains("identity.clip"))
        #expect(result.errors.contains("copied: 0000.png repeats a reference"))
        #expect(!result.errors.contains("image_scale 2: 0000.png"))
        let html = try String(contentsOfFile: place.path("report/report.html"), encoding: .utf8)
        #expect(html.contains("class=\"copy\"") && html.contains("real photographs"))
        let csv = try String(contentsOfFile: place.path("report/report.csv"), encoding: .utf8)
        #expect(csv.contains("image_scale 2,2.0,identity.subject_match,"))
        // The sheet of a set is no picture of it.
        #expect(csv.split(separator: "\r\n").contains { $0.hasPrefix("copied,,copy,") && $0.hasSuffix(",1") })
        #expect(FileManager.default.fileExists(atPath: place.path("report/report.json")))
    }

    @Test func aPlanMakesManifestsAndTheirList() throws {
        let place = try Workplace()
        let photos = try folder(place, "photos/red_crown", ["0.png": subject("crown")])
        let prompts = try place.write("prompts.txt", "a {} on the beach\n\na {} in snow\n")
        let planned = try place.dreamcache(
            "evaluate", "--plan", prompts, "--references", place.path("photos"), "--out", place.path("plan"))
        #expect(planned.status == 0, "\(planned.errors)")
        let manifest = try String(contentsOfFile: place.path("plan/red_crown.json"), encoding: .utf8)
        #expect(manifest.contains("a red crown on the beach") && manifest.contains(#""num_images_per_prompt": 4"#))
        // The list names the sets where they will be.
        let list = place.path("plan/evaluate.json")
        let early = try place.dreamcache("evaluate", list)
        #expect(early.status == 4 && early.errors.contains("plan/sets/red_crown"), "\(early.errors)")
        _ = try folder(place, "plan/sets/red_crown", ["0000.png": subject("crown")])
        let judged = try place.dreamcache("evaluate", list, "--json")
        #expect(judged.status == 0 && judged.output.contains(#""label" : "benchmark""#), "\(judged.errors)")
        #expect(photos.hasSuffix("red_crown"))
    }

    @Test func whatCannotBeJudgedIsNamed() throws {
        let place = try Workplace()
        let photos = try folder(place, "photos", ["0.png": subject("crown")])
        #expect(try place.dreamcache("evaluate", photos, "--references", photos, "--protocol", "best").status == 64)
        #expect(try place.dreamcache("evaluate", photos).status == 64)
        let none = try place.dreamcache("evaluate", place.path("none"), "--references", photos)
        #expect(none.status == 4 && none.errors.contains("\(place.path("none")): "), "\(none.errors)")
        let encoder = try place.dreamcache(
            "evaluate", photos, "--references", photos, "--no-model", "--encoder", Golden.path("tiny-sd2.ckpt"))
        #expect(encoder.status != 0 && encoder.errors.contains("expected DINO or DINOv2"), "\(encoder.errors)")
        let source = try place.dreamcache(
            "evaluate", photos, "--references", photos, "--protocol", "dreambench++", "--source", "7.png")
        #expect(source.status == 4 && source.errors.contains("found no 7.png"), "\(source.errors)")
        let list = try place.write("list.json", #"{"subjects": [{"name": "a", "references": "photos", "sets": [{}]}]}"#)
        let wrong = try place.dreamcache("evaluate", list)
        #expect(
            wrong.status == 4 && wrong.errors.contains("$.subjects[0].sets[0].label: found nothing"), "\(wrong.errors)")
    }
}
