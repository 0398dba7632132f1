import Glibc
import Logging
import Spool
import Synchronization
import SystemPackage
import Testing

/// A clock that moves when told.
final class TestClock: Sendable {
    private let times = Mutex((monotonic: 1000.0, wall: 1_790_000_000.0))

    func advance(_ seconds: Double) {
        times.withLock {
            $0.monotonic += seconds
            $0.wall += seconds
        }
    }

    func setWall(_ seconds: Double) { times.withLock { $0.wall = seconds } }

    var clock: SpoolClock {
        SpoolClock(
            monotonic: { [self] in times.withLock { $0.monotonic } }, wall: { [self] in times.withLock { $0.wall } })
    }
}

/// Numbers that are the same at each run.
final class TestRandom: Sendable {
    private let state: Mutex<UInt64>
    init(_ seed: UInt64 = 1) { state = Mutex(seed) }

    var next: @Sendable () -> UInt64 {
        { [self] in
            state.withLock {
                $0 = $0 &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return $0 ^ ($0 >> 29)
            }
        }
    }
}

/// A spool in a temporary folder, with a daemon that runs on the test's own thread, turn by turn.
final class TestSpool {
    let root: String
    let clock: TestClock
    var configuration: SpoolConfiguration
    let renderer: StubRenderer
    let random: TestRandom
    private(set) var daemon: SpoolDaemon
    private let gate: SystemGate?
    private let worker: Worker
    private let hooks: DaemonHooks
    private let isOwner: Bool

    init(
        root: String? = nil, gate: SystemGate? = nil, script: StubRenderer.Script = .init(),
        clock: TestClock = TestClock(), random: TestRandom = TestRandom(), worker: Worker = .inline,
        hooks: DaemonHooks = DaemonHooks(), configure: (inout SpoolConfiguration) -> Void = { _ in }
    ) throws {
        isOwner = root == nil
        self.root = root ?? Files.temporaryFolder()
        self.clock = clock
        self.gate = gate
        self.random = random
        configuration = SpoolConfiguration(root: self.root)
        configuration.minimumFreeBytes = 0
        configuration.eventDelay = 0
        configuration.minimumFreeInodes = 0
        configure(&configuration)
        renderer = StubRenderer(try SystemCalls(root: self.root, gate: gate), script)
        (self.worker, self.hooks) = (worker, hooks)
        daemon = Self.make(configuration, renderer, clock, gate, random, worker, hooks)
    }

    deinit { if isOwner { Files.remove(root) } }

    private static func make(
        _ configuration: SpoolConfiguration, _ renderer: StubRenderer, _ clock: TestClock, _ gate: SystemGate?,
        _ random: TestRandom, _ worker: Worker, _ hooks: DaemonHooks
    ) -> SpoolDaemon {
        SpoolDaemon(
            configuration: configuration, renderer: renderer, clock: clock.clock, worker: worker, gate: gate,
            random: random.next, hooks: hooks, logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        )
    }

    /// Ends the daemon as a crash does and makes a new one, not yet recovered.
    func crash() {
        daemon.abandon()
        daemon = Self.make(configuration, renderer, clock, gate, random, worker, hooks)
    }

    func start() throws { try daemon.recover() }

    /// Takes turns, moving the clock, until nothing is at work and nothing changes any more.
    func settle(turns: Int = 40, step: Double = 1) throws {
        for _ in 0..<turns {
            clock.advance(step)
            guard try daemon.turn() else { return }
        }
        var extra = 0
        while !daemon.isIdle, extra < 10_000 {
            guard try daemon.turn() else { return }
            extra += 1
        }
    }

    // MARK: - Files

    func path(_ relative: String) -> String { root + "/" + relative }
    func exists(_ relative: String) -> Bool { Files.exists(path(relative)) }
    func read(_ relative: String) throws -> [UInt8] { try Files.read(path(relative)) }
    func names(_ relative: String) -> [String] { Files.names(path(relative)) }

    func json(_ relative: String) throws -> JSON { try JSONReader.read(try read(relative)) }

    func dropManifest(_ text: String, _ name: String = "job.json") throws {
        try Files.write(Array(text.utf8), path("drop/jobs/" + name))
        daemon.deliver(.changed(folder: .jobs, name: name))
    }

    func dropReferences(_ subject: String, _ files: [String: [UInt8]] = ["a.png": Pictures.png()], ready: Bool = true)
        throws
    {
        let folder = path("drop/references/" + subject)
        mkdir(folder, 0o755)
        for (name, bytes) in files { try Files.write(bytes, folder + "/" + name) }
        if ready { try Files.write([], folder + "/.ready") }
        daemon.deliver(.changed(folder: .references, name: subject))
    }

    func dropDataset(_ name: String, _ files: [String: [UInt8]], ready: Bool = true) throws {
        let folder = path("drop/datasets/" + name)
        mkdir(folder, 0o755)
        for (path, bytes) in files {
            if let slash = path.lastIndex(of: "/") { mkdir(folder + "/" + path[..<slash], 0o755) }
            try Files.write(bytes, folder + "/" + path)
        }
        if ready { try Files.write([], folder + "/.ready") }
        daemon.deliver(.changed(folder: .datasets, name: name))
    }

    func receipt(_ drop: String) throws -> Receipt {
        try #require(Receipt(try json("receipts/\(drop).json")))
    }

    var client: SpoolClient { get throws { try SpoolClient(root: root) } }

    /// What the oracle finds wrong.
    func faults(notes: Bool = false) throws -> [String] {
        try client.findings().filter { notes || $0.level == .error }.map(\.description)
    }
}

extension SpoolClient {
    /// What the oracle finds, with the stub's caches.
    func findings() throws -> [Finding] { try verify(isSound: Self.isSound) }

    /// Has the spool repaired.
    func repaired() throws -> Repair {
        try repair(isSound: Self.isSound, logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
    }

    private static func isSound(_ path: String) -> Bool {
        (try? Files.read(path)).map(StubRenderer.isCache) ?? false
    }
}

/// Plain file access for tests, outside the seam.
enum Files {
    static func temporaryFolder() -> String {
        let base =
            getenv("DREAMCACHE_TEST_TMP").map { String(cString: $0) } ?? (exists("/dev/shm") ? "/dev/shm" : "/tmp")
        var template = Array("\(base)/spool-XXXXXX".utf8CString)
        return template.withUnsafeMutableBufferPointer { buffer in
            buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) } ?? "/nonexistent"
        }
    }

    static func exists(_ path: String) -> Bool {
        var s = stat()
        return lstat(path, &s) == 0
    }

    static func read(_ path: String) throws -> [UInt8] {
        let file = try FileDescriptor.open(path, .readOnly)
        defer { try? file.close() }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
            if count == 0 { return bytes }
            bytes += buffer[..<count]
        }
    }

    static func write(_ bytes: [UInt8], _ path: String) throws {
        let file = try FileDescriptor.open(
            path, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite, .groupRead, .otherRead])
        _ = try file.closeAfter { try file.writeAll(bytes) }
    }

    static func names(_ path: String) -> [String] {
        guard let stream = opendir(path) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    static func isFolder(_ path: String) -> Bool {
        var s = stat()
        return lstat(path, &s) == 0 && s.st_mode & S_IFMT == S_IFDIR
    }

    /// Copies a tree, links as links.
    static func copy(_ from: String, to: String) throws {
        var s = stat()
        guard lstat(from, &s) == 0 else { return }
        switch s.st_mode & S_IFMT {
        case S_IFDIR:
            mkdir(to, 0o755)
            for name in names(from) { try copy(from + "/" + name, to: to + "/" + name) }
        case S_IFLNK: symlink(target(of: from), to)
        default: try write(try read(from), to)
        }
    }

    /// Where a link leads.
    static func target(of link: String) -> String {
        var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = buffer.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { readlink(link, $0, bytes.count) } ?? 0
        }
        return String(decoding: buffer[..<max(0, count)], as: UTF8.self)
    }

    static func remove(_ path: String) {
        if isFolder(path) {
            for name in names(path) { remove(path + "/" + name) }
            rmdir(path)
        } else {
            unlink(path)
        }
    }
}

// MARK: - One job

extension TestSpool {
    static let job = #"{"subject": "dog", "prompt": "x", "seed": 1}"#
    static let keyed = #"{"subject": "dog", "prompt": "x", "idempotency_key": "k"}"#

    /// A spool with one finished job, `done.json`.
    static func used() throws -> TestSpool {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(keyed, "done.json")
        try spool.settle(turns: 5)
        try #require(try spool.isDone("done.json"))
        return spool
    }

    /// Moves a file of another user into a drop folder. Only root may.
    func moveIn(_ bytes: [UInt8], to folder: DropFolder, as name: String, of owner: UInt32) throws {
        let staged = path("staged")
        try Files.write(bytes, staged)
        try #require(chown(staged, owner, owner) == 0)
        rename(staged, path("drop/\(folder.rawValue)/\(name)"))
        daemon.deliver(.movedIn(folder: folder, name: name))
    }

    func isDone(_ drop: String) throws -> Bool {
        if case .ended(.done) = try client.standing(of: drop) { true } else { false }
    }
}
