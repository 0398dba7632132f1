import ArgumentParser
import Foundation
import Spool

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
