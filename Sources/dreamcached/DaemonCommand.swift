import ArgumentParser
import DreamCache
import Foundation
import Glibc
import Logging
import Application
import Spool
import Synchronization
import TensorEngine

/// The daemon: reads its configuration, opens the spool, and works until it is told to stop.
@main
struct DaemonCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dreamcached",
        abstract: "Watch a spool: dropped photos become caches, dropped manifests become sets of images or adapters.",
        discussion: """
            Stays in the foreground and logs to standard error, as systemd wants it.

            Signals: at SIGTERM or SIGINT the daemon takes no more drops, keeps a checkpoint of the image or training at work, and \
            ends with 0 within 20 seconds. A second one ends it at once. At SIGHUP it reads the configuration again and \
            takes it over; a wrong one is refused, and the old one stays. The log says which settings were taken, and \
            which wait for a restart.

            Exit codes: 0 stopped, 64 usage, 74 the storage can no longer be trusted, 75 the spool is locked by another \
            daemon, 78 bad configuration or spool layout.
            """,
        version: Version.current)

    @Option(
        help: "Configuration file. Without it, /etc/dreamcache/dreamcached.yaml is read, or else etc/dreamcached.yaml.",
        completion: .file(extensions: ["yaml", "yml"]))
    var config: String?

    @Option(help: "Path of the spool, in place of the configured one.", completion: .directory)
    var spool: String?

    static func main() {
        ConfinedDecoder.serveIfAsked()
        LibraryEnvironment.settle()
        // A reader of our output that goes away must not end the daemon.
        signal(SIGPIPE, SIG_IGN)
        // A limit on the size of files (LimitFSIZE=, ulimit -f) is an error of the write that meets it.
        signal(SIGXFSZ, SIG_IGN)
        main(nil)
    }

    func run() throws {
        let settings: Settings
        do { settings = try load() } catch {
            StandardError.write("dreamcached: \(error)\n")
            throw ExitCode(78)
        }
        StructuredLog.level = settings.logLevel
        LoggingSystem.bootstrap { StructuredLog(label: $0) }
        defer { LogSink.standardError.flush() }
        let logger = Logger(label: "daemon")
        logger.notice(
            "starting",
            metadata: [
                "version": "\(Version.current)", "spool": "\(settings.spool.root)",
                "compute": "\(settings.compute.rawValue)",
                "models": "\(settings.models.keys.sorted().joined(separator: " "))",
            ])

        let started = settings
        let last = Mutex(settings)
        let notifier = SystemNotifier.fromEnvironment()
        let runner = JobRunner(settings)
        let daemon = SpoolDaemon(
            configuration: settings.spool, renderer: runner, watcher: .inotify,
            hooks: .systemd(notifier), logger: Logger(label: "spool"))
        let reload: @Sendable () -> Void = {
            notifier.sendReloading()
            do {
                let settings = try self.load()
                runner.reload(settings)
                daemon.reload(configuration: settings.spool)
                StructuredLog.level = settings.logLevel
                // What waits for a start is compared with what this start took.
                let changes = settings.changes(from: last.withLock { $0 })
                let waiting = settings.changes(from: started).atStart
                last.withLock { $0 = settings }
                logger.notice(
                    "configuration reloaded",
                    metadata: [
                        "taken": "\(changes.live.isEmpty ? "nothing" : changes.live.joined(separator: " "))",
                        "waiting_for_restart": "\(waiting.isEmpty ? "nothing" : waiting.joined(separator: " "))",
                    ])
            } catch {
                logger.error("configuration not reloaded, the old one stays", metadata: ["error": "\(error)"])
                // After a reload that succeeds the daemon says so itself, once the configuration is in force.
                notifier.send("READY=1")
            }
        }
        let stop: @Sendable () -> Void = {
            logger.notice("stopping")
            daemon.requestStop()
        }
        do throws(SpoolError) {
            try SignalThread.start(stop: stop, reload: reload)
            try daemon.run()
        } catch {
            logger.critical("ending", metadata: ["error": "\(error)"])
            throw ExitCode(error.exitCode)
        }
    }

    private func load() throws(SettingsError) -> Settings {
        var overrides: [String: String] = [:]
        overrides["spool.path"] = spool
        var settings = try Settings(file: config, overrides: overrides)
        if let interval = SystemNotifier.watchdogInterval() {
            settings.spool.aliveInterval = min(settings.spool.aliveInterval, interval)
        }
        return settings
    }
}
