import ArgumentParser
import Foundation
import Application
import Spool
import Training

/// Drops a manifest, and its references where they are given.
struct SubmitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "submit", abstract: "Drop a manifest into the spool, and print the name it was dropped under.",
        discussion: "With --wait the command goes on as `dreamcache wait` does. Without it, no daemon needs to run.")

    @Argument(help: "The manifest, a JSON file; - reads standard input.", completion: .file(extensions: ["json"]))
    var manifest: String

    @Option(help: "Name of the drop; chosen by the command when not given.")
    var name: String?

    @Option(
        help: "Folder of photos, or one photo, to drop first; --subject names the subject.", completion: .file())
    var references: String?

    @Option(help: "Name of the subject of --references; the folder's name when not given.")
    var subject: String?

    @Flag(help: "Wait until the job has ended.")
    var wait = false

    @Option(help: "Seconds that --wait waits at most; without limit when not given.")
    var timeout: Double?

    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try Terminal.run {
            let (client, settings) = try configuration.client()
            let bytes: [UInt8]
            do { bytes = try ForegroundRun.read(manifest) } catch {
                throw Failure(code: .rejected, message: "\(manifest): \(error.localizedDescription)")
            }
            // The daemon would say the same, later.
            do { _ = try JobManifest.parse(bytes, settings: TrainingSettings.manifestSchema) } catch {
                throw Failure(code: .rejected, message: "\(manifest):\n\(error)")
            }
            if let references { try Self.drop(references, as: subject, spool: settings.spool.root) }
            let dropped = try onSpool { () throws(SpoolError) in try client.submit(manifest: bytes, name: name) }
            if wait {
                try WaitCommand.wait(for: dropped, client, timeout: timeout, json: json)
            } else if json {
                Terminal.result(.object(["drop": .string(dropped)]))
            } else {
                Terminal.result(dropped)
            }
        }
    }

    /// Copies pictures under a hidden name and renames them: whole, whenever the daemon looks. The copies are the group's,
    /// which is the daemon's where several users share the spool: photos may be private, what is dropped cannot be.
    private static func drop(_ references: String, as subject: String?, spool: String) throws {
        let source = GivenPaths.name(of: references).map { URL(fileURLWithPath: $0.printable) }
        let name = subject ?? source?.deletingPathExtension().lastPathComponent ?? "subject"
        guard DropName.isPlain(name) else {
            let suggestion = ReferenceNames.plain(name.utf8, fallback: "subject")
            throw Failure(
                code: .rejected,
                message: "\(references.printable): found the name '\(name.printable)', expected --subject NAME with "
                    + "letters, digits, '.', '_' or '-', for instance '\(suggestion)'")
        }
        let folder = URL(fileURLWithPath: spool).appendingPathComponent("drop/references")
        let hidden = folder.appendingPathComponent(".\(name).\(ProcessInfo.processInfo.processIdentifier).part")
        do {
            let unused = try PictureCopy.copy(references, into: hidden.path)
            if !unused.isEmpty { Terminal.note("not used: " + unused.joined(separator: ", ")) }
            try FileManager.default.moveItem(at: hidden, to: folder.appendingPathComponent(name))
        } catch {
            try? FileManager.default.removeItem(at: hidden)
            throw Failure(code: .failed, message: "\(references.printable): \("\(error)".printable)")
        }
    }
}
