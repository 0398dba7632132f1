import Glibc
import Spool
import Synchronization
import SystemPackage
import Testing

/// Trainings: data sets, the queue, and what comes out.
@Suite struct TrainingJobTests {
    static let files: [String: [UInt8]] = [
        "a/0_generation.png": Pictures.png(), "a/0_caption.txt": Array("a dog".utf8),
        "an object/1_generation.png": Pictures.png(payload: [7]), "an object/1_caption.txt": Array("a cat".utf8),
    ]
    static let manifest = #"{"kind": "training", "dataset": "toys", "settings": {"steps": 3}}"#
    /// In the order of their paths.
    static let contents = files.sorted { $0.key < $1.key }.map(\.value)

    private func spool(_ configure: (inout SpoolConfiguration) -> Void = { _ in }) throws -> TestSpool {
        let spool = try TestSpool(configure: configure)
        try spool.start()
        return spool
    }

    @Test func aDataSetAndAManifestBecomeAnAdapter() throws {
        let spool = try spool()
        try spool.dropManifest(Self.manifest)
        try spool.settle(turns: 3)
        #expect(try spool.receipt("job.json").message == "waiting for the data set 'toys'")
        try spool.dropDataset("toys", Self.files)
        try spool.settle(turns: 5)
        let id = try spool.receipt("job.json").id
        #expect(try spool.receipt("toys").kind == .dataset)
        #expect(try spool.receipt("toys").state == .accepted)
        #expect(spool.names("drop/datasets") == [])
        #expect(try spool.isDone("job.json"))
        #expect(spool.names("out/\(id)") == ["adapter.safetensors", "result.json", "train.jsonl"])
        #expect(try spool.read("out/\(id)/adapter.safetensors") == StubRenderer.expectedAdapter(Self.contents))
        let result = try spool.json("out/\(id)/result.json")
        #expect(result["dataset"]?["name"]?.string == "toys")
        #expect(result["images"]?.array?.first?["metadata"]?["steps"]?.string == "3")
        #expect(spool.names("lib/jobs/done/\(id)").contains("training") == false)
        #expect(try spool.faults(notes: true) == [])
    }

    @Test func faultsOfAManifestAreNamed() throws {
        let spool = try spool()
        try spool.dropManifest(
            #"{"kind": "training", "prompt": "x", "settings": {"steps": 0, "pace": 1, "start": "/etc/passwd"}}"#)
        try spool.dropManifest(#"{"kind": "training", "dataset": "a/b"}"#, "name.json")
        try spool.dropManifest(#"{"kind": "dance", "subject": "dog", "prompt": "x"}"#, "kind.json")
        let name = String(repeating: "n", count: 60)
        try spool.dropManifest(#"{"kind": "training", "dataset": "a", "name": "\#(name)"}"#, "long.json")
        try spool.settle(turns: 3)
        #expect(
            try spool.receipt("job.json").faults.map(\.path)
                == ["$.dataset", "$.prompt", "$.settings.steps", "$.settings.pace", "$.settings.start"])
        #expect(try spool.receipt("name.json").faults.map(\.path) == ["$.dataset"])
        #expect(try spool.receipt("kind.json").faults.map(\.path) == ["$.kind"])
        #expect(try spool.receipt("long.json").faults.map(\.path) == ["$.name"])
    }

    @Test func theFaultsOfADataSetEndTheJob() throws {
        let spool = try spool()
        try spool.dropDataset("toys", ["a/0_caption.txt": Array("fault".utf8)])
        try spool.dropManifest(Self.manifest)
        try spool.settle(turns: 5)
        let id = try spool.receipt("job.json").id
        let reason = "$.dataset: a/0_caption.txt: it is a fault\na/1_caption.txt: another"
        #expect(try spool.client.standing(of: "job.json") == .ended(.failed(id, reason: reason)))
    }

    // MARK: - Data sets

    @Test func whatIsNoDataSetIsRefused() throws {
        let spool = try spool()
        symlink("/etc/passwd", spool.path("link"))
        try spool.dropDataset("linked", ["a/0_caption.txt": [1]], ready: false)
        rename(spool.path("link"), spool.path("drop/datasets/linked/a/1_caption.txt"))
        try Files.write([], spool.path("drop/datasets/linked/.ready"))
        try spool.dropDataset("flat", ["0_caption.txt": [1]])
        try spool.dropDataset("deep", ["a/0_caption.txt": [1]], ready: false)
        mkdir(spool.path("drop/datasets/deep/a/b"), 0o755)
        try Files.write([], spool.path("drop/datasets/deep/.ready"))
        try spool.dropDataset("no name", Self.files)
        try Files.write([1], spool.path("drop/datasets/file"))
        try spool.settle(turns: 15)
        for (drop, words) in [
            ("linked", "a/1_caption.txt: found a symbolic link, expected a plain file"),
            ("flat", "found no folder in it, expected one for each object"),
            ("deep", "a/b: found a folder, expected a plain file"), ("no%20name", "found the name"),
            ("file", "found no folder, expected a folder with one for each object"),
        ] {
            let receipt = try spool.receipt(drop)
            #expect(receipt.state == .rejected)
            #expect(receipt.message.contains(words), "\(receipt.message)")
            #expect(spool.exists(try #require(receipt.keptAt)))
        }
        #expect(spool.names("lib/datasets") == [])
        #expect(try spool.faults() == [])
    }

    /// A plainly copied folder counts as complete once it rests, however deep it still grows.
    @Test func aDataSetThatGrowsIsWaitedFor() throws {
        let spool = try spool { $0.settleTime = 5 }
        try spool.dropDataset("toys", Self.files, ready: false)
        try spool.settle(turns: 4)
        try Files.write(Array("longer".utf8), spool.path("drop/datasets/toys/a/0_caption.txt"))
        try spool.settle(turns: 4)
        #expect(spool.names("drop/datasets") == ["toys"])
        try spool.settle(turns: 4)
        #expect(spool.names("drop/datasets") == [])
        #expect(try spool.receipt("toys").state == .accepted)
    }

    /// Each file takes longer than a scan may: the daemon tells that it lives, takes other drops meanwhile, and stops when asked.
    @Test func aLargeDataSetIsTakenInBitByBit() throws {
        let clock = TestClock()
        let copied = Mutex(0)
        let signs = Mutex(0)
        let gate = SystemGate { call in
            if case .create(let path) = call, path.string.contains(".part/") {
                clock.advance(3)
                copied.withLock { $0 += 1 }
            }
            return .proceed
        }
        let hooks = DaemonHooks(alive: { signs.withLock { $0 += 1 } })
        let spool = try TestSpool(gate: gate, clock: clock, hooks: hooks)
        try spool.start()
        var files: [String: [UInt8]] = [:]
        for number in 0..<20 { files["a/\(number)_caption.txt"] = [UInt8(number)] }
        try spool.dropDataset("large", files)
        for _ in 0..<5 { _ = try spool.daemon.turn() }
        #expect((2..<20).contains(copied.withLock { $0 }))
        #expect(signs.withLock { $0 } >= 5)
        try spool.dropManifest(Self.manifest, "other.json")
        _ = try spool.daemon.turn()
        _ = try spool.daemon.turn()
        #expect(try spool.client.receipt(of: "other.json") != nil)
        let before = copied.withLock { $0 }
        spool.daemon.requestStop()
        #expect(try !spool.daemon.turn())
        #expect(copied.withLock { $0 } <= before + 1)
        spool.daemon.abandon()
        let next = try TestSpool(root: spool.root, clock: clock)
        try next.start()
        try next.settle(turns: 5)
        #expect(try next.receipt("large").state == .accepted)
        #expect(next.names("lib/datasets").count == 2)
        #expect(try next.faults(notes: true) == [])
    }

    /// A job that has begun stays with the data set it began with; what nobody needs any more goes, if that is wanted.
    @Test func aNewDataSetOfANameAndRetention() throws {
        let spool = try spool { $0.retention.datasets = 10_000 }
        // Files have the system's time.
        spool.clock.setWall(SpoolClock.system.wall())
        try spool.dropDataset("toys", Self.files)
        try spool.dropManifest(Self.manifest)
        spool.renderer.script.withLock {
            $0.onStep = { _, step throws(RendererError) in if step == 1 { throw .environment(message: "not yet") } }
        }
        try spool.settle(turns: 3)
        try spool.dropDataset("toys", ["b/0_caption.txt": [5]])
        try spool.settle(turns: 3)
        #expect(spool.names("lib/datasets").count == 3)
        try spool.settle(turns: 5, step: 3600)
        // The new one is not needed by anybody, and is old.
        #expect(spool.names("lib/datasets").count == 1)
        spool.renderer.script.withLock { $0.onStep = { _, _ in } }
        try spool.settle(turns: 5, step: 600)
        let id = try spool.receipt("job.json").id
        let standing = try spool.client.standing(of: "job.json")
        #expect(standing == .ended(.done(id, set: spool.path("out/\(id)"))), "\(standing)")
        #expect(try spool.read("out/\(id)/adapter.safetensors") == StubRenderer.expectedAdapter(Self.contents))
        try spool.settle(turns: 5, step: 3600)
        #expect(spool.names("lib/datasets") == [])
        try spool.dropManifest(Self.manifest, "late.json")
        try spool.settle(turns: 2)
        #expect(try spool.receipt("late.json").message == "waiting for the data set 'toys'")
    }

    @Test func aDamagedDataSetIsFoundAndEndsItsJob() throws {
        let spool = try spool()
        try spool.dropDataset("toys", Self.files)
        try spool.settle(turns: 3)
        let digest = try #require(spool.names("lib/datasets").first { !$0.hasSuffix(".json") })
        Files.remove(spool.path("lib/datasets/\(digest)/files/a/0_caption.txt"))
        #expect(try spool.faults().count == 1)
        try spool.dropManifest(Self.manifest)
        try spool.settle(turns: 3)
        guard case .ended(.failed(_, let reason)) = try spool.client.standing(of: "job.json") else {
            Issue.record("it did not fail")
            return
        }
        #expect(reason.contains("the data set 'toys' was damaged in the spool"))
        // The same data set, dropped again, mends it.
        try spool.dropDataset("toys", Self.files)
        try spool.settle(turns: 3)
        try spool.dropManifest(Self.manifest, "again.json")
        try spool.settle(turns: 3)
        #expect(try spool.isDone("again.json"))
    }

    // MARK: - The queue

    /// Runs turns until something has happened.
    private func turn(_ spool: TestSpool, until condition: () throws -> Bool) throws {
        for _ in 0..<20_000 {
            if try condition() { return }
            spool.clock.advance(0.01)
            _ = try spool.daemon.turn()
            usleep(500)
        }
        Issue.record("it has not happened")
    }

    /// Lets the steps of a training be made one at a time.
    private final class StepGate: Sendable {
        private let steps = Mutex((begun: 0, allowed: 0))
        var begun: Int { steps.withLock { $0.begun } }
        func allow(_ count: Int) { steps.withLock { $0.allowed = count } }
        func pass(_ step: Int) {
            steps.withLock { $0.begun = max($0.begun, step + 1) }
            while steps.withLock({ $0.allowed <= step }) { usleep(500) }
        }
    }

    /// A training of six steps, each of which waits to be allowed.
    private func gatedTraining() throws -> (TestSpool, StepGate) {
        let gate = StepGate()
        var script = StubRenderer.Script()
        script.onStep = { _, step in gate.pass(step) }
        let spool = try TestSpool(script: script, worker: .thread(name: "renderer"))
        try spool.start()
        try spool.dropDataset("toys", Self.files)
        try spool.dropManifest(Self.manifest.replacing("3}", with: "6}"))
        return (spool, gate)
    }

    @Test func aRenderTakesItsPlaceBetweenTwoSteps() throws {
        let (spool, gate) = try gatedTraining()
        try turn(spool) { gate.begun == 1 }
        // Nothing else wants to be done: the training goes on.
        gate.allow(2)
        try turn(spool) { gate.begun == 3 }
        #expect(spool.renderer.log.withLock { $0.trainedFrom } == [0])
        try spool.dropReferences("dog")
        try spool.dropManifest(TestSpool.job, "dog.json")
        for _ in 0..<5 { _ = try spool.daemon.turn() }
        gate.allow(100)
        try turn(spool) { try spool.isDone("job.json") }
        #expect(try spool.isDone("dog.json"))
        #expect(spool.renderer.log.withLock { $0.trainedFrom } == [0, 3])
        let id = try spool.receipt("job.json").id
        #expect(
            try spool.read("out/\(id)/adapter.safetensors") == StubRenderer.expectedAdapter(Self.contents, steps: 6))
        // No attempt was consumed.
        #expect(try spool.json("out/\(id)/result.json")["attempts"]?.integer == 1)
        #expect(try spool.faults() == [])
    }

    @Test func cancelledAndTriedAgainItGoesOnWhereItWas() throws {
        let (spool, gate) = try gatedTraining()
        gate.allow(2)
        try turn(spool) { gate.begun == 3 }
        let id = try spool.receipt("job.json").id
        let summary = try #require(try spool.client.summary(id))
        #expect(summary.step == 2 && summary.training?.dataset == "toys")
        #expect(try spool.json("status.json")["active"] != nil)
        spool.daemon.deliver(.changed(folder: .jobs, name: try spool.client.cancel(id)))
        for _ in 0..<5 { _ = try spool.daemon.turn() }
        gate.allow(3)
        try turn(spool) { try spool.client.standing(of: "job.json") == .ended(.failed(id, reason: "cancelled")) }
        gate.allow(100)
        spool.daemon.deliver(.changed(folder: .jobs, name: try spool.client.retry(id)))
        try turn(spool) { try spool.isDone("job.json") }
        #expect(spool.renderer.log.withLock { $0.trainedFrom } == [0, 3])
        #expect(
            try spool.read("out/\(id)/adapter.safetensors") == StubRenderer.expectedAdapter(Self.contents, steps: 6))
    }

    @Test func whoeverIsServedLessThanATrainingComesFirst() throws {
        var machine = QueueMachineTests.machine { $0.turnInterval = 60 }
        func entry(_ name: String, _ sequence: Int, owner: UInt32, priority: Int = 0, dataset: String? = nil) throws
            -> QueueMachine.Entry
        {
            .init(
                id: try QueueMachineTests.id(name), sequence: sequence, owner: owner, priority: priority, subjects: [],
                dataset: dataset, yields: dataset != nil, images: 1)
        }
        _ = machine.handle(.queued(try entry("night", 1, owner: 1, priority: -10, dataset: "toys")), now: 0)
        #expect(machine.handle(.tick, now: 0) == [])
        _ = machine.handle(.dataset("toys", isThere: true), now: 0)
        #expect(QueueMachineTests.begun(machine.handle(.tick, now: 0)) == "night")
        _ = machine.handle(.queued(try entry("another", 2, owner: 1, priority: -10, dataset: "toys")), now: 1)
        #expect(machine.handle(.tick, now: 9e9) == [], "a training of the same owner and priority waits")
        _ = machine.handle(.queued(try entry("day", 3, owner: 2)), now: 10)
        var fresh = machine
        #expect(fresh.handle(.tick, now: 9e9).contains(.yield))
        fresh = machine
        #expect(fresh.handle(.tick, now: 30) == [], "its owner had no more than a turn")
        #expect(fresh.handle(.tick, now: 61) == [.yield])
        #expect(fresh.handle(.tick, now: 62) == [], "once is enough")
        let actions = fresh.handle(.failed(.stopped), now: 63)
        #expect(actions.contains(.release(try QueueMachineTests.id("night"), .init())))
        #expect(QueueMachineTests.begun(actions) == "day")
        // A render of the same owner is not hidden by an older training.
        fresh = machine
        _ = fresh.handle(.queued(try entry("render", 4, owner: 1)), now: 20)
        #expect(fresh.handle(.tick, now: 21) == [.yield])
        // No new work may begin: there is nothing to yield to.
        fresh = machine
        _ = fresh.handle(.mayStart(false), now: 20)
        #expect(fresh.handle(.tick, now: 100) == [])
    }

    // MARK: - Faults at every moment

    /// One daemon until the training is done, or it ends.
    private static func run(
        _ root: String, _ gate: FaultGate, _ clock: TestClock, _ random: TestRandom, mendAfter: Int? = nil
    ) throws -> Scenario.Ending {
        let spool = try TestSpool(root: root, gate: gate.gate, clock: clock, random: random) { $0.environmentPause = 3 }
        do { try spool.start() } catch let error as SpoolError { return gate.isDead ? .killed : .gaveUp(error.code) }
        defer { spool.daemon.abandon() }
        for turn in 0..<300 {
            clock.advance(1)
            if turn == mendAfter { gate.mend() }
            do { _ = try spool.daemon.turn() } catch { return gate.isDead ? .killed : .gaveUp(error.code) }
            if gate.isDead { return .killed }
            if spool.names("lib/jobs/done").count == 1, spool.daemon.isIdle, spool.names("drop/datasets").isEmpty,
                ["claims/jobs", "claims/datasets", "trash", "tmp"].allSatisfy({ spool.names("lib/" + $0).isEmpty })
            {
                return .finished
            }
        }
        return .stuck
    }

    /// Runs into a fault, then to the end, and says what is not as it must be.
    private static func faults(_ fault: FaultGate.Fault, mendAfter: Int? = nil) throws -> (FaultGate, [String]) {
        let spool = try TestSpool()
        try spool.start()
        spool.daemon.abandon()
        try spool.dropDataset("toys", files)
        try spool.dropManifest(manifest)
        let (gate, random) = (FaultGate(fault), TestRandom(UInt64.random(in: 1...UInt64.max)))
        var ending = try run(spool.root, gate, spool.clock, random, mendAfter: mendAfter)
        if ending != .finished { ending = try run(spool.root, FaultGate(), spool.clock, random) }
        var faults = try spool.faults(notes: true)
        if ending != .finished { faults.append("\(ending) after \(gate.hit.map { "\($0)" } ?? "nothing")") }
        if try spool.client.receipt(of: "job.json")?.state != .accepted { faults.append("the job's receipt") }
        if try spool.client.receipt(of: "toys")?.state != .accepted { faults.append("the data set's receipt") }
        let sets = spool.names("out")
        if sets.count != 1 { faults.append("out holds \(sets)") }
        for set in sets
        where try spool.read("out/\(set)/adapter.safetensors") != StubRenderer.expectedAdapter(contents) {
            faults.append("the adapter has other bytes")
        }
        if spool.names("lib/datasets").count != 2 { faults.append("\(spool.names("lib/datasets"))") }
        return (gate, faults)
    }

    @Test func killedBeforeEveryMutatingCall() async throws {
        let (gate, clean) = try Self.faults(.none)
        #expect(clean == [])
        let found = await CampaignTests.each(Array(0..<gate.mutating)) { try Self.faults(.kill(at: $0)).1 }
        print("campaign training kill: \(gate.mutating) kills, \(found.count) faults")
        #expect(found.prefix(10) == [])
    }

    @Test func errorsAtEveryCall() async throws {
        let (gate, _) = try Self.faults(.none)
        let errnos: [Errno] = [.ioError, .noSpace, .tooManyOpenFiles, .readOnlyFileSystem, .interrupted]
        let cases = (0..<gate.all).flatMap { call in
            errnos.enumerated().filter { CampaignTests.isFull || (call + $0.offset) % errnos.count == 0 }.map {
                CampaignTests.ErrnoCase(call: call, errno: $0.element, forGood: CampaignTests.isFull || call % 2 == 0)
            }
        }
        let found = await CampaignTests.each(cases) {
            try Self.faults(
                .fail(at: $0.call, $0.errno, forGood: $0.forGood), mendAfter: $0.forGood ? 20 : nil
            ).1
        }
        print("campaign training errno: \(cases.count) cases, \(found.count) faults")
        #expect(found.prefix(10) == [])
    }
}
