import ArgumentParser
import Foundation
import Glibc
import Spool

/// The queue, live.
struct WatchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "watch",
        abstract: "Watch the queue: what is at work, with progress and time left, and what waits.",
        discussion: "Ends with Control-C. Where the output is no terminal, one view is printed.")

    @Option(help: "Seconds between two views.")
    var interval = 0.5

    @OptionGroup var configuration: ConfigurationOptions

    func run() throws {
        try Terminal.run {
            Interruption.listen()
            let (client, _) = try configuration.client()
            let isLive = isatty(STDOUT_FILENO) == 1
            repeat {
                let view = try Self.view(client)
                if isLive {
                    // Home, each line cleared to its end, then whatever was below.
                    let lines = view.map { $0.printable + "\u{1B}[K" }.joined(separator: "\n")
                    FileHandle.standardOutput.write(Data(("\u{1B}[H" + lines + "\n\u{1B}[J").utf8))
                    usleep(UInt32(max(0.1, min(interval, 60)) * 1e6))
                } else {
                    view.forEach(Terminal.result)
                }
            } while isLive && !Interruption.isRequested
        }
    }

    private static func view(_ client: SpoolClient) throws -> [String] {
        let (isRunning, status, open, ended) = try onSpool { () throws(SpoolError) in
            (
                try client.isDaemonRunning(), try client.status(), try client.list([.active, .retry, .queued]),
                try client.list([.done, .failed, .quarantine])
            )
        }
        var lines = ["dreamcached \(isRunning ? status?["state"]?.string ?? "starting" : "is not running")"]
        if let message = status?["message"]?.string { lines.append(message) }
        lines.append("")
        let waiting = Dictionary(
            (status?["waiting"]?.array ?? []).map { ($0["job"]?.string ?? "", $0["reason"]?.string ?? "") },
            uniquingKeysWith: { first, _ in first })
        for job in open.prefix(20) {
            lines.append(job.line + (waiting[job.id.text].map { " (\($0))" } ?? ""))
        }
        if open.count > 20 { lines.append("and \(open.count - 20) more") }
        if open.isEmpty { lines.append("nothing queued") }
        lines.append("")
        for job in ended.suffix(5) { lines.append(job.line) }
        return lines
    }
}
