import Application
import ArgumentParser
import Foundation
import Spool

/// The page of the spool, or of a set.
struct OpenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "open", abstract: "Print the path of the spool's page, or of a set's, and open it on a desktop.",
        discussion: "Where DISPLAY or WAYLAND_DISPLAY is set, xdg-open is asked to show it.")

    @Argument(help: "A job's id, or the name it was dropped under; the spool itself when not given.")
    var job: String?

    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Only print the path.")
    var print = false

    func run() throws {
        try Terminal.run {
            let (client, settings) = try configuration.client()
            let id = try job.map { try client.job(named: $0) }
            guard let page = try onSpool({ () throws(SpoolError) in try client.page(of: id) }) else {
                throw Failure(code: .failed, message: Self.missing(job, id, settings).printable)
            }
            Terminal.result(page)
            if !print { try Self.show(page) }
        }
    }

    private static func missing(_ job: String?, _ id: JobID?, _ settings: Settings) -> String {
        let root = settings.spool.root
        if let job, let id {
            return
                "\(job): found no \(root)/out/\(id)/index.html, expected it once the set is finished, if spool.pages is true"
        }
        return "found no \(root)/index.html, expected it where a daemon has run and spool.pages is true"
    }

    private static func show(_ page: String) throws {
        let environment = ProcessInfo.processInfo.environment
        guard ["DISPLAY", "WAYLAND_DISPLAY"].contains(where: { environment[$0]?.isEmpty == false }) else { return }
        let folders = (environment["PATH"] ?? "").split(separator: ":")
        guard let program = folders.map({ "\($0)/xdg-open" }).first(where: FileManager.default.isExecutableFile) else {
            return Terminal.note("dreamcache: found no xdg-open, expected it to show the page")
        }
        let opener = Process()
        opener.executableURL = URL(fileURLWithPath: program)
        opener.arguments = [page]
        opener.standardOutput = FileHandle.nullDevice
        do { try opener.run() } catch {
            throw Failure(code: .failed, message: "\(program): \(error.localizedDescription)")
        }
        opener.waitUntilExit()
        guard opener.terminationStatus == 0 else {
            throw Failure(code: .failed, message: "\(program): found exit code \(opener.terminationStatus), expected 0")
        }
    }
}
