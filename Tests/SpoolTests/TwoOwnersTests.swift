import Glibc
import Spool
import Synchronization
import SystemPackage
import Testing

/// Further errors of the machine, each at every call that can return it, with jobs of two owners.
@Suite struct TwoOwnersTests {
    /// An error at the n-th call, or from there on, of those that can return it.
    struct Fault: Sendable, CustomStringConvertible {
        let call: Int, errno: Errno, forGood: Bool
        var description: String { "\(errno) at call \(call)\(forGood ? " and on" : "")" }
    }

    /// Errors, and whether they may last; a spool over two file systems, or names too long, do not mend themselves.
    static let errnos: [(errno: Errno, mayLast: Bool)] = [
        (.noMemory, true), (.resourceTemporarilyUnavailable, true), (.resourceBusy, true), (.staleNFSFileHandle, true),
        (.improperLink, false), (.fileNameTooLong, false), (.noSuchFileOrDirectory, false),
    ]

    private static func canFail(_ call: SystemCall, _ errno: Errno) -> Bool {
        switch (errno, call) {
        case (.noMemory, .close), (.staleNFSFileHandle, .close): false
        case (.noMemory, _), (.staleNFSFileHandle, _): true
        case (.resourceTemporarilyUnavailable, .openForReading), (.resourceTemporarilyUnavailable, .read),
            (.resourceTemporarilyUnavailable, .lock), (.resourceTemporarilyUnavailable, .list):
            true
        case (.resourceBusy, .rename), (.resourceBusy, .unlink), (.resourceBusy, .removeDirectory): true
        case (.improperLink, .rename): true
        case (.fileNameTooLong, .create), (.fileNameTooLong, .rename), (.fileNameTooLong, .makeDirectory): true
        // What lies in a drop folder its owner may take away at any moment.
        case (.noSuchFileOrDirectory, .openForReading(let path)), (.noSuchFileOrDirectory, .status(let path)),
            (.noSuchFileOrDirectory, .rename(let path, _, _)):
            path.string.hasPrefix("drop/jobs/") || path.string.hasPrefix("drop/references/")
        default: false
        }
    }

    /// Fails calls, and notes those of a run.
    private final class Gate: Sendable {
        private let fault: Fault?
        private let state = Mutex((calls: [SystemCall](), isMended: false))

        init(_ fault: Fault?) { self.fault = fault }
        func mend() { state.withLock { $0.isMended = true } }
        var calls: [SystemCall] { state.withLock { $0.calls } }

        var gate: SystemGate {
            SystemGate { [self] call in
                state.withLock { state in
                    state.calls.append(call)
                    let index = state.calls.count - 1
                    guard let fault, !state.isMended, index == fault.call || fault.forGood && index > fault.call,
                        canFail(call, fault.errno)
                    else { return .proceed }
                    return .fail(fault.errno)
                }
            }
        }
    }

    private struct Run {
        let root = Files.temporaryFolder()
        let clock = TestClock()
        let random = TestRandom(UInt64.random(in: 1...UInt64.max))

        init() throws {
            let spool = try TestSpool(root: root, clock: clock, random: random)
            try spool.start()
            spool.daemon.abandon()
            try spool.dropReferences("dog", ["a.png": Pictures.png()])
            for (index, drop) in ["a.json", "b.json"].enumerated() {
                try spool.dropManifest(#"{"subject": "dog", "prompts": ["a", "b"], "seed": 3}"#, drop)
                if getuid() == 0, index == 1 { _ = chown(spool.path("drop/jobs/" + drop), 12_345, 12_345) }
            }
        }

        /// Whether a daemon brings all to its end; nil when it gives up.
        func daemon(_ gate: Gate, mendAfter: Int? = nil) throws -> Bool? {
            do {
                let spool = try TestSpool(
                    root: root, gate: gate.gate, script: .init(steps: 1), clock: clock, random: random
                ) {
                    $0.environmentPause = 3
                    $0.pressureInterval = 2
                    $0.rescanInterval = 10
                }
                try spool.start()
                defer { spool.daemon.abandon() }
                for turn in 0..<400 {
                    clock.advance(1)
                    if turn == mendAfter { gate.mend() }
                    _ = try spool.daemon.turn()
                    if isFinished, spool.daemon.isIdle { return true }
                }
                return false
            } catch is SpoolError {
                return nil
            }
        }

        private var isFinished: Bool {
            Files.names(root + "/lib/jobs/done").count == 2
                && [
                    "drop/jobs", "drop/references", "lib/claims/jobs", "lib/claims/references", "lib/leftovers",
                    "lib/tmp",
                    "lib/trash",
                ].allSatisfy { Files.names(root + "/" + $0).isEmpty }
        }

        func faults() throws -> [String] {
            let client = try SpoolClient(root: root)
            var faults = try client.findings().filter { $0.kind != .informing }.map(\.description)
            let jobs = try client.list()
            if jobs.map(\.state) != [.done, .done] { faults.append("\(jobs.map(\.state))") }
            for job in jobs where job.state == .done {
                let out = root + "/out/\(job.id)/"
                let result = try JSONReader.read(try Files.read(out + "result.json"))
                if result["attempts"]?.integer != 1 { faults.append("\(job.drop ?? ""): an attempt was consumed") }
                for (index, prompt) in ["a", "b"].enumerated()
                where try Files.read(out + "000\(index).png")
                    != StubRenderer.expected(.init(index: index, prompt: prompt, seed: 3 + index), steps: 1)
                {
                    faults.append("\(job.drop ?? ""): image \(index) has other bytes")
                }
            }
            for drop in ["a.json", "b.json", "dog"] where try client.receipt(of: drop)?.state != .accepted {
                faults.append("the receipt of \(drop)")
            }
            return faults
        }
    }

    @Test func everyLikelyErrorWithTwoOwners() async throws {
        let clean = try Run()
        defer { Files.remove(clean.root) }
        let gate = Gate(nil)
        #expect(try clean.daemon(gate) == true)
        #expect(try clean.faults() == [])
        var cases: [Fault] = []
        for (call, made) in gate.calls.enumerated() {
            for (index, (errno, mayLast)) in Self.errnos.enumerated() where Self.canFail(made, errno) {
                for forGood in [false, true] where mayLast || !forGood {
                    let isChosen = (call * 7 + index * 2 + (forGood ? 1 : 0)) % 31 == 0
                    if CampaignTests.isFull || isChosen {
                        cases.append(Fault(call: call, errno: errno, forGood: forGood))
                    }
                }
            }
        }
        let found = await CampaignTests.each(cases) { fault in
            let run = try Run()
            defer { Files.remove(run.root) }
            var isDone = try run.daemon(Gate(fault), mendAfter: fault.forGood ? 20 : nil)
            // What it cannot go on without ends it at its start, and the next one can.
            if isDone == nil { isDone = try run.daemon(Gate(nil)) }
            return try run.faults() + (isDone == true ? [] : ["not finished"])
        }
        print("campaign errno with two owners: \(cases.count) cases, \(found.count) faults")
        #expect(found.prefix(10) == [])
    }
}
