import ArgumentParser
import Foundation
import Application
import Spool

extension ConfigurationOptions {
    /// The spool of the configuration, and the configuration.
    func client() throws -> (SpoolClient, Settings) {
        let settings = try settings()
        let client = try onSpool { () throws(SpoolError) in try SpoolClient(root: settings.spool.root) }
        return (client, settings)
    }
}

extension ConfigurationOptions {
    /// Asks the daemon for something about a job, and prints the name under which the answer will be found.
    fileprivate func request(
        _ job: String, _ ask: (SpoolClient, JobID) throws(SpoolError) -> String
    ) throws {
        try Terminal.run {
            let (client, _) = try client()
            let id = try client.job(named: job)
            Terminal.result(try onSpool { () throws(SpoolError) in try ask(client, id) })
        }
    }
}

/// Runs work on the spool; its errors become the program's.
func onSpool<R>(_ work: () throws(SpoolError) -> R) throws -> R {
    do { return try work() } catch {
        throw Failure(code: Failure.Code(rawValue: error.exitCode) ?? .failed, message: "\(error)".printable)
    }
}

/// Blocks until a job has ended.
struct WaitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wait", abstract: "Wait until a job or drop has ended, and print where its set is.",
        discussion: "Exit codes: 0 done, 1 failed, 3 quarantined, 4 rejected, 5 unknown, 75 timed out or no daemon.")

    @Argument(help: "A job's id, or the name something was dropped under.")
    var name: String

    @Option(help: "Seconds to wait at most; without limit when not given.")
    var timeout: Double?

    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try Terminal.run {
            try Self.wait(for: name, try configuration.client().0, timeout: timeout, json: json)
        }
    }

    static func wait(for name: String, _ client: SpoolClient, timeout: Double?, json: Bool) throws {
        let outcome = try onSpool { () throws(SpoolError) in
            try client.wait(for: name, timeout: timeout) { standing in
                Terminal.progress(StandingText(standing).text)
            }
        }
        Terminal.endProgress()
        let description = StandingText(.ended(outcome))
        if json { Terminal.result(description.json) } else { Terminal.result(description.text) }
        if outcome.exitCode != 0 { throw ExitCode(outcome.exitCode) }
    }
}

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

/// The jobs of the spool.
struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List jobs, oldest first.")

    @Option(
        name: .customLong("state"),
        help: "Only jobs in this state: \(JobState.allCases.map(\.rawValue).joined(separator: ", ")).",
        completion: .list(JobState.allCases.map(\.rawValue)))
    var states: [String] = []

    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let wanted = try states.map { name in
            guard let state = JobState(rawValue: name) else {
                let known = JobState.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("--state: found '\(name)', expected one of \(known)")
            }
            return state
        }
        try Terminal.run {
            let (client, _) = try configuration.client()
            let jobs = try onSpool { () throws(SpoolError) in
                try client.list(wanted.isEmpty ? JobState.allCases : wanted)
            }
            if json {
                Terminal.result(.array(jobs.map(\.json)))
            } else {
                for job in jobs { Terminal.result(job.line) }
            }
        }
    }
}

/// Ends a job.
struct CancelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cancel", abstract: "Ask the daemon to end a job; what the job has made so far is kept with it.")

    @Argument(help: "The job's id, or the name it was dropped under.")
    var job: String

    @OptionGroup var configuration: ConfigurationOptions

    func run() throws {
        try configuration.request(job) { client, id throws(SpoolError) in try client.cancel(id) }
    }
}

/// Queues a job again.
struct RetryCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retry", abstract: "Ask the daemon to queue a failed or quarantined job again.")

    @Argument(help: "The job's id, or the name it was dropped under.")
    var job: String

    @OptionGroup var configuration: ConfigurationOptions

    func run() throws {
        try configuration.request(job) { client, id throws(SpoolError) in try client.retry(id) }
    }
}

extension SpoolClient {
    /// A job by its id or by the name it was dropped under.
    func job(named name: String) throws -> JobID {
        if let id = JobID(name), try onSpool({ () throws(SpoolError) in try summary(id) }) != nil { return id }
        let found = try onSpool { () throws(SpoolError) in try standing(of: name) }
        switch found {
        case .working(let summary): return summary.id
        case .ended(.done(let id, _)), .ended(.failed(let id, _)), .ended(.quarantined(let id, _)): return id
        case .unknown: throw Failure(code: .unknownJob, message: "\(name.printable): not known")
        case .dropped, .waiting, .ended: throw Failure(code: .unknownJob, message: "\(name.printable): no job (yet)")
        }
    }
}
