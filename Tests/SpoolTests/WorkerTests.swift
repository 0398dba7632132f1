import Spool
import Synchronization
import SystemPackage
import Testing

/// Finding 28: want of a thread is an error like any other.
@Suite struct WorkerTests {
    @Test func aThreadThatCannotBeHadIsAnError() {
        // No address space has room for such a stack.
        let worker = Worker.thread(name: "huge", stackSize: 1 << 62)
        let error = #expect(throws: SpoolError.self) { try worker.run {} }
        #expect(error?.operation == "pthread_create")
        #expect(error?.errno == .resourceTemporarilyUnavailable, "\(String(describing: error))")
    }

    @Test func workWaitsForAThread() throws {
        let failures = Mutex(3)
        let worker = Worker { work throws(SpoolError) in
            let fails = failures.withLock { left in
                left -= 1
                return left >= 0
            }
            if fails { throw SpoolError(.system(.resourceTemporarilyUnavailable), operation: "pthread_create") }
            work()
        }
        let spool = try TestSpool(worker: worker)
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "seed": 1}"#)
        try spool.settle(turns: 300)
        let id = try spool.receipt("job.json").id
        #expect(spool.exists("out/\(id)/0000.png"))
        // Nobody's fault, and so no attempt.
        #expect(try spool.json("lib/jobs/done/\(id)/job.json")["attempts"]?["total"]?.integer == 1)
        #expect(try spool.faults() == [])
        #expect(failures.withLock { $0 } < 0)
    }
}
