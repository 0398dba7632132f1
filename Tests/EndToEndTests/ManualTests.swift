import Foundation
import Testing

/// Man pages and completions, which `make install` makes of what the programs say of themselves.
@Suite struct ManualTests {
    private static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    private static let tool = repository.appendingPathComponent("Tools/manual/manual.py").path
    private static let hasPython = FileManager.default.isExecutableFile(atPath: "/usr/bin/python3")
    private static let hasMan = FileManager.default.isExecutableFile(atPath: "/usr/bin/man")

    /// A command as a program describes it.
    private struct Command: Decodable {
        struct Argument: Decodable {
            struct Name: Decodable { let kind: String, name: String }
            let names: [Name]?
            let abstract: String?
        }
        let commandName: String
        let arguments: [Argument]?
        let subcommands: [Command]?

        /// It and its commands with all of their names, `help` left out.
        var all: [(name: String, command: Command)] {
            var found = [(commandName, self)]
            for inner in subcommands ?? [] where inner.commandName != "help" {
                found += inner.all.map { ("\(commandName) \($0.name)", $0.command) }
            }
            return found
        }

        /// Its long options, `--help` left out.
        var options: [String] {
            var found: [String] = []
            for argument in arguments ?? [] {
                for name in argument.names ?? [] where name.kind == "long" && name.name != "help" {
                    found.append("--" + name.name)
                }
            }
            return found
        }
    }

    private static func description(of program: String) throws -> Command {
        struct Document: Decodable { let command: Command }
        let dump = try Workplace.run(path(program), ["--experimental-dump-help"])
        return try JSONDecoder().decode(Document.self, from: Data(dump.output.utf8)).command
    }

    private static func path(_ program: String) -> String {
        Workplace.programs.appendingPathComponent(program).path
    }

    @Test(
        .enabled(if: hasPython, "python3 is not installed"),
        arguments: [("dreamcache", "1", 15), ("dreamcached", "8", 1)])
    func everyCommandAndOptionIsInTheManPage(program: String, section: String, leastCommands: Int) throws {
        let place = try Workplace()
        let file = place.path("\(program).\(section)")
        let script = #"set -o pipefail; "$0" --experimental-dump-help | "$1" "$2" other.1 > "$3""#
        let made = try Workplace.run("/bin/bash", ["-c", script, Self.path(program), Self.tool, section, file])
        #expect(made.status == 0, "\(made.errors)")
        let page = try String(contentsOfFile: file, encoding: .utf8).replacingOccurrences(of: #"\-"#, with: "-")
        #expect(page.contains(".TH \(program.uppercased()) \(section)"))
        let commands = try Self.description(of: program).all
        #expect(commands.count >= leastCommands)
        for (name, command) in commands.dropFirst() {
            let parts = page.components(separatedBy: ".SS \"\(name)\"\n")
            #expect(parts.count == 2, "\(name)")
            let own = parts.last?.components(separatedBy: ".SS ").first ?? ""
            for option in command.options where option != "--version" {
                #expect(own.contains("\n.TP\n\\fB\(option)\\fR"), "\(name) \(option)")
            }
        }
        for option in try Self.description(of: program).options { #expect(page.contains("\\fB\(option)\\fR")) }
        guard Self.hasMan else { return }
        let shown = try Workplace.run(
            "/usr/bin/env", ["LC_ALL=C.UTF-8", "MANWIDTH=80", "man", "--warnings", "-l", file])
        #expect(shown.status == 0 && shown.errors == "", "\(shown.errors)")
        #expect(shown.output.contains("SEE ALSO"))
    }

    @Test func everyCommandIsInTheReadme() throws {
        let readme = try String(contentsOf: Self.repository.appendingPathComponent("README.md"), encoding: .utf8)
        let rows = readme.split(separator: "\n").filter { $0.hasPrefix("| `") }.joined()
        let commands = try Self.description(of: "dreamcache").all.map { $0.name.dropFirst("dreamcache ".count) }
        // Of `adapter` and `adapter create` the longer is in the table.
        for name in commands where !name.isEmpty {
            #expect(rows.contains("`\(name)`") || rows.contains("`\(name) "), "\(name)")
        }
    }

    @Test(arguments: ["bash", "zsh", "fish"], ["dreamcache", "dreamcached"])
    func everyCommandIsCompleted(shell: String, program: String) throws {
        let script = try Workplace.run(Self.path(program), ["--generate-completion-script", shell])
        #expect(script.status == 0, "\(script.errors)")
        for (_, command) in try Self.description(of: program).all {
            #expect(script.output.contains(command.commandName))
            for option in command.options {
                let name = shell == "fish" ? String(option.dropFirst(2)) : option
                #expect(script.output.contains(name), "\(command.commandName) \(option)")
            }
        }
        guard shell == "bash" else { return }
        let place = try Workplace()
        let checked = try Workplace.run("/bin/bash", ["-n", try place.write("completion", script.output)])
        #expect(checked.status == 0 && checked.errors == "", "\(checked.errors)")
    }
}
