import ArgumentParser
import Foundation
import Spool

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
