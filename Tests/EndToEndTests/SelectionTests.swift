import Foundation
import Golden
import Raster
import Spool
import Testing

/// The best of several candidates, and a scale that a pilot chooses, through the programs.
@Suite(.serialized) struct SelectionTests {
    private static let dino = Golden.fixtures.appendingPathComponent("encoders/dino-s16").path
    private static let manifest = """
        {"subject": "cat", "prompt": "a backpack on the beach", "seed": 5, "num_inference_steps": 2, \
        "image_scale": "auto", "select": {"best_of": 2, "by": "dino", "keep": "all"}, "output": {"grid": true}}
        """

    private func place() throws -> Workplace {
        let place = try Workplace(configuration: "encoders:\n  dino: \(Self.dino)")
        let photos = place.folder.appendingPathComponent("cat")
        try FileManager.default.createDirectory(at: photos, withIntermediateDirectories: true)
        try FileManager.default.copyItem(
            atPath: Golden.path("reference.png"), toPath: photos.appendingPathComponent("a.png").path)
        return place
    }

    private func json(_ path: String) throws -> JSON {
        try JSONReader.read([UInt8](Data(contentsOf: URL(fileURLWithPath: path))))
    }

    /// What a set says and holds, but for times.
    private func check(_ set: String) throws -> (image: Data, tuning: JSON) {
        let result = try json("\(set)/result.json")
        let image = try #require(result["images"]?.array?.first)
        let candidates = try #require(image["candidates"]?.array)
        let scores = candidates.compactMap { $0["scores"]?["dino"]?.number }
        let best = try #require(candidates.firstIndex { $0["chosen"]?.bool == true })
        #expect(scores.count == 2 && scores[best] == scores.max() && scores[0] != scores[1])
        #expect(candidates[1 - best]["file"]?.string == "candidates/0000-\(1 - best).png")
        #expect(FileManager.default.fileExists(atPath: "\(set)/candidates/0000-\(1 - best).png"))
        let page = try String(contentsOfFile: "\(set)/index.html", encoding: .utf8)
        #expect(page.contains("best of 2") && page.contains("candidates/0000-\(1 - best).png"))
        #expect(page.contains("chosen by a pilot"))
        var tuning = try #require(result["tuning"]?.members)
        tuning.removeAll { $0.name == "seconds" }
        return (try Data(contentsOf: URL(fileURLWithPath: "\(set)/0000.png")), JSON(.object(tuning)))
    }

    /// The daemon, killed at every checkpoint, makes what the foreground makes in one go.
    @Test func killedAtEveryCheckpointTheSetIsThatOfOneGo() throws {
        let place = try place()
        let manifest = try place.write("cat.json", Self.manifest)
        let rendered = try place.dreamcache(
            "render", manifest, "--references", place.path("cat"), "--out", place.path("set"))
        #expect(rendered.status == 0, "\(rendered.errors)")
        let undisturbed = try check(place.path("set"))

        let first = try place.startDaemon()
        try FileManager.default.moveItem(atPath: place.path("cat"), toPath: place.path("spool/drop/references/cat"))
        try place.eventually("the cache") {
            FileManager.default.fileExists(atPath: place.path("spool/cache/cat.dcache"))
        }
        #expect(first.stop() == 0)
        try place.drop(Data(Self.manifest.utf8), as: "jobs/chosen.json")
        // Seven scales, the choice, and of each candidate two steps and its score.
        for number in 0..<(7 + 1 + 2 * 3) {
            let daemon = try Daemon(
                configuration: place.path("config.yaml"), log: place.path("daemon.log"),
                environment: ["LD_PRELOAD": Workplace.faultShim, "DREAMCACHE_TEST_KILL": "after:1"])
            try #require(daemon.exitStatus() == -SIGKILL, "\(number)")
        }
        let last = try place.startDaemonAtWork()
        let done = try place.dreamcache("wait", "chosen", "--timeout", "300")
        #expect(done.status == 0, "\(done.errors)")
        #expect(last.stop() == 0)
        let killed = try check(done.output.trimmingCharacters(in: .whitespacesAndNewlines))
        #expect(killed.tuning == undisturbed.tuning)
        #expect(killed.image == undisturbed.image)
        #expect(try place.dreamcache("verify").status == 0)
    }

    /// Whoever asks for what is not configured is told at once.
    @Test func anEncoderThatIsNotConfiguredIsRefused() throws {
        let place = try place()
        let manifest = try place.write("text.json", Self.manifest.replacing("dino", with: "text"))
        let result = try place.dreamcache(
            "render", manifest, "--references", place.path("cat"), "--out", place.path("set"))
        #expect(result.status == 4)
        #expect(result.errors.contains("$.select.by: found 'text', which needs a CLIP; expected an encoder named clip"))
        #expect(!FileManager.default.fileExists(atPath: place.path("set")))
    }
}
