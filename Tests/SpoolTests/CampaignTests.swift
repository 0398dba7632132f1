import Glibc
import Spool
import Synchronization
import SystemPackage
import Testing

/// Fault campaigns. The short versions run always; DREAMCACHE_CAMPAIGN=full runs the long ones.
@Suite struct CampaignTests {
    static let isFull = getenv("DREAMCACHE_CAMPAIGN").map { String(cString: $0) } == "full"

    /// Runs cases on as many threads as there are, and returns what each found wrong.
    static func each<Case: Sendable>(
        _ cases: [Case], _ body: @Sendable @escaping (Case) throws -> [String]
    ) async -> [String] {
        await withTaskGroup(of: [String].self) { group in
            let share = 4
            for offset in 0..<share {
                group.addTask {
                    var found: [String] = []
                    for index in stride(from: offset, to: cases.count, by: share) {
                        do {
                            found += try body(cases[index]).map { "\(cases[index]): \($0)" }
                        } catch {
                            found.append("\(cases[index]): \(error)")
                        }
                    }
                    return found
                }
            }
            return await group.reduce(into: []) { $0 += $1 }
        }
    }

    static func cleanRun() throws -> FaultGate {
        let scenario = try Scenario()
        defer { scenario.remove() }
        let gate = FaultGate()
        #expect(try scenario.run(gate) == .finished)
        #expect(try scenario.faults() == [])
        #expect(try scenario.attempts() == 1)
        return gate
    }

    @Test func killedBeforeEveryMutatingCallNothingIsLostOrDoneTwice() async throws {
        let count = try Self.cleanRun().mutating
        let found = await Self.each(Array(0..<count)) { n in
            let scenario = try Scenario()
            defer { scenario.remove() }
            guard try scenario.run(FaultGate(.kill(at: n))) == .killed else { return ["was not killed"] }
            let started = SpoolClock.system.monotonic()
            let ending = try scenario.run(FaultGate())
            var faults = try scenario.faults()
            if ending != .finished { faults.append("\(ending)") }
            if SpoolClock.system.monotonic() - started > 2 { faults.append("took more than 2 s") }
            return faults
        }
        print("campaign kill: \(count) kills, \(found.count) faults")
        #expect(found == [])
    }

    @Test func killedAgainWhileRecovering() async throws {
        let count = try Self.cleanRun().mutating
        let pairs = Mutex(0)
        // The short version takes every seventh first kill and every fifth second one.
        let found = await Self.each(Array(stride(from: 0, to: count, by: Self.isFull ? 1 : 7))) { n in
            var found: [String] = []
            for m in stride(from: Self.isFull ? 0 : n % 5, to: Int.max, by: Self.isFull ? 1 : 5) {
                let scenario = try Scenario()
                defer { scenario.remove() }
                guard try scenario.run(FaultGate(.kill(at: n))) == .killed else { return ["was not killed"] }
                let second = try scenario.run(FaultGate(.kill(at: m)))
                // The recovery needed fewer calls than that: all second kills are done.
                if second == .finished { break }
                let ending = try scenario.run(FaultGate())
                pairs.withLock { $0 += 1 }
                found += try scenario.faults().map { "then \(m): \($0)" }
                if ending != .finished { found.append("then \(m): \(ending)") }
            }
            return found
        }
        print("campaign kill twice: \(pairs.withLock { $0 }) pairs, \(found.count) faults")
        #expect(found == [])
    }

    static let errnos: [Errno] = [
        .ioError, .noSpace, .diskQuotaExceeded, .readOnlyFileSystem, .tooManyOpenFiles, .permissionDenied, .interrupted,
    ]

    struct ErrnoCase: Sendable, CustomStringConvertible {
        let call: Int, errno: Errno, forGood: Bool
        var description: String { "\(errno) at call \(call)\(forGood ? " and on" : "")" }
    }

    @Test func everyErrorAtEveryCall() async throws {
        let count = try Self.cleanRun().all
        var cases: [ErrnoCase] = []
        for call in 0..<count {
            for (index, errno) in Self.errnos.enumerated() where Self.isFull || (call + index) % 7 == 0 {
                for forGood in [false, true] where Self.isFull || forGood == ((call / 7) % 2 == 0) {
                    cases.append(ErrnoCase(call: call, errno: errno, forGood: forGood))
                }
            }
        }
        let found = await Self.each(cases) { fault in
            let scenario = try Scenario()
            defer { scenario.remove() }
            let gate = FaultGate(.fail(at: fault.call, fault.errno, forGood: fault.forGood))
            var ending = try scenario.run(gate, mendAfter: fault.forGood ? 20 : nil)
            var faults: [String] = []
            switch ending {
            case .finished:
                // The daemon got over it by itself, and no attempt was consumed.
                let attempts = try scenario.attempts()
                if attempts != 1 { faults.append("\(attempts ?? 0) attempts") }
            case .gaveUp:
                // It could not go on, which is for good only, or at its start; the next one can.
                ending = try scenario.run(FaultGate())
            case .killed, .stuck:
                // A drop the daemon may not read is refused, and kept.
                if fault.errno == .permissionDenied, try Self.isRefused(scenario) { return [] }
            }
            if ending != .finished { faults.append("\(ending) after \(gate.hit.map { "\($0)" } ?? "")") }
            return try faults + scenario.faults()
        }
        print("campaign errno: \(cases.count) cases, \(found.count) faults")
        #expect(found.prefix(10) == [])
    }

    private static func isRefused(_ scenario: Scenario) throws -> Bool {
        let client = try SpoolClient(root: scenario.root)
        for drop in ["dog", "job.json"] {
            guard let receipt = try client.receipt(of: drop), receipt.state == .rejected, let kept = receipt.keptAt
            else {
                continue
            }
            return Files.exists(scenario.root + "/" + kept) && receipt.message.contains("cannot be read")
        }
        return false
    }

    @Test func unsyncedOperationsLostReorderedAndTorn() async throws {
        let scenario = try Scenario()
        defer { scenario.remove() }
        var model = try CrashModel(root: scenario.root)
        let recording = RecordingGate()
        let spool = try scenario.daemon(recording.gate)
        try spool.start()
        for _ in 0..<60 {
            scenario.clock.advance(1)
            _ = try spool.daemon.turn()
        }
        spool.daemon.abandon()
        #expect(try scenario.faults() == [])
        // One model for each moment; a struct, so that a copy is a snapshot.
        var moments: [(Int, CrashModel)] = []
        for (index, call) in recording.recorded.enumerated() {
            model.record(call)
            if model.hasPending, Self.isFull || index % 4 == 0 { moments.append((index, model)) }
        }
        let repetitions = Self.isFull ? 60 : 4
        let snapshots = moments
        let found = await Self.each(Array(0..<snapshots.count * repetitions)) { number in
            let (index, model) = snapshots[number / repetitions]
            let root = Files.temporaryFolder()
            let cut = Scenario(root: root)
            defer { cut.remove() }
            let random = TestRandom(UInt64(number + 1))
            try model.cut(at: root, random: random.next)
            let ending = try cut.run(FaultGate())
            let faults = try cut.faults() + (ending == .finished ? [] : ["\(ending)"])
            return faults.map { "cut after call \(index), \(recording.recorded[index]): \($0)" }
        }
        print(
            "campaign power cut: \(snapshots.count * repetitions) states of \(snapshots.count) moments, \(found.count) faults"
        )
        #expect(found.prefix(10) == [])
    }

    @Test func everyWriteCutShort() async throws {
        let found = await Self.each(Array(0..<60)) { n in
            let scenario = try Scenario()
            defer { scenario.remove() }
            let ending = try scenario.run(FaultGate(.shortWrite(at: n)))
            return try scenario.faults() + (ending == .finished ? [] : ["\(ending)"])
        }
        #expect(found == [])
    }
}
