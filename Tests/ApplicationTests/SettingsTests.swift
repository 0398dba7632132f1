import Foundation
import Testing

@testable import Application

/// What a reload takes.
@Suite struct SettingsTests {
    private func settings(_ yaml: String) throws -> Settings {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("settings-\(UUID().uuidString).yaml")
        try Data(yaml.utf8).write(to: path)
        defer { try? FileManager.default.removeItem(at: path) }
        return try Settings(file: path.path, environment: [:])
    }

    @Test func changesAreNamedAndSayWhetherTheyAreLive() throws {
        let old = try settings(
            "spool:\n  path: /a\nthreads: 2\nmodels:\n  m:\n    checkpoint: /m\n    clip_skip: 1\n")
        #expect(old.changes(from: old) == ([], []))
        let new = try settings(
            "spool:\n  path: /b\n  watch: poll\nthreads: 3\nlog_level: debug\nmodels:\n  m:\n    checkpoint: /n\n")
        let changes = new.changes(from: old)
        #expect(changes.atStart == ["spool.path"])
        #expect(
            changes.live == ["log_level", "models.m.checkpoint", "models.m.clip_skip", "spool.watch", "threads"])
    }

    @Test(arguments: [("3.5G", 3_758_096_384), ("800M", 838_860_800), ("1t", 1 << 40)])
    func sizesAreRead(_ text: String, _ bytes: Int) throws {
        #expect(try settings("memory_limit: \(text)\n").memoryLimit == bytes)
    }

    @Test(arguments: ["3.5", "G", "-1G", "nanG", "infG", "12M", "1e300G", "4 GB"])
    func otherSizesAreRefusedByName(_ text: String) throws {
        let error = #expect(throws: SettingsError.self) { try settings("memory_limit: \(text)\n") }
        #expect(error?.key == "memory_limit" && error?.expected.contains("3.5G") == true)
    }

    @Test func encodersHaveNamesAndPaths() throws {
        let read = try settings("encoders:\n  clip: /m/clip\n  dino-s8: dino\n").encoders
        #expect(read["clip"] == "/m/clip" && read["dino-s8"]?.hasSuffix("/dino") == true)
        for name in ["text", "subject", "both", "..x"] {
            let error = #expect(throws: SettingsError.self) { try settings("encoders:\n  \"\(name)\": /m/clip\n") }
            #expect(error?.description.contains(name) == true)
        }
    }

    /// The documented file has every key, with how a reload takes it.
    @Test func theShippedFileSaysOfEachSettingHowItIsTaken() throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("etc/dreamcached.yaml")
        let lines = try String(contentsOf: path, encoding: .utf8).split(separator: "\n")
        for key in SettingKey.all where !key.name.hasPrefix("models.") {
            let name = key.name.split(separator: ".").last { $0 != "*" }.map(String.init) ?? ""
            let line = lines.first {
                $0.trimmingCharacters(in: ["#", " "]).hasPrefix("\(name):") && $0.contains("[")
            }
            let mark = try #require(line, "\(key.name)")
            #expect(mark.contains(key.isLive ? "[live]" : "[restart]"), "\(mark)")
        }
    }
}
