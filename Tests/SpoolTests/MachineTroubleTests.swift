import Glibc
import Spool
import Synchronization
import Testing

/// Trouble of the machine or of a model holds jobs and fails none.
@Suite struct MachineTroubleTests {
    @Test func aModelThatIsMissingHoldsItsJobsAndNoOthers() throws {
        let isMissing = Mutex(true)
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onStep = { _, _ in }
            $0.onRender = { request throws(RendererError) in
                if request.manifest.model == "gone", isMissing.withLock({ $0 }) {
                    throw .unavailable(message: "gone.ckpt: no such file")
                }
            }
        }
        try spool.start()
        try spool.dropReferences("dog")
        for number in 0..<6 {
            try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "model": "gone"}"#, "gone\(number).json")
        }
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "model": "here"}"#, "here.json")
        try spool.settle(turns: 20)
        #expect(try spool.isDone("here.json"))
        #expect(spool.names("lib/jobs/queued").count == 6)
        for number in 0..<6 {
            #expect(try spool.receipt("gone\(number).json").message == "held: gone.ckpt: no such file")
        }
        isMissing.withLock { $0 = false }
        try spool.settle(turns: 700)
        for number in 0..<6 {
            #expect(try spool.isDone("gone\(number).json"))
            let id = try spool.receipt("gone\(number).json").id
            #expect(try spool.json("out/\(id)/result.json")["attempts"]?.integer == 1)
        }
    }

    /// What was cut of a prompt is said for as long as the receipt stands, also when that is written again.
    @Test func whatWasNotedOfAManifestStaysInItsReceipt() throws {
        let isMissing = Mutex(true)
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.notes = ["the prompt is cut"]
            $0.onRender = { _ throws(RendererError) in
                if isMissing.withLock({ $0 }) { throw .unavailable(message: "gone.ckpt: no such file") }
            }
        }
        try spool.start()
        try spool.dropManifest(TestSpool.job)
        try spool.settle(turns: 3)
        func receipt(_ message: String) throws {
            let receipt = try spool.receipt("job.json")
            #expect(receipt.message == message && receipt.notes == ["the prompt is cut"])
        }
        #expect(try spool.receipt("job.json").notes == ["the prompt is cut"])
        try spool.dropReferences("dog")
        try spool.settle(turns: 20)
        try receipt("held: gone.ckpt: no such file")
        // Lost, it is made anew.
        unlink(spool.path("receipts/job.json.json"))
        isMissing.withLock { $0 = false }
        try spool.settle(turns: 700)
        try receipt("started")
    }

    @Test func troubleOfTheMachineHoldsEverythingAndIsProbedWithPatience() throws {
        let isTroubled = Mutex(true)
        let tries = Mutex(0)
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onRender = { _ throws(RendererError) in
                tries.withLock { $0 += 1 }
                if isTroubled.withLock({ $0 }) { throw .environment(message: "too many open files") }
            }
        }
        try spool.start()
        try spool.dropReferences("dog")
        for number in 0..<8 { try spool.dropManifest(TestSpool.job, "\(number).json") }
        try spool.settle(turns: 300)
        #expect(tries.withLock { $0 } < 20, "probed \(tries.withLock { $0 }) times in 300 s")
        #expect(spool.names("lib/jobs/queued").count == 8)
        isTroubled.withLock { $0 = false }
        try spool.settle(turns: 900)
        for number in 0..<8 {
            let id = try spool.receipt("\(number).json").id
            #expect(try spool.json("out/\(id)/result.json")["attempts"]?.integer == 1)
        }
    }

    @Test func aSpoolThatWasMovedHoldsItsJobs() throws {
        let spool = try TestSpool()
        let system = try SystemCalls(root: spool.root)
        spool.renderer.script.withLock {
            $0.onRender = { request throws(RendererError) in
                // As a renderer finds it: absolute paths lead nowhere.
                if !system.isInPlace { throw .rejected(field: nil, message: "no such file") }
            }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle(turns: 3)
        rename(spool.root, spool.root + "-moved")
        try Files.write(Array(TestSpool.job.utf8), spool.root + "-moved/drop/jobs/job.json")
        try spool.settle(turns: 40)
        rename(spool.root + "-moved", spool.root)
        try spool.settle(turns: 40)
        #expect(try spool.isDone("job.json"))
        #expect(try spool.json("out/\(try spool.receipt("job.json").id)/result.json")["attempts"]?.integer == 1)
    }

    @Test(arguments: SpoolConfiguration.ModelChange.allCases)
    func aModelThatChangesInTheMiddleOfASetIsNoticed(_ policy: SpoolConfiguration.ModelChange) throws {
        let adapter = Mutex("a")
        let spool = try TestSpool { $0.onModelChange = policy }
        spool.renderer.script.withLock {
            $0.pictureIdentity = { adapter.withLock { $0 } }
            $0.onStep = { image, _ in if image == 1 { adapter.withLock { $0 = "b" } } }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompts": ["a", "b", "c"], "seed": 1}"#)
        try spool.settle(turns: 10)
        let id = try spool.receipt("job.json").id
        if policy == .hold {
            #expect(try spool.receipt("job.json").message.hasPrefix("held: "))
            spool.renderer.script.withLock { $0.onStep = { _, _ in } }
            adapter.withLock { $0 = "a" }
            spool.daemon.reload(configuration: spool.configuration)
            try spool.settle(turns: 10)
        }
        let result = try spool.json("out/\(id)/result.json")
        #expect((result["restarts"]?.array?.count ?? 0) == (policy == .restart ? 1 : 0))
        #expect(result["attempts"]?.integer == 1)
        #expect(try spool.faults() == [])
    }
}
