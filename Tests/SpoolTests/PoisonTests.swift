import Spool
import Synchronization
import Testing

/// What ends the daemon, or fails, each time it is tried is given up, and nobody waits for it.
@Suite struct PoisonTests {
    /// Ends the process when references are about to be encoded, as the kernel does that is out of memory.
    @Test func referencesThatEndTheDaemonAreRefusedAndNobodyWaitsForThem() throws {
        let death = StickyDeath { call in
            if case .create(let path) = call { path.string.hasSuffix("poison.dcache") } else { false }
        }
        let spool = try TestSpool(gate: death.gate)
        try spool.start()
        try spool.dropReferences("poison", ["a.png": Pictures.png(payload: [6])])
        let first = #expect(throws: SpoolError.self) { try spool.settle(turns: 5) }
        #expect(first?.code == .processStopped)
        spool.crash()
        death.revive()
        try spool.dropReferences("dog")
        try spool.dropManifest(TestSpool.job)
        try spool.start()
        // Others go first now.
        try spool.settle(turns: 5)
        #expect(try spool.isDone("job.json"))
        var deaths = 1
        for _ in 0..<10 where try spool.receipt("poison").state != .rejected {
            do {
                try spool.settle(turns: 200)
            } catch let error as SpoolError where error.code == .processStopped {
                deaths += 1
                spool.crash()
                death.revive()
                try spool.start()
            }
        }
        #expect(deaths == 3)
        #expect(try spool.receipt("poison").state == .rejected)
        #expect(try spool.receipt("poison").message.contains("3 times"))
        #expect(try spool.faults() == [])
    }

    @Test func anEncodingThatFailsIsTriedThrice() throws {
        let spool = try TestSpool()
        let tries = Mutex(0)
        spool.renderer.script.withLock {
            $0.onEncode = { _ throws(RendererError) in
                tries.withLock { $0 += 1 }
                throw .transient(message: "out of luck")
            }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle(turns: 600)
        #expect(tries.withLock { $0 } == 3)
        #expect(try spool.receipt("dog").message == "3 attempts to encode it failed; the last: out of luck")
    }

    @Test func aClaimThatEndsTheDaemonIsRefusedAndOthersAreTaken() throws {
        let death = StickyDeath { call in
            if case .openForReading(let path) = call {
                path.string.hasPrefix("lib/claims") && path.string.hasSuffix("poison.json")
            } else {
                false
            }
        }
        let spool = try TestSpool(gate: death.gate)
        try spool.start()
        try spool.dropManifest(TestSpool.job, "poison.json")
        try spool.dropManifest(TestSpool.job, "aaa.json")
        try spool.dropManifest(TestSpool.job, "zzz.json")
        var deaths = 0
        while deaths < 20, !spool.exists("receipts/poison.json.json") {
            do { try spool.settle(turns: 30) } catch let error as SpoolError where error.code == .processStopped {
                deaths += 1
                spool.crash()
                death.revive()
                try spool.start()
            }
        }
        #expect(deaths == 5)
        #expect(try spool.receipt("poison.json").state == .rejected)
        #expect(try spool.receipt("poison.json").message.contains("without coming to an end"))
        for name in ["aaa.json", "zzz.json"] { #expect(try spool.receipt(name).state == .waiting) }
    }
}
