import Foundation
import Testing

extension DaemonTests {
    /// What a supervisor sees of the real daemon.
    @Suite struct Supervision {
        @Test func theWatchdogIsFedAsOftenAsItAsks() throws {
            let place = try Workplace()
            let socket = try NotifySocket(path: place.path("notify"))
            // A second, so at least every half; an idle daemon that kept to its own 10 s would send two in this time.
            let daemon = try place.startDaemon(environment: [
                "NOTIFY_SOCKET": socket.path, "WATCHDOG_USEC": "1000000",
            ])
            let start = ContinuousClock.now
            for _ in 0..<8 { _ = try socket.message(containing: "WATCHDOG=1") }
            #expect(ContinuousClock.now - start < .seconds(20))
            #expect(daemon.stop() == 0)
        }

        /// A job whose steps take long enough to be interrupted.
        private func startLongJob(_ place: Workplace) throws -> Daemon {
            let daemon = try place.startDaemon()
            try DaemonTests().dropSubject("cat", place)
            let text = #"""
                {"subject": "cat", "prompt": "x", "seed": 1, "num_inference_steps": 200, "width": 512, "height": 512}
                """#
            try place.drop(Data(text.utf8), as: "jobs/long.json")
            try place.eventually("a step is done") { place.progress.step >= 1 }
            return daemon
        }

        private func names(_ folder: String, _ place: Workplace) throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: place.path("spool/\(folder)"))
        }

        @Test func stoppingInTheMiddleOfAnImageKeepsItsStepsAndCostsNoAttempt() throws {
            let place = try Workplace()
            let daemon = try startLongJob(place)
            let start = ContinuousClock.now
            #expect(daemon.stop() == 0)
            #expect(ContinuousClock.now - start < .seconds(20))
            let id = try #require(try names("lib/jobs/queued", place).first)
            let job = "lib/jobs/queued/\(id)"
            #expect(try names(job, place).contains("checkpoint"))
            let record = try String(contentsOfFile: place.path("spool/\(job)/job.json"), encoding: .utf8)
            #expect(record.contains(#""total": 0"#), "\(record)")
            #expect(try String(contentsOfFile: place.path("spool/status.json"), encoding: .utf8).contains("stopped"))
        }

        @Test func aSecondSignalEndsTheDaemonAtOnce() throws {
            let place = try Workplace()
            let daemon = try startLongJob(place)
            // Both wait for it when it goes on, so that neither comes too late.
            daemon.signal(SIGSTOP)
            daemon.signal(SIGTERM)
            daemon.signal(SIGINT)
            daemon.signal(SIGCONT)
            let status = daemon.exitStatus()
            #expect(status == 128 + SIGTERM || status == 128 + SIGINT)
            // It had no time to put its job back; the next start does.
            #expect(try names("lib/jobs/active", place).count == 1)
        }
    }

    /// Several people share a spool set up as etc/tmpfiles.d does it: each may drop, none may touch what another dropped.
    @Suite struct Users {
        private static let daemonUser = 48_001, ann = 48_002, bob = 48_003, stranger = 48_004

        private func run(as user: Int, group: Int = daemonUser, _ script: String) throws -> Workplace.Result {
            try Workplace.run(
                "/usr/bin/setpriv",
                ["--reuid=\(user)", "--regid=\(group)", "--clear-groups", "/bin/sh", "-c", script])
        }

        @Test(
            .enabled(
                if: getuid() == 0 && FileManager.default.isExecutableFile(atPath: "/usr/bin/setpriv"),
                "needs root and setpriv"))
        func severalUsersShareASpool() throws {
            let place = try Workplace()
            let spool = place.path("spool")
            func folder(_ name: String, _ mode: mode_t) throws {
                try FileManager.default.createDirectory(
                    atPath: spool + name, withIntermediateDirectories: true)
                #expect(chown(spool + name, uid_t(Self.daemonUser), gid_t(Self.daemonUser)) == 0)
                #expect(chmod(spool + name, mode) == 0)
            }
            // The modes of etc/tmpfiles.d/dreamcache.conf.
            for (name, mode) in [("", 0o755), ("/drop", 0o755), ("/receipts", 0o755), ("/out", 0o775), ("/lib", 0o750)]
            {
                try folder(name, mode_t(mode))
            }
            for name in ["/drop/references", "/drop/jobs"] { try folder(name, 0o3770) }
            let daemon = try Daemon(
                configuration: place.path("config.yaml"), log: place.path("daemon.log"), environment: [:],
                user: Self.daemonUser)
            try place.eventually("the daemon runs") { try place.dreamcache("status").output.hasPrefix("running") }

            #expect(chmod(place.folder.path, 0o755) == 0)
            try FileManager.default.copyItem(
                at: DaemonTests().picture, to: URL(fileURLWithPath: place.path("photo.png")))
            let drop = """
                umask 022; cd \(spool)/drop && mkdir references/.cat && cp \(place.path("photo.png")) references/.cat/ &&
                mv references/.cat references/cat &&
                echo '{"subject": "cat", "prompt": "x", "seed": 1, "num_inference_steps": 2}' > jobs/.ann &&
                mv jobs/.ann jobs/ann.json
                """
            let dropped = try run(as: Self.ann, drop)
            #expect(dropped.status == 0, "\(dropped.errors)")
            let done = try place.dreamcache("wait", "ann", "--timeout", "120")
            #expect(done.status == 0, "\(done.errors)\(done.output)")
            let set = done.output.trimmingCharacters(in: .whitespacesAndNewlines)
            #expect(try run(as: Self.ann, "cat \(set)/0000.png >/dev/null && cat \(spool)/receipts/*").status == 0)

            // What is still being written is safe from the other.
            #expect(try run(as: Self.ann, "echo x > \(spool)/drop/jobs/draft.part").status == 0)
            let theft = try run(as: Self.bob, "rm -f \(spool)/drop/jobs/draft.part")
            #expect(theft.status != 0)
            #expect(theft.errors.contains("not permitted"), "\(theft.errors)")
            #expect(FileManager.default.fileExists(atPath: spool + "/drop/jobs/draft.part"))
            // Who is not of the group drops nothing, and sees nothing of the daemon's own.
            let foreign = try run(as: Self.stranger, group: Self.stranger, "echo x > \(spool)/drop/jobs/x.json")
            #expect(foreign.status != 0)
            #expect(try run(as: Self.stranger, group: Self.stranger, "ls \(spool)/lib").status != 0)

            // What the daemon may not read is refused, and stays its owner's.
            #expect(
                try run(as: Self.bob, "cd \(spool)/drop/jobs && umask 077 && echo '{}' > .bob && mv .bob bob.json")
                    .status == 0)
            let refused = try place.dreamcache("wait", "bob", "--timeout", "60")
            #expect(refused.status == 4)
            #expect(refused.output.contains("a file that cannot be read"), "\(refused.output)")
            // The same of a folder, which stays where its owner put it.
            #expect(
                try run(
                    as: Self.bob,
                    "cd \(spool)/drop/references && umask 077 && mkdir .dog && cp \(place.path("photo.png")) .dog/ && mv .dog dog"
                ).status == 0)
            try place.eventually("the folder is refused") { place.receipt("dog").contains("cannot be read") }
            #expect(place.receipt("dog").contains(#""kept_at": "drop/references/dog""#), "\(place.receipt("dog"))")

            // A set belongs to the group: whoever dropped the job may move it away.
            #expect(chmod(place.folder.path, 0o777) == 0)
            #expect(try run(as: Self.ann, "mv \(set) \(place.path("mine")) && rm -r \(place.path("mine"))").status == 0)
            // A plain copy of a folder that only its owner may write in is taken once, and stays.
            let copied = try run(
                as: Self.ann,
                "umask 022; mkdir \(place.path("owl")) && cp \(place.path("photo.png")) \(place.path("owl/a.png")) && "
                    + "cp -r \(place.path("owl")) \(spool)/drop/references/ && touch \(spool)/drop/references/owl/.ready"
            )
            #expect(copied.status == 0, "\(copied.errors)")
            try place.eventually("the copy is taken") { place.receipt("owl").contains("encoded as") }
            let left = try FileManager.default.contentsOfDirectory(atPath: spool + "/drop/references").sorted()
            #expect(
                left == ["cat", "dog", "owl"], "folders that only their owners may write in stay, and nothing else")
            #expect(daemon.isRunning)
            #expect(daemon.stop() == 0)
        }
    }
}
