import CLinux
import Glibc
import Logging
import Spool
import Synchronization
import SystemPackage
import Testing

/// What happens over months: full disks, cancellations, new generations, clocks set, daemons started twice.
@Suite struct LifecycleTests {
    private static let job = #"{"subject": "dog", "prompt": "x", "seed": 1}"#

    // MARK: - Keys, generations, requests

    @Test func oneKeyIsOneJob() throws {
        let spool = try TestSpool()
        try spool.start()
        let keyed = #"{"subject": "dog", "prompt": "x", "idempotency_key": "k"}"#
        try spool.dropManifest(keyed, "a.json")
        try spool.dropManifest(keyed, "b.json")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "y", "idempotency_key": "k"}"#, "c.json")
        try spool.settle(turns: 5)
        let first = try spool.receipt("a.json").id
        #expect(try spool.receipt("b.json").id == first)
        #expect(try spool.receipt("c.json").state == .rejected)
        #expect(try spool.receipt("c.json").message.contains("names job \(first) with another manifest"))
        #expect(spool.names("lib/jobs/queued") == [first.text])
    }

    @Test func aNewGenerationLeavesARunningJobItsOwn() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompts": ["a", "b", "c"], "seed": 1}"#)
        while spool.renderer.log.withLock({ $0.rendered.count }) < 1 { _ = try spool.daemon.turn() }
        try spool.dropReferences("dog", ["new.png": Pictures.png(payload: [8])])
        try spool.settle()
        let id = try spool.receipt("job.json").id
        let generations = try spool.json("lib/subjects/dog.json")["generations"]?.array
        #expect(generations?.count == 2)
        let bound = try spool.json("out/\(id)/result.json")["caches"]?.array?.first?["references"]?.string
        #expect(bound == generations?.first?["references"]?.string)
        #expect(try spool.receipt("dog").generation == 2)
        try spool.dropManifest(Self.job, "later.json")
        try spool.settle()
        let later = try spool.json("out/\(try spool.receipt("later.json").id)/result.json")
        #expect(later["caches"]?.array?.first?["references"]?.string == generations?.last?["references"]?.string)
        #expect(try spool.faults() == [])
    }

    @Test func theSameReferencesAgainAreNoNewGeneration() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle()
        try spool.dropReferences("dog")
        try spool.settle()
        #expect(try spool.json("lib/subjects/dog.json")["generations"]?.array?.count == 1)
        #expect(spool.renderer.log.withLock { $0.encoded } == ["dog"])
        #expect(try spool.receipt("dog").message == "these references are known already, and encoded")
    }

    @Test func theSameReferencesDroppedTwiceBeforeTheyAreEncodedAreBothAnswered() throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onEncode = { _ throws(RendererError) in throw .environment(message: "not yet") }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle(turns: 2)
        try spool.dropReferences("dog")
        try spool.settle(turns: 2)
        #expect(try spool.receipt("dog").message == "waiting to be encoded: not yet")
        spool.renderer.script.withLock { $0.onEncode = { _ in } }
        try spool.settle(turns: 20)
        #expect(try spool.receipt("dog").state == .accepted)
    }

    @Test func filesThatAreNoImagesAreKeptAndNamed() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences(
            "dog", ["a.png": Pictures.png(), "notes.txt": [1, 2, 3], "IMG 1.png": Pictures.png(payload: [5])])
        try spool.settle()
        let receipt = try spool.receipt("dog")
        #expect(receipt.state == .accepted)
        #expect(try spool.read(try #require(receipt.keptAt) + "/notes.txt") == [1, 2, 3])
    }

    @Test func chosenReferencesMustBeThere() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog", ["a.png": Pictures.png(), "b.png": Pictures.png(payload: [5])])
        try spool.dropManifest(#"{"subject": {"name": "dog", "references": ["b.png"]}, "prompt": "x"}"#, "good.json")
        try spool.dropManifest(#"{"subject": {"name": "dog", "references": ["c.png"]}, "prompt": "x"}"#, "bad.json")
        try spool.settle()
        #expect(spool.exists("out/\(try spool.receipt("good.json").id)"))
        let bad = try spool.receipt("bad.json").id
        let reason = "$.subjects[0].references: found 'c.png', expected one of a.png, b.png"
        #expect(try spool.client.standing(of: "bad.json") == .ended(.failed(bad, reason: reason)))
    }

    @Test func cancelAndRetryWorkThroughFilesAlsoWhileTheDaemonIsDown() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(Self.job)
        try spool.settle(turns: 3)
        let id = try spool.receipt("job.json").id
        spool.crash()
        let cancel = try spool.client.cancel(id)
        #expect(try spool.client.standing(of: cancel) == .dropped)
        try spool.start()
        try spool.settle(turns: 3)
        #expect(try spool.client.standing(of: "job.json") == .ended(.failed(id, reason: "cancelled")))
        #expect(try spool.receipt("\(id).cancel").message == "cancelled")
        let retry = try spool.client.retry(id)
        spool.daemon.deliver(.changed(folder: .jobs, name: retry))
        try spool.dropReferences("dog")
        try spool.settle()
        #expect(try spool.client.standing(of: "job.json") == .ended(.done(id, set: spool.path("out/\(id)"))))
        spool.daemon.deliver(.changed(folder: .jobs, name: try spool.client.cancel(id)))
        try spool.settle(turns: 3)
        #expect(try spool.receipt("\(id).cancel").message == "job \(id) has ended: done")
    }

    @Test func aPoisonJobIsQuarantinedWithItsReasonAndOthersGoOn() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        spool.renderer.script.withLock {
            $0.onStep = { image, _ throws(RendererError) in if image == 1 { throw .transient(message: "out of luck") } }
        }
        try spool.dropManifest(#"{"subject": "dog", "prompts": ["a", "b"]}"#, "poison.json")
        try spool.dropManifest(Self.job, "good.json")
        try spool.settle(turns: 400, step: 1)
        let id = try spool.receipt("poison.json").id
        let reason = "3 attempts without progress; the last: out of luck"
        #expect(try spool.client.standing(of: "poison.json") == .ended(.quarantined(id, reason: reason)))
        #expect(try spool.json("lib/jobs/quarantine/\(id)/reason.json")["reason"]?.string == reason)
        #expect(spool.exists("out/\(try spool.receipt("good.json").id)"))
        #expect(try spool.faults() == [])
    }

    @Test(arguments: ["job.json", "manifest.json"]) func aDamagedJobIsQuarantined(_ file: String) throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(Self.job)
        try spool.settle(turns: 3)
        let id = try spool.receipt("job.json").id
        spool.crash()
        try Files.write([0, 1, 2], spool.path("lib/jobs/queued/\(id)/\(file)"))
        try spool.start()
        #expect(spool.exists("lib/jobs/quarantine/\(id)/reason.json"))
        #expect(try spool.faults() == [])
    }

    // MARK: - Pressure, clocks, retention

    @Test func aFullDiskAcceptsNothingSaysSoAndRecoversWithoutARestart() throws {
        let spool = try TestSpool { $0.minimumFreeBytes = Int.max / 2 }
        try spool.start()
        try spool.dropManifest(Self.job)
        try spool.settle(turns: 20)
        #expect(spool.exists("drop/jobs/job.json"))
        #expect(try spool.json("status.json")["state"]?.string == "paused")
        #expect(try spool.json("status.json")["message"]?.string?.hasPrefix("too little space") == true)
        var roomy = spool.configuration
        roomy.minimumFreeBytes = 0
        spool.daemon.reload(configuration: roomy)
        try spool.settle(turns: 3)
        #expect(try spool.receipt("job.json").state == .waiting)
        #expect(try spool.json("status.json")["state"]?.string == "idle")
    }

    @Test func realSpaceThatComesBackIsNoticedWithinHalfAMinute() throws {
        let isFull = Mutex(true)
        let gate = SystemGate { call in call == .space && isFull.withLock { $0 } ? .fail(.noSpace) : .proceed }
        let spool = try TestSpool(gate: gate)
        try spool.start()
        try spool.dropManifest(Self.job)
        try spool.settle(turns: 20)
        #expect(spool.names("receipts") == [])
        isFull.withLock { $0 = false }
        try spool.settle(turns: 30)
        #expect(spool.names("receipts") == ["job.json.json"])
    }

    private static let fiftyYears = 50.0 * 365 * 86_400

    @Test(arguments: [-fiftyYears, fiftyYears, -Double.infinity]) func aClockThatJumpsChangesNoDecision(_ jump: Double)
        throws
    {
        let spool = try TestSpool { $0.retention.outputs = 3600 * 24 * 400 }
        try spool.start()
        try spool.dropReferences("dog")
        spool.renderer.script.withLock {
            $0.onStep = { image, _ throws(RendererError) in throw .transient(message: "later") }
        }
        try spool.dropManifest(Self.job)
        try spool.settle(turns: 5)
        let id = try spool.receipt("job.json").id
        #expect(spool.exists("lib/jobs/retry/\(id)"))
        spool.clock.setWall(1_790_000_000 + jump)
        spool.renderer.script.withLock { $0.onStep = { _, _ in } }
        try spool.settle(turns: 20)
        #expect(spool.exists("lib/jobs/retry/\(id)"), "tried before its time")
        try spool.settle(turns: 15)
        #expect(spool.exists("out/\(id)"))
        #expect(try spool.faults() == [])
    }

    @Test func retentionRemovesOnlyWhatItIsToldTo() throws {
        let spool = try TestSpool { $0.retention.outputs = 1000 }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.job)
        try spool.settle()
        let id = try spool.receipt("job.json").id
        // File times are the machine's; the daemon's clock is set well past them.
        spool.clock.setWall(SpoolClock.system.wall() + 2000)
        try spool.settle(turns: 2, step: 4000)
        #expect(!spool.exists("out/\(id)"))
        #expect(!spool.exists("lib/jobs/done/\(id)"))
        #expect(spool.exists("cache/dog.dcache"))
        #expect(spool.names("receipts").count == 2)
        #expect(spool.names("lib/tmp") == [])
    }

    @Test func outputsAreKeptUnlessToldOtherwise() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.job)
        try spool.settle()
        spool.clock.setWall(4e9)
        try spool.settle(turns: 3, step: 1e6)
        #expect(spool.exists("out/\(try spool.receipt("job.json").id)"))
    }

    // MARK: - Start-up

    @Test func twoDaemonsOnOneSpoolCannotBe() throws {
        let spool = try TestSpool()
        try spool.start()
        let other = try TestSpool(root: spool.root)
        let error = #expect(throws: SpoolError.self) { try other.start() }
        #expect(error?.code == .locked)
        #expect(try spool.client.isDaemonRunning())
        spool.daemon.abandon()
        #expect(try !spool.client.isDaemonRunning())
        try other.start()
    }

    @Test func aJobCopiedIntoTwoStatesRunsOnce() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(Self.job)
        try spool.settle(turns: 3)
        spool.crash()
        let id = try spool.receipt("job.json").id
        mkdir(spool.path("lib/jobs/retry/\(id)"), 0o755)
        for name in spool.names("lib/jobs/queued/\(id)") {
            try Files.write(try spool.read("lib/jobs/queued/\(id)/\(name)"), spool.path("lib/jobs/retry/\(id)/\(name)"))
        }
        #expect(try spool.faults().count == 1)
        try spool.start()
        #expect(try spool.faults() == [])
        #expect(spool.names("lib/rejected") == ["queued~\(id)~1"])
    }

    @Test func aForeignVersionIsRefused() throws {
        let spool = try TestSpool()
        try spool.start()
        spool.crash()
        try Files.write(Array("2\n".utf8), spool.path("lib/VERSION"))
        let error = #expect(throws: SpoolError.self) { try spool.start() }
        #expect(error?.exitCode == 78)
        #expect(error?.description.contains("found version 2, expected 1") == true)
    }

    @Test func aSetTheUserHasTakenAwayIsNotMadeAgain() throws {
        let scenario = try Scenario()
        defer { scenario.remove() }
        let clean = try CampaignTests.cleanRun().mutating
        // Killed right after publishing: the set is out, the job not yet done.
        for n in (0..<clean).reversed() {
            let tried = try Scenario()
            defer { tried.remove() }
            _ = try tried.run(FaultGate(.kill(at: n)))
            guard let id = Files.names(tried.root + "/out").first, !Files.names(tried.root + "/lib/jobs/active").isEmpty
            else { continue }
            rename(tried.root + "/out/" + id, tried.root + "/mine")
            #expect(try tried.run(FaultGate()) == .finished)
            #expect(Files.names(tried.root + "/out") == [])
            return
        }
        Issue.record("never published without being finished")
    }

    @Test func filesWrittenForPeopleFollowTheirSchemas() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompts": ["a", "b"]}"#)
        try spool.dropManifest(#"{"subject": "cat", "prompt": "a"}"#, "waits.json")
        try spool.dropManifest("{", "broken.json")
        try spool.dropManifest("[]", "wrong.json")
        func check(_ path: String, _ schema: Schema) throws {
            let document = try spool.json(path)
            #expect(SchemaEvaluator.accepts(document, schema.jsonSchema), "\(path): \(document.text())")
        }
        for _ in 0..<100 {
            spool.clock.advance(1)
            _ = try spool.daemon.turn()
            try check("status.json", SpoolSchemas.status)
            for state in ["active", "done"] {
                for id in spool.names("lib/jobs/" + state) where spool.exists("lib/jobs/\(state)/\(id)/progress.json") {
                    try check("lib/jobs/\(state)/\(id)/progress.json", SpoolSchemas.progress)
                }
            }
            for name in spool.names("receipts") { try check("receipts/" + name, SpoolSchemas.receipt) }
        }
        #expect(spool.names("receipts").count == 5)
    }

    // MARK: - The real thing: threads, inotify, signals

    private func runReal(
        _ spool: TestSpool, watcher: DirectoryWatcher = .none, renderer: StubRenderer? = nil,
        hooks: DaemonHooks = DaemonHooks(),
        _ body: (SpoolDaemon) throws -> Void
    ) throws {
        let daemon = SpoolDaemon(
            configuration: spool.configuration, renderer: renderer ?? spool.renderer, watcher: watcher, hooks: hooks,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        let ended = Mutex<Result<Void, SpoolError>?>(nil)
        let thread = TestThread { ended.withLock { $0 = Result { () throws(SpoolError) in try daemon.run() } } }
        defer {
            daemon.requestStop()
            thread.join()
        }
        try body(daemon)
        daemon.requestStop()
        thread.join()
        try #require(ended.withLock { $0 }).get()
    }

    @Test func theWholeThingWithThreadsAndInotify() throws {
        let spool = try TestSpool { $0.rescanInterval = 3600 }
        let socket = try NotifySocket()
        let notifier = SystemNotifier(address: socket.address)
        try runReal(spool, watcher: .inotify, hooks: .systemd(notifier)) { daemon in
            #expect(socket.receive { $0 == "READY=1" })
            notifier.sendReloading()
            daemon.reload(configuration: spool.configuration)
            #expect(socket.receive { $0.hasPrefix("RELOADING=1\nMONOTONIC_USEC=") })
            #expect(socket.receive { $0 == "READY=1" })
            // Nothing but inotify can find these within the hour.
            mkdir(spool.path("staged"), 0o755)
            try Files.write(Pictures.png(), spool.path("staged/a.png"))
            rename(spool.path("staged"), spool.path("drop/references/dog"))
            let drop = try spool.client.submit(manifest: Array(Self.job.utf8))
            let outcome = try spool.client.wait(for: drop, timeout: 30)
            guard case .done(let id, let set) = outcome else {
                Issue.record("\(outcome)")
                return
            }
            #expect(Files.names(set) == ["0000.png", "result.json"])
            #expect(try spool.client.list().map(\.id) == [id])
            #expect(socket.receive { $0 == "WATCHDOG=1" })
        }
        #expect(socket.receive { $0 == "STOPPING=1" })
        #expect(try spool.faults(notes: true) == [])
    }

    @Test func stoppingInTheMiddleOfAnImagePutsTheJobBackAndTheNextDaemonGoesOn() throws {
        let spool = try TestSpool()
        let reached = Mailslot()
        let renderer = StubRenderer(
            try SystemCalls(root: spool.root),
            .init(
                steps: 200,
                onStep: { image, step in
                    if image == 1, step == 3 { reached.post() }
                    usleep(1000)
                }, isEager: true))
        try spool.start()
        spool.crash()
        try spool.dropReferences("dog")
        let text = #"{"subject": "dog", "prompts": ["a", "b"], "seed": 1}"#
        try spool.dropManifest(text)
        try runReal(spool, renderer: renderer) { _ in reached.wait() }
        let id = try spool.receipt("job.json").id
        #expect(spool.exists("lib/jobs/queued/\(id)/checkpoint"))
        #expect(try spool.json("lib/jobs/queued/\(id)/job.json")["attempts"]?["total"]?.integer == 0)
        try runReal(spool, renderer: renderer) { _ in
            let outcome = try spool.client.wait(for: id.text, timeout: 30)
            #expect(outcome == .done(id, set: spool.path("out/\(id)")))
        }
        #expect(renderer.log.withLock { $0.resumedAt.count } == 1)
        for (index, prompt) in ["a", "b"].enumerated() {
            let expected = StubRenderer.expected(.init(index: index, prompt: prompt, seed: 1 + index), steps: 200)
            #expect(try spool.read("out/\(id)/000\(index).png") == expected)
        }
    }

    @Test func aRendererThatDoesNotHearIsLeftBehind() throws {
        let spool = try TestSpool { $0.stopLimit = 0.3 }
        let (reached, release) = (Mailslot(), Mailslot())
        let renderer = StubRenderer(
            try SystemCalls(root: spool.root),
            .init(onStep: { _, _ in
                reached.post()
                release.wait()
            }))
        try spool.start()
        spool.crash()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.job)
        try runReal(spool, renderer: renderer) { _ in reached.wait() }
        release.post()
        #expect(spool.names("lib/jobs/queued").count == 1)
        #expect(spool.names("lib/jobs/active") == [])
    }

    @Test func withoutAWatcherDropsAreFoundByPolling() throws {
        let spool = try TestSpool { configuration in
            configuration.rescanInterval = 3600
            configuration.polling = true
        }
        try runReal(spool, watcher: .inotify) { _ in
            while try spool.client.status() == nil { usleep(1000) }
            let drop = try spool.client.submit(manifest: Array(#"{"subject": "a"}"#.utf8))
            guard case .rejected = try spool.client.wait(for: drop, timeout: 10) else {
                Issue.record("not refused")
                return
            }
            #expect(try spool.client.status()?["watching"]?.string == "polling")
        }
    }

    /// A renderer that hangs must let the watchdog bite; one that reports must not.
    @Test func theWatchdogIsFedByProgressAlone() throws {
        let release = Mailslot()
        let isReached = Mutex(false)
        let alive = Mutex(0)
        let spool = try TestSpool(
            script: .init(onStep: { _, step in
                guard step == 1 else { return }
                isReached.withLock { $0 = true }
                release.wait()
            }), worker: .thread(name: "slow"), hooks: DaemonHooks(alive: { alive.withLock { $0 += 1 } }))
        func turns(_ count: Int) throws -> Int {
            let before = alive.withLock { $0 }
            for _ in 0..<count {
                spool.clock.advance(2)
                _ = try spool.daemon.turn()
            }
            return alive.withLock { $0 } - before
        }
        try spool.start()
        #expect(try turns(10) == 10, "an idle daemon is well")
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.job)
        while !isReached.withLock({ $0 }) { _ = try turns(1) }
        _ = try turns(1)
        #expect(try turns(10) == 0, "a renderer that hangs is not")
        release.post()
        while spool.names("out") == [] { _ = try turns(1) }
        #expect(try turns(10) == 10)
    }

    @Test func aWaitWithoutADaemonEnds() throws {
        let spool = try TestSpool()
        try spool.start()
        spool.daemon.abandon()
        let drop = try spool.client.submit(manifest: Array(Self.job.utf8), name: "x")
        #expect(drop == "x.json")
        let error = #expect(throws: SpoolError.self) { try spool.client.wait(for: drop, grace: 0.05) }
        #expect(error?.exitCode == 75)
        let unknown = #expect(throws: SpoolError.self) { try spool.client.wait(for: "nothing") }
        #expect(unknown?.exitCode == 5)
    }

    /// The kernel's queue of events cut to 16, and then no watch allowed at all: drops are found all the same. It changes
    /// the machine's settings for a moment, so only the full campaign does it.
    @Test(.enabled(if: CampaignTests.isFull && getuid() == 0)) func aFullEventQueueAndNoWatchesLoseNothing() throws {
        func setting(_ name: String, _ value: String) throws -> String {
            let path = "/proc/sys/fs/inotify/" + name
            let before = String(decoding: try Files.read(path), as: UTF8.self)
            try Files.write(Array(value.utf8), path)
            return before
        }
        func dropMany(_ spool: TestSpool, _ count: Int) throws {
            for number in 0..<count { try Files.write(Array("[]".utf8), spool.path("drop/jobs/\(number).json")) }
            let end = SpoolClock.system.monotonic() + 60
            while spool.names("receipts").count < count, SpoolClock.system.monotonic() < end { usleep(10_000) }
            #expect(spool.names("receipts").count == count)
        }
        let queue = try TestSpool { $0.rescanInterval = 3600 }
        let queueBefore = try setting("max_queued_events", "16")
        try runReal(queue, watcher: .inotify) { _ in
            while try queue.client.status() == nil { usleep(1000) }
            _ = try setting("max_queued_events", queueBefore)
            try dropMany(queue, 3000)
        }
        let watches = try TestSpool { $0.rescanInterval = 3600 }
        let watchesBefore = try setting("max_user_watches", "0")
        defer { _ = try? setting("max_user_watches", watchesBefore) }
        try runReal(watches, watcher: .inotify) { _ in
            while try watches.client.status() == nil { usleep(1000) }
            #expect(try watches.client.status()?["watching_reason"]?.string?.contains("cannot be watched") == true)
            try dropMany(watches, 10)
        }
    }

    // MARK: - Many

    /// The full version drops 50,000 while the daemon is stopped, and gives it a minute.
    @Test func manyManifestsAreEachAcceptedOnce() throws {
        let count = CampaignTests.isFull ? 50_000 : 1_500
        let spool = try TestSpool()
        try spool.start()
        for number in 0..<count { try Files.write(Array(Self.job.utf8), spool.path("drop/jobs/\(number).json")) }
        let started = SpoolClock.system.monotonic()
        spool.daemon.deliver(.lost(reason: "the queue overflowed"))
        for _ in 0...(count / spool.configuration.acceptBatch + 1) { _ = try spool.daemon.turn() }
        let seconds = SpoolClock.system.monotonic() - started
        print("campaign many: \(count) manifests in \(seconds) s")
        #expect(seconds < 60)
        #expect(spool.names("lib/jobs/queued").count == count)
        #expect(spool.names("receipts").count == count)
        #expect(spool.names("drop/jobs") == [])
        var ids: Set<String> = []
        for name in spool.names("receipts") { ids.insert(try spool.receipt(String(name.dropLast(5))).id.text) }
        #expect(ids == Set(spool.names("lib/jobs/queued")))
    }
}

/// A thread a test can wait for.
final class TestThread: Sendable {
    private let done = Mailslot()
    private let isJoined = Mutex(false)
    init(_ body: @escaping @Sendable () -> Void) {
        let done = done
        Worker.thread(name: "test").run {
            body()
            done.post()
        }
    }
    func join() {
        if isJoined.withLock({ joined in
            defer { joined = true }; return joined
        }) {
            return
        }
        done.wait()
    }
}

/// Something one thread waits for and another lets happen.
final class Mailslot: Sendable {
    private let descriptor = clinux_event_descriptor()
    deinit { close(descriptor) }
    func post() {
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }
    func wait() {
        var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        #expect(poll(&event, 1, 60_000) == 1, "nothing happened within a minute")
    }
}

/// systemd's side of sd_notify, in the abstract namespace.
final class NotifySocket: Sendable {
    let address: String
    private let descriptor: Int32

    init() throws {
        address = "@dreamcache-test-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        descriptor = clinux_bind_datagram(address)
        try #require(descriptor >= 0)
    }

    deinit { close(descriptor) }

    /// Whether a message like that comes within 20 s; those before it are dropped.
    func receive(_ isIt: (String) -> Bool) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&event, 1, 20_000) == 1 else { return false }
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count > 0, isIt(String(decoding: buffer[..<count], as: UTF8.self)) { return true }
        }
    }
}
