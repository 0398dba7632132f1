import Foundation
import Golden
import Raster
import Testing

extension DaemonTests {
    /// img2img through the spool, against the command line's.
    @Suite struct InitialImages {
        @Test func aDroppedPictureGivesThePixelsOfTheCommandLine() throws {
            let place = try Workplace()
            let daemon = try place.startDaemon()
            try DaemonTests().dropSubject("cat", place)
            let sketch = try Raster.decode(path: Golden.path("run-paper.png")).encodedPNG()
            try Data(sketch).write(to: URL(fileURLWithPath: place.path("sketch.png")))
            func text(_ fields: String) -> String {
                #"{"subject": "cat", "prompt": "a backpack on the beach", "seed": 5, "num_inference_steps": 5\#(fields)}"#
            }
            try place.drop(Data(text(#", "init_image": "sketch", "strength": 0.6"#).utf8), as: "jobs/sketch.json")
            try place.eventually("it waits for the picture") {
                // Alone, or beside the other subject.
                place.receipt("sketch.json").contains("waiting for references of subject")
                    && place.receipt("sketch.json").contains("'sketch'")
            }
            try place.drop(Data(sketch), as: "references/sketch.png")
            let done = try place.dreamcache("wait", "sketch", "--timeout", "60")
            #expect(done.status == 0, "\(done.errors)")
            let set = done.output.trimmingCharacters(in: .whitespacesAndNewlines)
            let spooled = try Raster.decode(path: set + "/0000.png")
            #expect(daemon.stop() == 0)

            func render(_ manifest: String, _ arguments: String...) throws -> Raster {
                let file = try place.write("\(UUID().uuidString).json", manifest)
                let out = place.path(UUID().uuidString)
                let result = try Workplace.run(
                    Workplace.programs.appendingPathComponent("dreamcache").path,
                    ["render", file, "--out", out, "--config", place.path("config.yaml")] + arguments)
                #expect(result.status == 0, "\(result.errors)")
                return try Raster.decode(path: out + "/0000.png")
            }
            let picture = place.path("sketch.png")
            let named = #", "init_image": "sketch", "strength": 0.6"#
            // The option alone; the manifest with the option's file; the manifest with the spool's own picture.
            #expect(try render(text(""), "--init-image", picture, "--strength", "0.6") == spooled)
            #expect(try render(text(named), "--init-image", picture) == spooled)
            #expect(try render(text(named)) == spooled)
            // And not whatever comes: without the picture, or with more of it replaced.
            #expect(try render(text("")) != spooled)
            #expect(try render(text(#", "init_image": "sketch""#)) != spooled)

            // The image knows which picture, by its hash, and makes the manifest again; no path is in it.
            let described = try Workplace.run(
                Workplace.programs.appendingPathComponent("dreamcache").path, ["inspect", set + "/0000.png", "--json"])
            let result = try String(contentsOfFile: set + "/result.json", encoding: .utf8)
            let digest = try #require(
                result.split(separator: "\"init_image\"").last?.split(separator: "\"sha256\": \"").dropFirst().first?
                    .prefix(64))
            #expect(described.output.contains(#""init_image_sha256": "\#(digest)""#))
            #expect(described.output.contains("Denoising strength: 0.6"))
            #expect(!described.output.replacingOccurrences(of: set, with: "").contains(place.folder.path))
            let replayed = try Workplace.run(
                Workplace.programs.appendingPathComponent("dreamcache").path, ["replay", set + "/0000.png"])
            #expect(try render(replayed.output, "--init-image", picture) == spooled)
        }

        @Test func whatIsMissingIsNamed() throws {
            let place = try Workplace()
            let manifest = try place.write("m.json", #"{"prompt": "x", "init_image": "sketch"}"#)
            let missing = try place.dreamcache("render", manifest, "--out", place.path("set"))
            #expect(missing.status == 4)
            #expect(missing.errors.contains("$.init_image: found no references of 'sketch'"), "\(missing.errors)")
            let absent = try place.dreamcache(
                "render", manifest, "--out", place.path("set"), "--init-image", place.path("nothing.png"))
            #expect(absent.status == 4)
            #expect(absent.errors.contains("nothing.png"))
            let strength = try place.dreamcache("render", manifest, "--out", place.path("set"), "--strength", "0.5")
            #expect(strength.status == 64)
            #expect(strength.errors.contains("--strength: found 0.5 without --init-image"))
            let range = try place.dreamcache(
                "render", manifest, "--out", place.path("set"), "--strength", "1.5", "--init-image", "x.png")
            #expect(range.status == 64)
            #expect(range.errors.contains("--strength: found 1.5, expected above 0 to 1"))
        }
    }
}
