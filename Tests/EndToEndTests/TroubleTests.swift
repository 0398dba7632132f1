import Foundation
import Golden
import Testing

extension DaemonTests {
    /// Trouble from outside: logs, pipes, files that change while they are in use.
    @Suite struct Trouble {
        /// rsync looks at a file again after it has closed it, and fails where it is gone by then.
        @Test func rsyncInPlaceFindsItsFileAgain() throws {
            let place = try Workplace()
            let daemon = try place.startDaemon()
            for number in 0..<5 {
                let name = "inplace-\(number).json"
                let file = try place.write(name, #"{"subject": "nobody", "prompt": "x", "seed": \#(number)}"#)
                let sent = try Workplace.run("/usr/bin/rsync", ["--inplace", file, place.path("spool/drop/jobs/")])
                #expect(sent.status == 0, "\(sent.errors)")
                try place.eventually("\(name) is answered") { !place.receipt(name).isEmpty }
                #expect(!place.receipt(name).contains("rejected"), "\(place.receipt(name))")
            }
            #expect(daemon.stop() == 0)
        }

        /// A daemon whose log nobody can read any more works on.
        @Test func aClosedLogCostsNothingButLines() throws {
            let place = try Workplace()
            let process = Process()
            process.executableURL = Workplace.programs.appendingPathComponent("dreamcached")
            process.arguments = ["--config", place.path("config.yaml")]
            let log = Pipe()
            process.standardError = log
            process.standardInput = FileHandle.nullDevice
            try process.run()
            defer { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }
            try log.fileHandleForWriting.close()
            try log.fileHandleForReading.close()
            try place.eventually("the daemon runs") { try place.dreamcache("status").output.hasPrefix("running: idle") }
            try DaemonTests().dropSubject("cat", place)
            try place.drop(Data(DaemonTests().manifest("cat").utf8), as: "jobs/a.json")
            #expect(try place.dreamcache("wait", "a", "--timeout", "120").status == 0)
            kill(process.processIdentifier, SIGTERM)
            process.waitUntilExit()
            #expect(process.terminationReason == .exit && process.terminationStatus == 0)
        }

        /// A limit on the size of files is the machine's trouble: what meets it waits, and goes on when it is lifted.
        @Test func aLimitOnTheSizeOfFilesHolds() throws {
            let place = try Workplace()
            let daemon = try Daemon(
                configuration: place.path("config.yaml"), log: place.path("daemon.log"), environment: [:],
                prefix: ["/bin/bash", "-c", #"ulimit -S -f 4; exec "$0" "$@""#])
            try place.eventually("the daemon runs") { try place.dreamcache("status").output.hasPrefix("running: idle") }
            try DaemonTests().dropSubject("cat", place)
            try place.drop(Data(DaemonTests().manifest("cat").utf8), as: "jobs/a.json")
            try place.eventually("it is said") { try place.dreamcache("status").output.contains("File too large") }
            #expect(daemon.isRunning)
            let lifted = try Workplace.run(
                "/usr/bin/prlimit", ["--pid", "\(daemon.pid)", "--fsize=unlimited:unlimited"])
            #expect(lifted.status == 0, "\(lifted.errors)")
            #expect(try place.dreamcache("wait", "a.json", "--timeout", "120").status == 0)
            #expect(daemon.stop() == 0)
        }

        /// Whatever the shell ignores, output that nobody reads ends a program quietly; and a full disk is no crash.
        @Test(arguments: [
            "trap '' PIPE; $0 --help", "$0 --help", "trap '' PIPE; $0 status --config /none",
            "trap '' PIPE; $0 schema manifest",
        ])
        func outputOnAClosedPipeEndsQuietly(_ command: String) throws {
            for program in ["dreamcache", "dreamcached"] {
                let path = Workplace.programs.appendingPathComponent(program).path
                for sink in [
                    "exec 3>&1; { { \(command); } 2>&1; echo $? >&3; } | true",
                    "{ \(command); } >/dev/full 2>&1; echo $?",
                ] {
                    let run = try Workplace.run("/bin/bash", ["-c", sink, path])
                    let status = Int32(run.output.trimmingCharacters(in: .whitespacesAndNewlines)) ?? -1
                    // SIGILL, SIGTRAP, SIGABRT, SIGSEGV: a crash.
                    #expect(![132, 133, 134, 139].contains(status), "\(program): \(command): \(status)")
                    #expect(status >= 0, "\(run.output) \(run.errors)")
                }
            }
        }

        /// The log names what a reload took, and what waits.
        @Test func aReloadSaysWhatItTook() throws {
            let place = try Workplace()
            let socket = try NotifySocket(path: place.path("notify"))
            let daemon = try place.startDaemon(environment: ["NOTIFY_SOCKET": socket.path])
            _ = try socket.message(containing: "READY=1")
            let config = place.folder.appendingPathComponent("config.yaml")
            let text = try String(contentsOf: config, encoding: .utf8)
            func log() throws -> String { try String(contentsOfFile: place.path("daemon.log"), encoding: .utf8) }
            try Data(
                text.replacingOccurrences(of: "threads: 1", with: "threads: 2\nlog_level: debug")
                    .replacingOccurrences(of: "/spool\n", with: "/other\n").utf8
            ).write(to: config)
            daemon.signal(SIGHUP)
            try place.eventually("the log says it") {
                try log().contains(#"taken="log_level threads" waiting_for_restart=spool.path"#)
            }
            // systemd waits for this, whatever of the configuration has to wait for a restart.
            _ = try socket.message(containing: "READY=1")
            try Data(text.utf8).write(to: config)
            daemon.signal(SIGHUP)
            try place.eventually("the log says it again") {
                try log().contains(#"taken="log_level threads" waiting_for_restart=nothing"#)
            }
            #expect(daemon.stop() == 0)
        }

        /// Prepared weights are read where they are mapped, at every step. Cut short in the middle of a job they neither end the
        /// daemon nor change a picture: they are made anew.
        @Test func preparedWeightsCutShortInTheMiddleOfAJob() throws {
            let place = try Workplace()
            let config = place.path("config.yaml")
            let weights = place.folder.appendingPathComponent("weights")
            try Data((String(contentsOfFile: config, encoding: .utf8) + "\nprepared_weights: \(weights.path)\n").utf8)
                .write(to: URL(fileURLWithPath: config))
            let first = try place.startDaemon()
            try DaemonTests().dropSubject("cat", place)
            func finished(_ name: String) throws -> [Data] {
                let done = try place.dreamcache("wait", name, "--timeout", "180")
                #expect(done.status == 0, "\(done.errors) \(done.output)")
                return try place.images(done.output.trimmingCharacters(in: .whitespacesAndNewlines))
            }
            let manifest = DaemonTests().manifest("cat", steps: 40)
            try place.drop(Data(manifest.utf8), as: "jobs/whole.json")
            let whole = try finished("whole")
            #expect(first.stop() == 0)
            func file() throws -> URL {
                try #require(
                    try FileManager.default.contentsOfDirectory(at: weights, includingPropertiesForKeys: nil).first {
                        $0.pathExtension == "safetensors"
                    })
            }
            let second = try place.startDaemon()
            try place.drop(Data(manifest.utf8), as: "jobs/cut.json")
            try place.eventually("a step is done") { place.progress.step >= 2 }
            #expect(truncate(try file().path, 4096) == 0)
            #expect(try finished("cut") == whole)
            #expect(second.isRunning)
            let log = try String(contentsOfFile: place.path("daemon.log"), encoding: .utf8)
            #expect(log.contains("prepared weights are made anew"), "\(log)")
            #expect(second.stop() == 0)
        }
    }
}
