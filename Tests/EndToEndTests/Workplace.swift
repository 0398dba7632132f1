import Foundation
import Golden
import Synchronization

/// A folder with a configuration, a spool and the tiny golden model, and the programs to run in it.
final class Workplace: Sendable {
    let folder: URL

    /// - Parameters:
    ///   - configuration: further lines of the YAML file.
    ///   - checkpoint: the path of the model's, which may be made in the place's folder.
    init(
        configuration: String = "", checkpoint: (_ folder: URL) throws -> String = { _ in Golden.path("tiny-sd2.ckpt") }
    ) throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("dreamcache-e2e-\(UUID().uuidString)")
        try FileManager.default.createDirectory(
            at: folder.appendingPathComponent("spool"), withIntermediateDirectories: true)
        let yaml = """
            spool:
              path: \(folder.path)/spool
              settle_seconds: 1
              status_seconds: 0.1
              checkpoint_seconds: 0
              min_free_megabytes: 0
            models:
              tiny:
                checkpoint: \(try checkpoint(folder))
                yaml: \(Golden.path("tiny-sd2.yaml"))
                adapter: \(Golden.path("cross_attention-199999.pt"))
            compute: onednn-fp32
            threads: 1
            cache:
              seed: 1234
              fit: squash
              background: keep
            \(configuration)
            """
        try Data(yaml.utf8).write(to: folder.appendingPathComponent("config.yaml"))
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

    /// Writes a file and returns its path.
    func write(_ name: String, _ text: String) throws -> String {
        try Data(text.utf8).write(to: folder.appendingPathComponent(name))
        return path(name)
    }

    /// Writes under a hidden name in the destination's folder, then renames: how a careful script drops a file.
    func drop(_ data: Data, as name: String) throws {
        let target = folder.appendingPathComponent("spool/drop/\(name)")
        let hidden = target.deletingLastPathComponent().appendingPathComponent(".\(UUID().uuidString)")
        try data.write(to: hidden)
        try FileManager.default.moveItem(at: hidden, to: target)
    }

    /// Whether the long versions of campaigns are run.
    static let isFullCampaign = ProcessInfo.processInfo.environment["DREAMCACHE_CAMPAIGN"] == "full"

    /// The part of a long campaign's cases that `DREAMCACHE_SHARE` names, such as `2/5`; all of them without it. The parts
    /// together are the whole, so that a campaign may be run bit by bit.
    static func share<Case>(of cases: [Case]) -> [Case] {
        let words = (ProcessInfo.processInfo.environment["DREAMCACHE_SHARE"] ?? "").split(separator: "/")
        guard let number = words.first.flatMap({ Int($0) }), let count = words.last.flatMap({ Int($0) }),
            (1...max(1, count)).contains(number)
        else { return cases }
        return cases.enumerated().filter { $0.offset % count == number - 1 }.map(\.element)
    }

    /// The library that makes things happen at exact moments in a program it is preloaded into.
    static let faultShim = build.appendingPathComponent("libFaultShim.so").path

    /// Where this build is.
    private static let build = URL(
        fileURLWithPath: (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "."
    ).deletingLastPathComponent()

    /// Where the programs are: this build's, or those of the folder that DREAMCACHE_PROGRAMS names.
    static let programs =
        ProcessInfo.processInfo.environment["DREAMCACHE_PROGRAMS"].map { URL(fileURLWithPath: $0) } ?? build

    struct Result {
        let status: Int32
        let output: String
        let errors: String
    }

    /// Runs the command line with this configuration and waits for its end.
    @discardableResult
    func dreamcache(_ arguments: String...) throws -> Result {
        try Self.run(
            Self.programs.appendingPathComponent("dreamcache").path, arguments + ["--config", path("config.yaml")])
    }

    /// Runs a program and waits for its end.
    static func run(_ program: String, _ arguments: [String]) throws -> Result {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        let (output, errors) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = FileHandle.nullDevice
        try process.run()
        // Both pipes are read to their ends, so that neither fills up.
        let errorText = Mutex(Data())
        let reader = Thread { errorText.withLock { $0 = errors.fileHandleForReading.readDataToEndOfFile() } }
        reader.start()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        while reader.isExecuting { usleep(1000) }
        return Result(
            status: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
            errors: String(decoding: errorText.withLock { $0 }, as: UTF8.self))
    }

    /// Starts the daemon and returns when it holds the spool's lock and has made its folders.
    func startDaemon(environment: [String: String] = [:]) throws -> Daemon {
        let daemon = try Daemon(configuration: path("config.yaml"), log: path("daemon.log"), environment: environment)
        try eventually("the daemon runs") { try self.dreamcache("status").output.hasPrefix("running: idle") }
        return daemon
    }

    /// Waits until something another process does has happened.
    func eventually(_ what: String, within seconds: Double = 60, _ condition: () throws -> Bool) throws {
        let end = Date().addingTimeInterval(seconds)
        while try !condition() {
            guard Date() < end else {
                throw Timeout(what: what, log: (try? String(contentsOfFile: path("daemon.log"), encoding: .utf8)) ?? "")
            }
            usleep(20_000)
        }
    }

    struct Timeout: Error {
        let what: String, log: String

        /// - Parameter log: its end is kept.
        init(what: String, log: String) { (self.what, self.log) = (what, String(log.suffix(8000))) }
    }

    /// The receipt of a drop as text; empty while there is none.
    func receipt(_ drop: String) -> String {
        (try? String(contentsOfFile: path("spool/receipts/\(drop).json"), encoding: .utf8)) ?? ""
    }

    /// The bytes of the images of a published set, in order.
    func images(_ set: String) throws -> [Data] {
        try FileManager.default.contentsOfDirectory(atPath: set).filter { $0.hasSuffix(".png") }.sorted()
            .map { try Data(contentsOf: URL(fileURLWithPath: set).appendingPathComponent($0)) }
    }
}

/// A running dreamcached.
final class Daemon: @unchecked Sendable {
    private let process = Process()

    /// - Parameters:
    ///   - user: whose process it is to be, by number; nil means the tests' own.
    ///   - prefix: a program, and its arguments, that the daemon is to be started by.
    init(
        configuration: String, log: String, environment: [String: String], user: Int? = nil, prefix: [String] = []
    ) throws {
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        let program = Workplace.programs.appendingPathComponent("dreamcached")
        let asUser = user.map { ["/usr/bin/setpriv", "--reuid=\($0)", "--regid=\($0)", "--clear-groups"] } ?? []
        let command = asUser + prefix + [program.path, "--config", configuration]
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = Array(command.dropFirst())
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardError = FileHandle(forWritingAtPath: log)
        process.standardInput = FileHandle.nullDevice
        try process.run()
    }

    deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

    /// Its process.
    var pid: Int32 { process.processIdentifier }

    /// Ends it as a power cut would.
    func kill9() {
        signal(SIGKILL)
        _ = exitStatus()
    }

    /// Sends a signal.
    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// Asks it to stop and returns its exit status.
    func stop() -> Int32 {
        signal(SIGTERM)
        return exitStatus()
    }

    /// Whether it lives.
    var isRunning: Bool { process.isRunning }

    /// Waits for its end and returns its exit status, or minus the signal that ended it: SIGKILL where a minute was not
    /// enough for it.
    func exitStatus() -> Int32 {
        let end = Date().addingTimeInterval(60)
        while process.isRunning {
            if Date() > end { signal(SIGKILL) }
            usleep(5_000)
        }
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }
}
