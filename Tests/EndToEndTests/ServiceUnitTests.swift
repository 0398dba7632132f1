import Foundation
import Testing

/// The systemd unit, as systemd's own tools judge it (systemd 252 of Debian 12).
@Suite struct ServiceUnitTests {
    private static let unit = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("systemd/dreamcached.service")
    private static let tool = "/usr/bin/systemd-analyze"

    /// The unit with the path of a program that exists, so that nothing is left to complain of.
    private func installed(_ place: Workplace) throws -> String {
        let text = try String(contentsOf: Self.unit, encoding: .utf8)
            .replacingOccurrences(
                of: "/usr/bin/dreamcached", with: Workplace.programs.appendingPathComponent("dreamcached").path)
        return try place.write("dreamcached.service", text)
    }

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: tool), "systemd-analyze is not installed"))
    func verifyIsSilent() throws {
        let place = try Workplace()
        // Exit status 0 says little: systemd 252 only warns of what it ignores.
        let result = try Workplace.run(Self.tool, ["verify", try installed(place)])
        #expect(result.errors == "")
        #expect(result.status == 0)
        let wrong = try place.write(
            "wrong.service",
            try String(contentsOfFile: try installed(place), encoding: .utf8) + "\n[Service]\nType=notify-reload\n")
        #expect(try Workplace.run(Self.tool, ["verify", wrong]).errors.contains("notify-reload"))
    }

    /// The example of a drop-in is one that systemd understands, beside the unit that it is for.
    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: tool), "systemd-analyze is not installed"))
    func theMemoryExampleIsADropIn() throws {
        let place = try Workplace()
        let unit = try installed(place)
        let example = Self.unit.deletingLastPathComponent().appendingPathComponent(
            "dreamcached.service.d/memory.conf.example")
        let text = try String(contentsOf: example, encoding: .utf8)
        #expect(text.contains("MemoryMax="))
        let folder = place.folder.appendingPathComponent("dreamcached.service.d")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data(text.utf8).write(to: folder.appendingPathComponent("memory.conf"))
        #expect(try Workplace.run(Self.tool, ["verify", unit]).errors == "")
        try Data(text.replacingOccurrences(of: "5G", with: "5X").utf8).write(
            to: folder.appendingPathComponent("memory.conf"))
        #expect(try Workplace.run(Self.tool, ["verify", unit]).errors.contains("memory limit"))
        #expect(try String(contentsOf: Self.unit, encoding: .utf8).contains("\nTasksMax="))
    }

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: tool), "systemd-analyze is not installed"))
    func exposureIsSmall() throws {
        let place = try Workplace()
        let result = try Workplace.run(
            Self.tool, ["security", "--offline=true", "--no-pager", try installed(place)])
        let line = result.output.split(separator: "\n").last { $0.contains("Overall exposure level") }
        let level = try #require(line?.split(separator: ":").last?.split(separator: " ").first.flatMap { Double($0) })
        #expect(level <= 0.6)
    }
}
