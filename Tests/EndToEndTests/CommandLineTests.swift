import Foundation
import Golden
import Raster
import Testing

/// The command line in the foreground, from files alone.
@Suite struct CommandLineTests {
    private func psnr(_ a: String, _ b: String) throws -> Double {
        let (a, b) = (try Raster.decode(path: a), try Raster.decode(path: b))
        let sum = zip(a.pixels, b.pixels).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
        return a.pixels.count == b.pixels.count ? 10 * log10(255 * 255 / (sum / Double(a.pixels.count))) : 0
    }

    private func pixels(_ path: String) throws -> [UInt8] { try Raster.decode(path: path).pixels }

    private static let program = Workplace.programs.appendingPathComponent("dreamcache").path

    private static let official = "Open mouth, tongue out, teeth visible, bad photo, low quality, blurred, deformed"

    @Test(arguments: [
        ("paper", #""prompt": "a photo of a backpack, on the beach", "image_scale": 0.4"#),
        (
            "official",
            #""prompt": "A dragon, painted on a wall.", "image_scale": 3, "negative_prompt": "\#(official)""#
        ),
    ])
    func reproducesTheAuthorsRuns(_ mode: String, _ fields: String) throws {
        let place = try Workplace()
        let cache = place.path("subject.dcache")
        let made = try place.dreamcache(
            "cache", Golden.path("reference.png"), "--out", cache, "--cache-seed", "1234", "--cache-mode", mode,
            "--fit",
            "squash", "--json")
        #expect(made.status == 0, "\(made.errors)")
        #expect(made.output.contains(#""dreamcache.cache_mode": "\#(mode)""#))
        let manifest = try place.write(
            "manifest.json", #"{\#(fields), "guidance_scale": 7.5, "num_inference_steps": 10, "seed": 42}"#)
        let rendered = try place.dreamcache("render", manifest, "--out", place.path("set"), "--cache", cache)
        #expect(rendered.status == 0, "\(rendered.errors)")
        #expect(try psnr(place.path("set/0000.png"), Golden.path("run-\(mode).png")) >= 50)
        #expect(FileManager.default.fileExists(atPath: place.path("set/result.json")))

        // The same from the references, in one go.
        let direct = try place.dreamcache(
            "render", manifest, "--out", place.path("direct"), "--references", Golden.path("reference.png"),
            "--cache-mode", mode)
        #expect(direct.status == 0, "\(direct.errors)")
        #expect(try pixels(place.path("direct/0000.png")) == pixels(place.path("set/0000.png")))

        // And the image knows how it was made.
        let replayed = try Workplace.run(Self.program, ["replay", place.path("set/0000.png")])
        let again = try place.write("again.json", replayed.output)
        let repeated = try place.dreamcache("render", again, "--out", place.path("again"), "--cache", cache)
        #expect(repeated.status == 0, "\(repeated.errors)")
        #expect(try pixels(place.path("again/0000.png")) == pixels(place.path("set/0000.png")))
    }

    @Test func referencesAreEncodedByTheModelThatTheManifestNames() throws {
        let place = try Workplace()
        let yaml = try String(contentsOfFile: place.path("config.yaml"), encoding: .utf8)
        let entry = try #require(yaml.range(of: "  tiny:"))
        let end = try #require(yaml.range(of: "compute:"))
        let files = yaml[entry.upperBound..<end.lowerBound]
        _ = try place.write("config.yaml", yaml.replacing("compute:", with: "  other:\(files)compute:"))
        let manifest = try place.write(
            "manifest.json", #"{"model": "other", "prompt": "a backpack", "num_inference_steps": 1, "seed": 1}"#)
        for command in ["render", "attend"] {
            let made = try place.dreamcache(
                command, manifest, "--out", place.path(command), "--references", Golden.path("reference.png"))
            #expect(made.status == 0, "\(made.errors)")
        }
    }

    @Test func errorsNameWhatIsWrong() throws {
        let place = try Workplace()
        let manifest = try place.write("m.json", #"{"prompt": "x", "num_inference_steps": 0, "colour": 1}"#)
        let rejected = try place.dreamcache("render", manifest, "--out", place.path("set"))
        #expect(rejected.status == 4)
        #expect(rejected.errors.contains("$.num_inference_steps (line 1, column 40): found 0"))
        #expect(rejected.errors.contains("$.colour"))

        let usage = try place.dreamcache("render")
        #expect(usage.status == 64)

        let wrong = try place.write("wrong.yaml", "compute: fast\n")
        let configuration = try Workplace.run(
            Self.program, ["doctor", "--config", wrong])
        #expect(configuration.status == 78)
        #expect(configuration.errors.contains("wrong.yaml:1: compute: found 'fast', expected one of auto"))
        let key = try place.write("key.yaml", "spool:\n  colour: red\n")
        let keyed = try Workplace.run(
            Workplace.programs.appendingPathComponent("dreamcached").path, ["--config", key])
        #expect(keyed.status == 78)
        #expect(keyed.errors.contains("key.yaml:2: spool.colour: found an unknown key"))
    }

    @Test func aMissingTensorIsNamed() throws {
        let place = try Workplace(checkpoint: BrokenCheckpoint.make)
        let manifest = try place.write("m.json", #"{"prompt": "x", "num_inference_steps": 1, "seed": 1}"#)
        let result = try place.dreamcache("render", manifest, "--out", place.path("set"))
        #expect(result.status == 78)
        #expect(result.errors.contains(BrokenCheckpoint.missing))
    }

    /// What a script reads is whole, or the command has failed.
    @Test func aResultThatCannotBeWrittenIsAFailure() throws {
        let found = try Workplace.run("/bin/sh", ["-c", "'\(Self.program)' schema > /dev/full"])
        #expect(found.status == 1 && found.errors.contains("standard output: "), "\(found.errors)")
    }

    /// One subject's photos or cache cannot stand for those of two.
    @Test func whatOneSubjectCannotBeIsRefused() throws {
        let place = try Workplace()
        func render(_ fields: String, _ option: String, _ path: String) throws -> Workplace.Result {
            let manifest = try place.write(
                "m.json", #"{\#(fields), "prompt": "x", "num_inference_steps": 1, "seed": 1}"#)
            return try place.dreamcache("render", manifest, "--out", place.path("set"), option, path)
        }
        let photo = Golden.path("reference.png")
        for (fields, option, reason) in [
            (#""subjects": ["a", "b"]"#, "--references", "$.subjects: found 2"),
            (#""subjects": ["a", "b"]"#, "--cache", "$.subjects: found 2"),
            (
                #""subject": {"name": "a", "references": ["x.png"]}"#, "--references",
                "found 'x.png', expected one of reference.png"
            ),
            (#""subject": {"name": "a", "references": ["x.png"]}"#, "--cache", "$.subject.references: found a choice"),
        ] {
            let found = try render(fields, option, photo)
            #expect(found.status == 4 && found.errors.contains(reason), "\(found.errors)")
        }
        let chosen = try render(#""subject": {"name": "a", "references": ["reference.png"]}"#, "--references", photo)
        #expect(chosen.status == 0, "\(chosen.errors)")
    }

    @Test func doctorAndSchemaAnswer() throws {
        let place = try Workplace()
        let doctor = try place.dreamcache("doctor", "--load")
        #expect(doctor.status == 0, "\(doctor.output)")
        #expect(doctor.output.contains("128x128 pixels, adapter"))
        let schema = try Workplace.run(Self.program, ["schema"])
        let document = try JSONSerialization.jsonObject(with: Data(schema.output.utf8)) as? [String: Any]
        #expect(document?["$schema"] as? String == "https://json-schema.org/draft/2020-12/schema")
    }

    @Test func networksAreMeasuredByName() throws {
        let measured = try Workplace.run(
            Self.program, ["bench", "--vision", "segmenter", "--repetitions", "1", "--json"])
        #expect(measured.status == 0, "\(measured.errors)")
        let result = try JSONSerialization.jsonObject(with: Data(measured.output.utf8)) as? [String: Any]
        let parts = result?["parts"] as? [[String: Any]]
        #expect(["onednn-fp32", "openblas"].contains(result?["compute"] as? String))
        #expect(parts?.map { $0["part"] as? String } == ["segmenter"])
        // Twice the multiply-adds of U-2-Net's small form at 320 x 320.
        #expect(10...40 ~= parts?.first?["gflop"] as? Double ?? 0)
        let absent = try Workplace.run(Self.program, ["bench", "--vision", "/nowhere/dino"])
        #expect(absent.status == 1 && absent.errors.contains("/nowhere/dino"), "\(absent.errors)")
        let both = try Workplace.run(Self.program, ["bench", "--vision", "segmenter", "--parts", "unet"])
        #expect(both.status == 64 && both.errors.contains("--vision: found --parts"), "\(both.errors)")
    }
}
