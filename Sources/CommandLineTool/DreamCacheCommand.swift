import ArgumentParser
import DreamCache
import Application
import Glibc

/// The command line. Exit codes: 0 done, 1 failed, 3 quarantined, 4 rejected, 5 unknown job, 64 usage, 75 daemon down or
/// timed out, 78 bad configuration.
@main
struct DreamCacheCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dreamcache",
        abstract: "Personalised images from a few photos of a subject, on a CPU.",
        discussion: """
            Jobs run in the daemon, dreamcached, which watches a spool. submit, wait, status and list speak with it \
            through the spool's files alone. render and cache do the same work in the foreground, without a daemon.

            Exit codes: 0 done, 1 failed, 3 quarantined, 4 rejected, 5 unknown job, 64 usage, 75 daemon down or timed \
            out, 78 bad configuration.
            """,
        version: Version.current,
        groupedSubcommands: [
            CommandGroup(
                name: "Queue:", subcommands: queue),
            CommandGroup(
                name: "Foreground:",
                subcommands: [
                    RenderCommand.self, AttendCommand.self, CacheCommand.self, CutOutCommand.self, EvaluateCommand.self,
                ]),
            CommandGroup(name: "Training:", subcommands: [TrainCommand.self, DatasetCommand.self]),
            CommandGroup(
                name: "Files and machine:",
                subcommands: [
                    InspectCommand.self, ReplayCommand.self, ConvertCommand.self, AdapterCommand.self,
                    DoctorCommand.self,
                    SchemaCommand.self,
                    RandomModelCommand.self,
                    BenchCommand.self,
                ]),
        ])

    /// They speak with the daemon through files and compute nothing.
    private static let queue: [any ParsableCommand.Type] = [
        SubmitCommand.self, WaitCommand.self, StatusCommand.self, ListCommand.self, WatchCommand.self,
        CancelCommand.self, RetryCommand.self, OpenCommand.self, VerifyCommand.self,
    ]

    static func main() {
        ConfinedDecoder.serveIfAsked()
        Terminal.obeyClosedPipes()
        let arguments: [String]
        do { arguments = try GivenPaths.arguments() } catch {
            Terminal.note("dreamcache: \(error)")
            _exit(Failure.Code.usage.rawValue)
        }
        do {
            var command = try parseAsRoot(arguments)
            // Scripts call the commands of the queue often, and need not start them twice.
            if !queue.contains(where: { $0 == type(of: command) }) { LibraryEnvironment.settle() }
            try command.run()
        } catch { exit(withError: error) }
    }
}
