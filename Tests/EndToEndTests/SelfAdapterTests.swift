import Foundation
import Golden
import Testing

/// Bases without an adapter in the daemon: they read subjects by themselves, and every answer says so.
@Suite(.serialized) struct SelfAdapterTests {
    @Test func basesOfBothLayoutsReadSubjectsThemselves() throws {
        let place = try Workplace()
        let bases = ["sd1", "sd2"]
        let models = bases.map { "  \($0):\n    checkpoint: \(Family($0).folder)\n" }.joined()
        let yaml = try String(contentsOfFile: place.path("config.yaml"), encoding: .utf8)
        _ = try place.write(
            "config.yaml", yaml.replacingOccurrences(of: "models:\n", with: "model: sd1\nmodels:\n" + models))
        #expect(try place.dreamcache("doctor").output.contains("model sd1 adapter: self (weight"))

        let daemon = try place.startDaemon()
        let picture = try Data(contentsOf: URL(fileURLWithPath: Golden.path("reference.png")))
        try place.drop(picture, as: "references/bag.png")
        for base in bases {
            let manifest = """
                {"subject": "bag", "prompt": "a backpack", "seed": 5, "num_inference_steps": 2, "model": "\(base)",
                 "output": {"grid": true}}
                """
            try place.drop(Data(manifest.utf8), as: "jobs/\(base).json")
            let done = try place.dreamcache("wait", base, "--timeout", "60")
            #expect(done.status == 0, "\(done.errors)")
            let set = done.output.trimmingCharacters(in: .whitespacesAndNewlines)
            let result = try String(contentsOfFile: "\(set)/result.json", encoding: .utf8)
            #expect(result.contains("self (weight"))
            // The first manifest may have waited for its subject; its receipt was then written anew.
            #expect(base == bases[0] || place.receipt("\(base).json").contains("(self)"))
            #expect(try place.dreamcache("list").output.contains(base))
            let program = Workplace.programs.appendingPathComponent("dreamcache").path
            #expect(try Workplace.run(program, ["inspect", "\(set)/0000.png"]).output.contains("self (weight"))
            #expect(FileManager.default.fileExists(atPath: "\(set)/grid.png"))
        }
        #expect(daemon.stop() == 0)
        #expect(try place.dreamcache("verify").status == 0)
    }
}
