import Glibc
import Spool
import Synchronization
import Testing

/// What one user drops delays nobody else: a hostile neighbour beside fifty jobs, and floods of what is refused.
@Suite struct HostileNeighbourTests {
    private static let neighbour: uid_t = 12_345

    private static func give(_ path: String) {
        lchown(path, neighbour, neighbour)
        if Files.isFolder(path) { for name in Files.names(path) { give(path + "/" + name) } }
    }

    /// Two hundred hostile drops, each by the neighbour.
    private struct Hostility {
        private let staging = Files.temporaryFolder()
        /// Where each lies until it is dropped, below its number.
        private let ready = Files.temporaryFolder()
        let count: Int

        func remove() {
            Files.remove(staging)
            Files.remove(ready)
        }

        init() throws {
            var makers: [@Sendable (String) throws -> Void] = HostileDropTests.hostile.map(\.make)
            func add(_ make: @escaping @Sendable (String) throws -> Void) { makers.append(make) }
            func job(_ name: String, _ text: String) {
                add { try Files.write(Array(text.utf8), $0 + "/drop/jobs/" + name) }
            }
            for number in 0..<10 {
                add { root in
                    mkdir(root + "/drop/references/poison", 0o755)
                    try Files.write(
                        Pictures.png(payload: [UInt8(number), 66]), root + "/drop/references/poison/a.png")
                    try Files.write([], root + "/drop/references/poison/.ready")
                }
                job("key.json", #"{"subject": "none", "prompt": "\#(number)", "idempotency_key": "same"}"#)
                add { try Files.write([], $0 + "/drop/jobs/none.retry") }
                add { try Files.write([], $0 + "/drop/jobs/.claim~\(number)~x.json") }
                let words = String(repeating: "x", count: 1000) + "\", \""
                job(
                    "giant.json",
                    #"{"subject": "none", "prompts": ["\#(String(repeating: words, count: 900))"]}"#)
            }
            for _ in 0..<4 {
                add { root in
                    mkdir(root + "/drop/references/tiny", 0o755)
                    for number in 0..<300 { try Files.write([1], root + "/drop/references/tiny/\(number).png") }
                }
            }
            count = max(200, makers.count)
            for folder in ["/drop", "/drop/jobs", "/drop/references", "/lib"] { mkdir(staging + folder, 0o755) }
            try Files.write([1], staging + "/" + HostileDropTests.secret)
            for number in 0..<count {
                try makers[number % makers.count](staging)
                mkdir(ready + "/\(number)", 0o755)
                for folder in ["jobs", "references"] {
                    rename(staging + "/drop/" + folder, ready + "/\(number)/" + folder)
                    mkdir(staging + "/drop/" + folder, 0o755)
                }
            }
        }

        /// Drops the n-th into a spool, under a name of its own.
        func drop(_ number: Int, into root: String) {
            for folder in ["/jobs/", "/references/"] {
                let from = ready + "/\(number)" + folder
                for name in Files.names(from) {
                    give(from + name)
                    rename(from + name, root + "/drop" + folder + (name.hasPrefix(".") ? "" : "n\(number)-") + name)
                }
            }
        }
    }

    private struct Outcome {
        var done = 0, stubSeconds = 0.0, wallSeconds = 0.0
    }

    /// Fifty jobs, alone or beside the neighbour. Time passes in the stub's work, a second per step, and where there is none.
    private static func fifty(beside hostility: Hostility?) throws -> Outcome {
        let spool = try TestSpool()
        let clock = spool.clock
        spool.renderer.script.withLock {
            $0.onStep = { _, _ in
                clock.advance(1)
                // Real time too, so that the wall's has something to be compared with.
                if CampaignTests.isFull { usleep(200_000) }
            }
            $0.onEncode = { request throws(RendererError) in
                clock.advance(1)
                if request.subject.hasSuffix("poison") { throw .transient(message: "poison") }
            }
        }
        try spool.start()
        try spool.dropReferences("dog")
        for number in 0..<50 {
            try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "seed": 1}"#, "job\(number).json")
        }
        let (start, began) = (clock.clock.monotonic(), SpoolClock.system.monotonic())
        var dropped = 0
        for _ in 0..<5000 where spool.names("out").count < 50 {
            for _ in 0..<4 {
                guard let hostility, dropped < hostility.count else { break }
                hostility.drop(dropped, into: spool.root)
                spool.daemon.deliver(.lost(reason: "so that it looks at once"))
                dropped += 1
            }
            _ = try spool.daemon.turn()
            if spool.daemon.isIdle { clock.advance(1) }
        }
        let outcome = Outcome(
            done: spool.names("out").count, stubSeconds: clock.clock.monotonic() - start,
            wallSeconds: SpoolClock.system.monotonic() - began)
        if hostility != nil {
            // Nothing of it stays under way.
            try spool.settle(turns: 300, step: 2)
            #expect(spool.names("lib/tmp") == [])
            #expect(spool.names("lib/trash") == [])
            #expect(spool.names("lib/claims/jobs") == [])
            #expect(spool.names("lib/claims/references") == [])
            #expect(try spool.faults() == [])
        }
        return outcome
    }

    @Test(.enabled(if: getuid() == 0, "drops of two users need root"))
    func fiftyJobsBesideTwoHundredHostileDrops() throws {
        let hostility = try Hostility()
        defer { hostility.remove() }
        let alone = try Self.fifty(beside: nil)
        let beside = try Self.fifty(beside: hostility)
        let (stub, wall) = (beside.stubSeconds / alone.stubSeconds, beside.wallSeconds / alone.wallSeconds)
        print(
            "campaign neighbour: \(hostility.count) hostile drops, \(beside.done) of 50 jobs done, "
                + "\(stub) times the stub's time, \(wall) times the wall's (\(alone.wallSeconds) s)")
        #expect(alone.done == 50)
        #expect(beside.done == 50)
        #expect(stub <= 1.5)
        if CampaignTests.isFull { #expect(wall <= 1.5) }
    }

    // MARK: - Floods

    /// Counts calls from a stop on, and makes syncs slow.
    private final class Watch: Sendable {
        private let state = Mutex((calls: 0, atStop: nil as Int?))
        private let stopAt: Int
        private let syncMicroseconds: UInt32
        private let stop = Mutex<(@Sendable () -> Void)?>(nil)

        init(stopAt: Int, syncMicroseconds: UInt32 = 0) {
            self.stopAt = stopAt
            self.syncMicroseconds = syncMicroseconds
        }

        func onStop(_ body: @escaping @Sendable () -> Void) { stop.withLock { $0 = body } }
        var callsSinceStop: Int? { state.withLock { state in state.atStop.map { state.calls - $0 } } }

        var gate: SystemGate {
            SystemGate { [self] call in
                let isMoment = state.withLock { state in
                    state.calls += 1
                    guard state.calls >= stopAt, state.atStop == nil, stop.withLock({ $0 != nil }) else { return false }
                    state.atStop = state.calls
                    return true
                }
                if isMoment { stop.withLock { $0 }?() }
                switch call {
                case .sync, .syncDirectory, .syncFileSystem: if syncMicroseconds > 0 { usleep(syncMicroseconds) }
                default: break
                }
                return .proceed
            }
        }
    }

    private static func flood(_ root: String, _ count: Int) throws {
        for number in 0..<count {
            switch number % 4 {
            case 0: try Files.write([1], root + "/drop/jobs/\(number).txt")
            case 1: try Files.write(Array("[]".utf8), root + "/drop/jobs/\(number).json")
            case 2: try Files.write([], root + "/drop/jobs/none\(number).cancel")
            default: symlink("/dev/zero", root + "/drop/jobs/\(number)-link.json")
            }
        }
    }

    @Test func aFloodOfRefusedDropsLeavesNothingUnderWay() throws {
        let count = CampaignTests.isFull ? 10_000 : 200
        let spool = try TestSpool { $0.rescanInterval = 5 }
        try spool.start()
        try Self.flood(spool.root, count)
        for _ in 0..<count where !spool.names("drop/jobs").isEmpty || !spool.names("lib/claims/jobs").isEmpty {
            spool.clock.advance(1)
            _ = try spool.daemon.turn()
        }
        // Once more: what is kept of a name does not pile up.
        try Self.flood(spool.root, count / 10)
        try spool.settle(turns: 30)
        for folder in ["lib/tmp", "lib/trash", "lib/claims/jobs", "lib/leftovers", "drop/jobs"] {
            #expect(spool.names(folder) == [], "\(folder)")
        }
        #expect(spool.names("receipts").count == count)
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x"}"#)
        try spool.settle(turns: 5)
        #expect(spool.names("out").count == 1)
        #expect(try spool.faults() == [])
        print("campaign flood of refusals: \(count) drops")
    }

    /// However many drops wait, a stop is heard after one.
    @Test(
        arguments: CampaignTests.isFull
            ? [1000, 3000, 10_000, 12_000, 15_000, 20_000, 30_000, 60_000] : [100, 300, 700, 1500, 2200, 3000])
    func aStopIsHeardInAFlood(_ moment: Int) throws {
        let watch = Watch(stopAt: moment)
        let spool = try TestSpool(gate: watch.gate)
        try spool.start()
        try Self.flood(spool.root, CampaignTests.isFull ? 10_000 : 300)
        let daemon = spool.daemon
        watch.onStop { daemon.requestStop() }
        while try spool.daemon.turn() { spool.clock.advance(1) }
        let calls = try #require(watch.callsSinceStop)
        print("campaign flood: a stop at call \(moment) is heard within \(calls) calls")
        #expect(calls < 200)
    }

    @Test func aStopIsHeardWhereEverySyncTakesThirtyMilliseconds() throws {
        let watch = Watch(stopAt: 2500, syncMicroseconds: 30_000)
        let spool = try TestSpool(gate: watch.gate)
        try spool.start()
        try Self.flood(spool.root, 400)
        let moment = Mutex(0.0)
        let daemon = spool.daemon
        watch.onStop {
            moment.withLock { $0 = SpoolClock.system.monotonic() }
            daemon.requestStop()
        }
        while try spool.daemon.turn() { spool.clock.advance(1) }
        let seconds = SpoolClock.system.monotonic() - moment.withLock { $0 }
        #expect(watch.callsSinceStop != nil)
        print("campaign flood: a stop with slow syncs takes \(seconds) s")
        #expect(seconds < 20)
    }
}
