import Application
import ArgumentParser
import Foundation
import Glibc
import Spool

/// The queue, live.
struct WatchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "watch",
        abstract: "Watch the queue: the job at work, with progress and time left, and the jobs that wait.",
        discussion: "Control-C ends it. Where the output is no terminal, the view is printed once.")

    @Option(help: "Seconds between two views.")
    var interval = 0.5

    @Option(help: "How pictures in the making are shown: auto, kitty, iterm2, sixel, blocks or none.")
    var pictures = "auto"

    @OptionGroup var configuration: ConfigurationOptions

    func validate() throws {
        guard pictures == "auto" || TerminalPicture.Way(rawValue: pictures) != nil else {
            let known = TerminalPicture.Way.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("--pictures: found '\(pictures)', expected auto or one of \(known)")
        }
    }

    func run() throws {
        try Terminal.run {
            Interruption.listen()
            let (client, _) = try configuration.client()
            let isLive = isatty(STDOUT_FILENO) == 1
            let way = TerminalPicture.Way(rawValue: pictures) ?? .known()
            repeat {
                let (view, preview) = try Self.view(client)
                if isLive {
                    // The cursor goes home; each line is cleared to its end, then everything below.
                    let columns = TerminalLine.columns() ?? .max
                    let lines = view.flatMap { TerminalLine.wrapped($0.printable, columns: columns) }
                        .map { $0 + "\u{1B}[K" }.joined(separator: "\n")
                    // The picture comes last: what it covers is not written again.
                    let picture = way == .none ? nil : preview.flatMap { TerminalPicture(png: $0) }
                    print("\u{1B}[H" + lines + "\n\u{1B}[J" + (picture?.text(way) ?? ""), terminator: "")
                    fflush(nil)
                    usleep(UInt32(max(0.1, min(interval, 60)) * 1e6))
                } else {
                    view.forEach(Terminal.result)
                }
            } while isLive && !Interruption.isRequested
        }
    }

    /// The lines of a view, and the picture in the making as a PNG.
    private static func view(_ client: SpoolClient) throws -> (lines: [String], preview: [UInt8]?) {
        let (isRunning, status, active, open, ended) = try onSpool { () throws(SpoolError) in
            (
                try client.isDaemonRunning(), try client.status(), try client.extract([.active], first: 20).jobs,
                try client.extract([.retry, .queued], first: 20),
                try client.extract([.done, .failed, .quarantine], last: 5).jobs
            )
        }
        var lines = ["dreamcached \(isRunning ? status?["state"]?.string ?? "starting" : "is not running")"]
        if let message = status?["message"]?.string { lines.append(message) }
        lines.append("")
        let waiting = Dictionary(
            (status?["waiting"]?.array ?? []).map { ($0["job"]?.string ?? "", $0["reason"]?.string ?? "") },
            uniquingKeysWith: { first, _ in first })
        for job in active + open.jobs {
            lines.append(job.line + (job.reason == nil ? waiting[job.id.text].map { ": \($0)" } ?? "" : ""))
        }
        if open.count > open.jobs.count { lines.append("and \(open.count - open.jobs.count) more") }
        if active.isEmpty, open.count == 0 { lines.append("nothing queued") }
        lines.append("")
        for job in ended { lines.append(job.line) }
        let preview = active.first?.progress?["preview"]?.string.flatMap { Data(base64Encoded: $0) }
        return (lines, preview.map { [UInt8]($0) })
    }
}
