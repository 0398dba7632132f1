import Glibc
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

    /// A key's file that is gone, empty, cut off or names another job does not free the key: the manifests know whose it is.
    @Test(arguments: [nil, "", "2026", "elsewhere-1"], [false, true])
    func aKeyWhoseFileIsLostStillNamesItsJob(_ contents: String?, _ hasDied: Bool) throws {
        let spool = try TestSpool()
        try spool.start()
        let keyed = #"{"subject": "dog", "prompt": "x", "idempotency_key": "k"}"#
        try spool.dropManifest(keyed, "a.json")
        try spool.settle(turns: 3)
        let first = try spool.receipt("a.json").id
        let file = spool.path("lib/keys/" + (try #require(spool.names("lib/keys").first)))
        if hasDied { spool.crash() }
        if let contents { try Files.write(Array(contents.utf8), file) } else { Files.remove(file) }
        if hasDied { try spool.start() }
        try spool.dropManifest(keyed, "b.json")
        try spool.settle(turns: 3)
        #expect(try spool.receipt("b.json").id == first)
        #expect(spool.names("lib/jobs/queued") == [first.text])
        #expect(try Files.read(file) == Array(first.text.utf8))
        // One that nobody has is free.
        try spool.dropManifest(keyed.replacing(#""k""#, with: #""new""#), "c.json")
        try spool.settle(turns: 3)
        #expect(spool.names("lib/jobs/queued").count == 2)
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
        // Another root waits for the next start; what else a reload brings does not wait with it.
        roomy.root += "-elsewhere"
        spool.daemon.reload(configuration: roomy)
        try spool.settle(turns: 3)
        #expect(try spool.receipt("job.json").state == .waiting)
        #expect(try spool.json("status.json")["state"]?.string == "idle")
        #expect(spool.exists("out"))
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
        try Files.write(Array("3\n".utf8), spool.path("lib/VERSION"))
        let error = #expect(throws: SpoolError.self) { try spool.start() }
        #expect(error?.exitCode == 78)
        #expect(error?.description.contains("found version 3, expected 2") == true)
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

    // MARK: - Many

    /// The full version drops 50,000. How long the release build takes for so many, Floods of the end-to-end tests says.
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
        #expect(spool.names("lib/jobs/queued").count == count)
        #expect(spool.names("receipts").count == count)
        #expect(spool.names("drop/jobs") == [])
        var ids: Set<String> = []
        for name in spool.names("receipts") { ids.insert(try spool.receipt(String(name.dropLast(5))).id.text) }
        #expect(ids == Set(spool.names("lib/jobs/queued")))
    }
}
