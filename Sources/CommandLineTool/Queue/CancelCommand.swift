import ArgumentParser
import Foundation
import Spool

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
