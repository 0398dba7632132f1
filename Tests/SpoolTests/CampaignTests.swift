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
            case .killed, .exited, .stuck:
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

    enum Signal: String, Sendable, CaseIterable { case term = "SIGTERM", hup = "SIGHUP", both }

    @Test(arguments: Signal.allCases) func askedToStopOrReloadAtEveryMoment(_ signal: Signal) async throws {
        let count = try Self.cleanRun().mutating
        let found = await Self.each(Array(stride(from: 0, to: count, by: Self.isFull ? 1 : 3))) { n in
            let scenario = try Scenario()
            defer { scenario.remove() }
            var ending = try scenario.run(interruptedAt: n) { daemon, configuration in
                if signal != .term { daemon.reload(configuration: configuration) }
                if signal != .hup { daemon.requestStop() }
            }
            var faults: [String] = []
            if signal == .hup, ending != .finished { faults.append("\(ending)") }
            if ending == .exited {
                let active = Files.names(scenario.root + "/lib/jobs/active")
                if !active.isEmpty { faults.append("left \(active) in active") }
                let status = try SpoolClient(root: scenario.root).status()
                if status?["state"]?.string != "stopped" { faults.append("status.json says \(status?.text() ?? "")") }
                ending = try scenario.run(FaultGate())
            }
            if ending != .finished { faults.append("then \(ending)") }
            if try scenario.attempts() != 1 { faults.append("an attempt was consumed") }
            return try faults + scenario.faults()
        }
        print("campaign \(signal.rawValue): \(count) moments, \(found.count) faults")
        #expect(found == [])
    }

    struct RequestCase: Sendable, CustomStringConvertible {
        let verb: String, kill: Int
        var description: String { "\(verb), killed at \(kill)" }
    }

    @Test func killedWhileCancellingAndRetrying() async throws {
        let cases = ["cancel", "retry"].flatMap { verb in (0..<60).map { RequestCase(verb: verb, kill: $0) } }
        let kills = Mutex(0)
        let found = await Self.each(cases) { one in
            let root = Files.temporaryFolder()
            defer { Files.remove(root) }
            let clock = TestClock()
            let random = TestRandom(UInt64(one.kill + 1))
            func turns(_ gate: FaultGate) throws {
                let spool = try TestSpool(root: root, gate: gate.gate, clock: clock, random: random)
                defer { spool.daemon.abandon() }
                do {
                    try spool.start()
                    for _ in 0..<5 where !gate.isDead {
                        clock.advance(1)
                        _ = try spool.daemon.turn()
                    }
                } catch let error as SpoolError where error.code == .processStopped {
                    return
                }
            }
            try turns(FaultGate())
            try Files.write(Array(#"{"subject": "nobody", "prompt": "x"}"#.utf8), root + "/drop/jobs/job.json")
            try turns(FaultGate())
            let client = try SpoolClient(root: root)
            let id = try #require(try client.receipt(of: "job.json")).id
            if one.verb == "retry" {
                _ = try client.cancel(id)
                try turns(FaultGate())
            }
            let drop = one.verb == "cancel" ? try client.cancel(id) : try client.retry(id)
            let gate = FaultGate(.kill(at: one.kill))
            try turns(gate)
            if gate.isDead { kills.withLock { $0 += 1 } }
            try turns(FaultGate())
            var faults = try client.findings().map(\.description)
            let expected = one.verb == "cancel" ? JobState.failed : .queued
            let jobs = try client.list()
            if jobs.map(\.state) != [expected] { faults.append("\(jobs.map(\.state))") }
            if try client.receipt(of: drop)?.state != .accepted { faults.append("no answer") }
            return faults
        }
        print("campaign requests: \(kills.withLock { $0 }) kills, \(found.count) faults")
        #expect(found == [])
    }

    struct SmallDisk: Sendable, CustomStringConvertible {
        let option: String, unit: Int, spare: Int
        var description: String { "\(spare) of \(option) to spare" }
    }

    /// A real file system that fills up, in bytes or in inodes, at ever later moments, and then grows. It needs the right
    /// to mount.
    @Test(.enabled(if: Mount.isAllowed, "it mounts a file system, which needs root"))
    func aSmallDiskFillsUpAndGrows() async throws {
        let cases = [("size", 4096), ("nr_inodes", 1)].flatMap { option, unit in
            stride(from: 0, to: Self.isFull ? 40 : 24, by: Self.isFull ? 1 : 3).map {
                SmallDisk(option: option, unit: unit, spare: $0)
            }
        }
        let stuck = Mutex(0)
        let found = await Self.each(cases) { disk in
            let mount = try Mount()
            defer { mount.remove() }
            let scenario = try Scenario(at: mount.path)
            // The least the kernel allows is what is in use.
            guard let used = (1..<1000).first(where: { mount.limit("\(disk.option)=\($0 * disk.unit)") }),
                mount.limit("\(disk.option)=\((used + disk.spare) * disk.unit)")
            else { return ["cannot shrink the disk"] }
            var ending = try scenario.run(FaultGate(), turns: 60)
            if ending != .finished { stuck.withLock { $0 += 1 } }
            guard mount.limit("size=10M,nr_inodes=10000") else { return ["cannot grow the disk"] }
            if ending != .finished { ending = try scenario.run(FaultGate()) }
            return try scenario.faults() + (ending == .finished ? [] : ["\(ending)"])
        }
        print("campaign small disk: \(cases.count) sizes, \(stuck.withLock { $0 }) too small, \(found.count) faults")
        #expect(found.prefix(10) == [])
    }
}

/// A tmpfs of its own.
final class Mount: Sendable {
    let path = Files.temporaryFolder()

    init() throws { try #require(mount("tmpfs", path, "tmpfs", 0, "size=10M") == 0) }

    /// False when more is in use already.
    func limit(_ options: String) -> Bool { mount("tmpfs", path, "tmpfs", UInt(MS_REMOUNT), options) == 0 }

    func remove() {
        umount2(path, Int32(MNT_DETACH))
        rmdir(path)
    }

    static let isAllowed: Bool = {
        guard let mount = try? Mount() else { return false }
        mount.remove()
        return true
    }()
}
