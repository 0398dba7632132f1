import ArgumentParser
import Foundation
import Spool

/// Shows the state of the daemon, or of one job or drop.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show the state of the daemon, or of one job or drop.")

    @Argument(help: "A job's id, or the name something was dropped under; the daemon itself when not given.")
    var name: String?

    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try Terminal.run {
            let (client, _) = try configuration.client()
            guard let name else { return try daemon(client) }
            let standing = try onSpool { () throws(SpoolError) in try client.standing(of: name) }
            if standing == .unknown { throw Failure(code: .unknownJob, message: "\(name.printable): not known") }
            let description = StandingText(standing)
            if json { Terminal.result(description.json) } else { Terminal.result(description.text) }
        }
    }

    private func daemon(_ client: SpoolClient) throws {
        let isRunning = try onSpool { () throws(SpoolError) in try client.isDaemonRunning() }
        let status = try onSpool { () throws(SpoolError) in try client.status() }
        if json {
            Terminal.result(.object(["running": .bool(isRunning), "status": status]))
        } else {
            let jobs =
                status?["jobs"]?.members?.map { "\($0.value.integer ?? 0) \($0.name)" }.joined(separator: ", ") ?? ""
            Terminal.result(isRunning ? "running: \(status?["state"]?.string ?? "starting")" : "not running")
            if !jobs.isEmpty { Terminal.result(jobs) }
            for waiting in status?["waiting"]?.array ?? [] {
                Terminal.result("\(waiting["job"]?.string ?? ""): \(waiting["reason"]?.string ?? "")".printable)
            }
            if let message = status?["message"]?.string { Terminal.result(message.printable) }
        }
        if !isRunning { throw ExitCode(Failure.Code.temporary.rawValue) }
    }
}
