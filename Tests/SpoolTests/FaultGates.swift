import Spool
import Synchronization
import SystemPackage

/// Counts system calls and spoils some of them.
final class FaultGate: Sendable {
    enum Fault: Sendable, Equatable {
        case none
        /// The process ends instead of making the n-th mutating call, counted from 0.
        case kill(at: Int)
        /// The n-th call of any kind fails so, once or from then on.
        case fail(at: Int, Errno, forGood: Bool)
        /// The n-th write is cut to one byte.
        case shortWrite(at: Int)
    }

    private struct State: Sendable {
        var fault: Fault
        var mutating = 0
        var all = 0
        var writes = 0
        var isDead = false
        var hits = 0
        var hit: SystemCall?
    }

    private let state: Mutex<State>

    init(_ fault: Fault = .none) { state = Mutex(State(fault: fault)) }

    /// Whether the process has ended.
    var isDead: Bool { state.withLock { $0.isDead } }
    /// Mutating calls seen.
    var mutating: Int { state.withLock { $0.mutating } }
    /// Calls seen.
    var all: Int { state.withLock { $0.all } }
    /// Calls spoiled, and the first of them.
    var hits: Int { state.withLock { $0.hits } }
    var hit: SystemCall? { state.withLock { $0.hit } }

    /// No more faults from now on.
    func mend() { state.withLock { $0.fault = .none } }

    var gate: SystemGate {
        SystemGate { [self] call in
            state.withLock { state in
                if state.isDead { return .stop }
                defer {
                    state.all += 1
                    if call.isMutating { state.mutating += 1 }
                    if case .write = call { state.writes += 1 }
                }
                switch state.fault {
                case .kill(let n) where call.isMutating && state.mutating == n:
                    state.isDead = true
                    state.hit = call
                    return .stop
                case .fail(let n, let errno, let forGood) where state.all == n || forGood && state.all > n:
                    // EINTR for good would be a kernel that never makes the call.
                    if errno == .interrupted, state.hits > 3 { return .proceed }
                    state.hits += 1
                    if state.hit == nil { state.hit = call }
                    return .fail(errno)
                case .shortWrite(let n):
                    guard case .write(_, let bytes) = call, state.writes == n, bytes.count > 1 else { return .proceed }
                    state.hits += 1
                    return .short(1)
                default: return .proceed
                }
            }
        }
    }
}

/// Lets something happen in the middle of the n-th mutating call.
final class InterruptingGate: Sendable {
    private let count = Mutex(0)
    private let moment: Int
    private let action = Mutex<(@Sendable () -> Void)?>(nil)

    init(at moment: Int) { self.moment = moment }

    func onMoment(_ body: @escaping @Sendable () -> Void) { action.withLock { $0 = body } }

    var gate: SystemGate {
        SystemGate { [self] call in
            guard call.isMutating else { return .proceed }
            let number = count.withLock { count in
                defer { count += 1 }
                return count
            }
            if number == moment { action.withLock { $0 }?() }
            return .proceed
        }
    }
}

/// The run every campaign spoils: two references, one of them cut out, one manifest, two images with their attention, a contact
/// sheet and a page, checkpoints at each step.
struct Scenario {
    static let manifest = """
        {"subject": "dog", "prompts": ["a", "b"], "seed": 3, "output": {"grid": true, "attention": true}}
        """
    static let script = StubRenderer.Script(steps: 2, isEager: true, cutsOut: true)

    let root: String
    let clock = TestClock()
    private let renders = Renders()
    /// Another daemon draws other numbers than the one before it.
    let random = TestRandom(UInt64.random(in: 1...UInt64.max))

    /// A spool with the drops made and no daemon yet.
    init(at folder: String? = nil) throws {
        root = folder ?? Files.temporaryFolder()
        // The layout, as the package's installation makes it.
        let spool = try TestSpool(root: root, clock: clock, random: random)
        try spool.start()
        spool.daemon.abandon()
        try spool.dropReferences("dog", ["a.png": Pictures.png(), "b.jpg": Pictures.jpeg()])
        try spool.dropManifest(Self.manifest)
    }

    /// A spool that some earlier run, or a power cut, has left.
    init(root: String) { self.root = root }

    func remove() { Files.remove(root) }

    /// What the renderer was asked for although it was committed already.
    private final class Renders: Sendable {
        private let state = Mutex((committed: 0, again: [String]()))
        func begin(committed: Int) { state.withLock { $0.committed = committed } }
        func step(of image: Int) {
            state.withLock { if image < $0.committed { $0.again.append("image \(image) was made again") } }
        }
        var again: [String] { state.withLock { $0.again } }
    }

    /// Images that the job's record, as it lies on the disk, calls done.
    private var committed: Int {
        for state in JobState.allCases {
            let folder = root + "/lib/jobs/\(state.rawValue)/"
            guard let id = Files.names(folder).first, let bytes = try? Files.read(folder + id + "/images/0000.json")
            else { continue }
            return (try? JSONReader.read(bytes))?["images"]?.array?.count ?? 0
        }
        return 0
    }

    /// A daemon on it.
    func daemon(_ gate: SystemGate) throws -> TestSpool {
        renders.begin(committed: committed)
        let renders = renders
        var script = Self.script
        script.onStep = { image, _ in renders.step(of: image) }
        return try TestSpool(root: root, gate: gate, script: script, clock: clock, random: random) {
            $0.environmentPause = 3
            $0.pressureInterval = 2
            $0.rescanInterval = 10
            $0.maximumAttempts = 3
        }
    }

    enum Ending: Equatable {
        case finished
        case killed
        /// It was asked to stop, and did.
        case exited
        /// The daemon gave up by itself.
        case gaveUp(SpoolError.Code)
        case stuck
    }

    /// Runs one daemon until all is done, or it ends.
    func run(_ gate: FaultGate, mendAfter: Int? = nil, turns: Int = 400) throws -> Ending {
        let spool: TestSpool
        do {
            spool = try daemon(gate.gate)
            try spool.start()
        } catch let error as SpoolError {
            return gate.isDead ? .killed : .gaveUp(error.code)
        }
        defer { spool.daemon.abandon() }
        for turn in 0..<turns {
            clock.advance(1)
            if turn == mendAfter { gate.mend() }
            do {
                _ = try spool.daemon.turn()
            } catch {
                return gate.isDead ? .killed : .gaveUp(error.code)
            }
            if gate.isDead { return .killed }
            if isFinished(spool) { return .finished }
        }
        return .stuck
    }

    /// Runs one daemon to which something is done at a moment, until all is done or it exits.
    func run(interruptedAt moment: Int, by action: @escaping @Sendable (SpoolDaemon, SpoolConfiguration) -> Void) throws
        -> Ending
    {
        let gate = InterruptingGate(at: moment)
        let spool = try daemon(gate.gate)
        let (daemon, configuration) = (spool.daemon, spool.configuration)
        gate.onMoment { action(daemon, configuration) }
        try spool.start()
        defer { spool.daemon.abandon() }
        for _ in 0..<400 {
            clock.advance(1)
            guard try spool.daemon.turn() else { return .exited }
            if isFinished(spool) { return .finished }
        }
        return .stuck
    }

    private func isFinished(_ spool: TestSpool) -> Bool {
        Files.names(root + "/lib/jobs/done").count == 1 && spool.daemon.isIdle
            && Files.names(root + "/drop/jobs").isEmpty && Files.names(root + "/drop/references").isEmpty
            && ["claims/jobs", "claims/references", "leftovers", "trash"].allSatisfy {
                Files.names(root + "/lib/" + $0).isEmpty
            }
            && Files.names(root + "/cache") == ["dog.dcache"] && Files.names(root + "/lib/tmp").isEmpty
    }

    /// Everything that is not as it must be in the end; no daemon runs.
    func faults() throws -> [String] {
        let client = try SpoolClient(root: root)
        // A file that only informs is not synced, and a power cut may tear it.
        var faults = try client.findings().filter { $0.kind != .informing }.map(\.description) + renders.again
        let jobs = try client.list()
        if jobs.map(\.state) != [.done] { faults.append("jobs: \(jobs.map { "\($0.id) \($0.state)" })") }
        guard let job = jobs.first else { return faults }
        let out = root + "/out/\(job.id)/"
        if Files.names(root + "/out") != [job.id.text] { faults.append("out holds \(Files.names(root + "/out"))") }
        for (index, prompt) in ["a", "b"].enumerated() {
            let plan = ImagePlan(index: index, prompt: prompt, seed: 3 + index)
            if try Files.read(out + "000\(index).png") != StubRenderer.expected(plan, steps: 2) {
                faults.append("image \(index) has other bytes")
            }
            let overlay = try? Files.read(out + "000\(index).attention.png")
            if overlay != StubRenderer.expectedOverlay(plan, steps: 2) {
                faults.append("the overlay of image \(index) is not there, or has other bytes")
            }
            if !Files.exists(out + "000\(index).attention.safetensors") { faults.append("no maps of image \(index)") }
        }
        if !Files.exists(out + "grid.png") { faults.append("no contact sheet") }
        if !Files.exists(out + "index.html") { faults.append("no page") }
        let receipt = try client.receipt(of: "job.json")
        if receipt?.id != job.id || receipt?.state != .accepted {
            faults.append("receipt: \(String(describing: receipt))")
        }
        if try client.receipt(of: "dog")?.state != .accepted { faults.append("the references' receipt") }
        if !Files.exists(root + "/cache/dog.dcache") { faults.append("no cache") }
        let cutOuts = Files.names(root + "/lib/cache").filter { $0.hasSuffix(".cutouts") }
        let pictures = cutOuts.map { try? Files.read("\(root)/lib/cache/\($0)/0000.png") }
        if pictures != [StubRenderer.cutOut] { faults.append("the cut-outs are \(cutOuts), or have other bytes") }
        return faults
    }

    func attempts() throws -> Int? {
        let client = try SpoolClient(root: root)
        guard let job = try client.list([.done]).first else { return nil }
        return try JSONReader.read(try Files.read(root + "/out/\(job.id)/result.json"))["attempts"]?.integer
    }
}

/// Ends the process at calls of a kind, for good, until it is started anew.
final class StickyDeath: Sendable {
    private let isDead = Mutex(false)
    private let isDeadly: @Sendable (SystemCall) -> Bool

    init(_ isDeadly: @escaping @Sendable (SystemCall) -> Bool) { self.isDeadly = isDeadly }

    func revive() { isDead.withLock { $0 = false } }

    var gate: SystemGate {
        SystemGate { [self] call in
            isDead.withLock { isDead in
                if isDeadly(call) { isDead = true }
                return isDead ? .stop : .proceed
            }
        }
    }
}
