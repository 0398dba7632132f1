import ArgumentParser
import Foundation
import Spool

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
