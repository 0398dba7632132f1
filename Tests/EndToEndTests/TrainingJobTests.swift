import Foundation
import Golden
import Testing

extension DaemonTests {
    /// A training in the spool: the real daemon, the tiny model, a data set that is dropped.
    @Suite struct TrainingJobs {
        private static let steps = 6
        private static let settings: [(String, String)] = [
            ("steps", "\(steps)"), ("batch_size", "1"), ("save_seconds", "0"), ("reference_variants", "1"),
            ("validation_samples", "1"), ("learning_rate", "0.001"), ("validation_steps", "3"),
        ]

        private func dropDataset(_ place: Workplace, _ name: String) throws {
            let folder = place.folder.appendingPathComponent("spool/drop/datasets")
            let hidden = folder.appendingPathComponent(".\(name).part")
            try FileManager.default.copyItem(at: place.folder.appendingPathComponent("data"), to: hidden)
            try FileManager.default.moveItem(at: hidden, to: folder.appendingPathComponent(name))
        }

        private var manifest: Data {
            let settings = Self.settings.map { "\"\($0)\": \($1)" }.joined(separator: ", ")
            return Data(
                """
                {"kind": "training", "dataset": "toys", "model": "tiny", "name": "night", "settings": {\(settings)}}
                """.utf8)
        }

        private func lines(_ place: Workplace) -> Int {
            let active = place.path("spool/lib/jobs/active")
            guard let id = (try? FileManager.default.contentsOfDirectory(atPath: active))?.first else { return 0 }
            return (FileManager.default.contents(atPath: "\(active)/\(id)/training/train.jsonl") ?? Data())
                .count { $0 == UInt8(ascii: "\n") }
        }

        /// Killed in the middle, then asked to stop, the daemon's adapter is the one that `dreamcache train` makes; and a model of the
        /// configuration may have it.
        @Test func theAdapterIsThatOfTheCommandLine() throws {
            let place = try Workplace()
            try place.writeTrainingData()
            let sets = Self.settings.flatMap { ["--set", "\($0)=\($1)"] }
            let whole = try Workplace.run(
                Workplace.programs.appendingPathComponent("dreamcache").path,
                [
                    "train", "--model", "tiny", "--data", place.path("data"), "--out", place.path("whole.safetensors"),
                    "--config", place.path("config.yaml"),
                ] + sets)
            #expect(whole.status == 0, "\(whole.errors)")

            var daemon = try place.startDaemon()
            try place.drop(manifest, as: "jobs/night.json")
            try dropDataset(place, "toys")
            try place.eventually("a step is made") { lines(place) >= 1 }
            daemon.kill9()
            daemon = try place.startDaemonAtWork()
            try place.eventually("another step is made") { lines(place) >= 3 }
            let watched = try place.dreamcache("watch").output
            #expect(watched.contains("night of toys"), "\(watched)")
            #expect(daemon.stop() == 0)
            daemon = try place.startDaemonAtWork()
            let waited = try place.dreamcache("wait", "night")
            #expect(waited.status == 0, "\(waited.errors)")
            let set = waited.output.trimmingCharacters(in: .whitespacesAndNewlines)
            let adapter = "\(set)/night.safetensors"
            let (made, expected) = (
                FileManager.default.contents(atPath: adapter),
                FileManager.default.contents(atPath: place.path("whole.safetensors"))
            )
            #expect(made != nil && made == expected)
            for name in ["index.html", "losses.png", "train.jsonl", "result.json"] {
                #expect(FileManager.default.fileExists(atPath: "\(set)/\(name)"), "\(name)")
            }
            #expect(try place.dreamcache("verify").status == 0)
            #expect(daemon.stop() == 0)

            // The set's file as a model's adapter.
            let configuration = try String(contentsOfFile: place.path("config.yaml"), encoding: .utf8)
            _ = try place.write(
                "config.yaml",
                configuration.replacing(
                    "adapter: \(Golden.path("cross_attention-199999.pt"))", with: "adapter: \(adapter)"))
            let photos = place.folder.appendingPathComponent("photos")
            try FileManager.default.createDirectory(at: photos, withIntermediateDirectories: true)
            try FileManager.default.copyItem(
                at: place.folder.appendingPathComponent("data/object 0/0_generation.png"),
                to: photos.appendingPathComponent("a.png"))
            let job = try place.write(
                "render.json", #"{"subject": "toy", "prompt": "a square", "steps": 2, "seed": 1}"#)
            let rendered = try place.dreamcache(
                "render", job, "--references", photos.path, "--out", place.path("rendered"))
            #expect(rendered.status == 0, "\(rendered.errors)")
            #expect(FileManager.default.fileExists(atPath: place.path("rendered/0000.png")))
        }

        /// All faults of a data set are said at once, in the words of its owner.
        @Test func faultsOfADataSetEndTheJob() throws {
            let place = try Workplace()
            try place.writeTrainingData()
            try FileManager.default.removeItem(atPath: place.path("data/object 1/0_caption.txt"))
            try FileManager.default.removeItem(atPath: place.path("data/object 0/1_caption.txt"))
            let daemon = try place.startDaemon()
            try dropDataset(place, "toys")
            try place.drop(manifest, as: "jobs/night.json")
            let wrong = String(decoding: manifest, as: UTF8.self).replacing(
                "\"steps\": 6", with: "\"steps\": 0, \"pace\": 1")
            try place.drop(Data(wrong.utf8), as: "jobs/wrong.json")
            let refused = try place.dreamcache("wait", "wrong")
            #expect(refused.status == 4)
            #expect(refused.output.contains("$.settings.steps") && refused.output.contains("$.settings.pace"))
            let waited = try place.dreamcache("wait", "night")
            #expect(waited.status == 1)
            let text = waited.output + waited.errors
            #expect(text.contains("object 1/0_caption.txt: found no readable caption"), "\(text)")
            #expect(text.contains("object 0/1_caption.txt: found no readable caption"), "\(text)")
            #expect(!text.contains("/lib/datasets/"))
            #expect(daemon.stop() == 0)
        }
    }
}
