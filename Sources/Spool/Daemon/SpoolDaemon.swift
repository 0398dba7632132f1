import Logging
import Synchronization

/// The daemon: takes drops, keeps the queue, has the renderer work, publishes sets, and loses nothing.
///
/// One thread, the one that calls `recover()` and `run()`, owns every change to the spool; the renderer works on another.
public final class SpoolDaemon: Sendable {
    private let configuration: SpoolConfiguration
    private let renderer: any Renderer
    private let clock: SpoolClock
    private let watcher: DirectoryWatcher
    private let worker: Worker
    private let hooks: DaemonHooks
    private let logger: Logger
    private let gate: SystemGate?
    private let random: @Sendable () -> UInt64
    private let mailbox = Mailbox<SpoolLoop.Message>()
    private let loop = Mutex<LoopBox>(LoopBox())

    /// What `recover()` makes, used only by the thread that runs the daemon.
    private struct LoopBox: @unchecked Sendable { var loop: SpoolLoop? }

    /// A daemon for a spool, which it does not touch before `recover()`.
    ///
    /// - Parameters:
    ///   - configuration: where the spool is, and its limits.
    ///   - renderer: what makes the pictures.
    ///   - clock: the time.
    ///   - watcher: what notices drops.
    ///   - worker: where the renderer runs.
    ///   - gate: what system calls pass, in tests.
    ///   - random: where ids and seeds come from.
    ///   - hooks: whom to tell.
    ///   - logger: where to log; job ids are metadata.
    public init(
        configuration: SpoolConfiguration, renderer: any Renderer, clock: SpoolClock = .system,
        watcher: DirectoryWatcher = .none, worker: Worker = .thread(name: "renderer"), gate: SystemGate? = nil,
        random: @escaping @Sendable () -> UInt64 = { UInt64.random(in: 0...UInt64.max) },
        hooks: DaemonHooks = DaemonHooks(), logger: Logger = Logger(label: "spool")
    ) {
        self.configuration = configuration
        self.renderer = renderer
        self.clock = clock
        self.watcher = watcher
        self.worker = worker
        self.gate = gate
        self.random = random
        self.hooks = hooks
        self.logger = logger
    }

    /// Locks the spool, makes the folders it lacks, and brings it from whatever state it was left in to a consistent one.
    ///
    /// - Throws: `.locked` when another daemon runs on it, `.badLayout` when it is not on one file system or of another
    ///   version, `.system` when the storage does not obey; `SpoolError.exitCode` is what to exit with.
    public func recover() throws(SpoolError) {
        let made = try SpoolLoop(
            configuration: configuration, renderer: renderer, clock: clock, worker: worker, hooks: hooks,
            logger: logger, mailbox: mailbox, gate: gate, random: random)
        loop.withLock { $0.loop = made }
    }

    /// Works until `requestStop()`; returns after the renderer has stopped and its job is back in the queue. Recovers
    /// first, if `recover()` has not been called.
    ///
    /// - Throws: `.storageFault` when the storage can no longer be trusted.
    public func run() throws(SpoolError) {
        if loop.withLock({ $0.loop }) == nil { try recover() }
        guard let loop = loop.withLock({ $0.loop }) else { return }
        // The lock on the spool ends with the loop.
        defer { self.loop.withLock { $0.loop = nil } }
        try watch(loop)
        defer { watcher.stop() }
        try loop.turn(wait: 0)
        hooks.ready()
        while !loop.hasExited {
            try loop.turn(wait: loop.patience)
            if loop.isWatchingAskedAnew {
                loop.isWatchingAskedAnew = false
                watcher.stop()
                try watch(loop)
            }
        }
        logger.info("stopped")
    }

    private func watch(_ loop: SpoolLoop) throws(SpoolError) {
        let configured = loop.configuration.polling
        var polling = configured
        if polling == nil, try loop.store.system.space().isRemote { polling = true }
        if polling == true {
            loop.pollingReason =
                configured == true ? "configured" : "a network file system reports no events"
        } else {
            loop.pollingReason = watcher.start(configuration.root) { [mailbox] event in mailbox.post(.watch(event)) }
        }
        if let reason = loop.pollingReason {
            logger.notice("drops are found by polling", metadata: ["reason": "\(reason)"])
        }
    }

    /// Takes one turn without waiting; for tests that drive the daemon by hand.
    ///
    /// - Returns: whether the daemon goes on.
    package func turn() throws(SpoolError) -> Bool {
        guard let loop = loop.withLock({ $0.loop }) else { return false }
        try loop.turn(wait: 0)
        return !loop.hasExited
    }

    /// Ends without any farewell, as a crash does: the lock is let go, nothing is put away.
    package func abandon() { loop.withLock { $0.loop = nil } }

    /// Delivers a watch event; for tests.
    package func deliver(_ event: WatchEvent) { mailbox.post(.watch(event)) }

    /// Whether there is neither work at hand nor work that could begin.
    package var isIdle: Bool {
        guard let machine = loop.withLock({ $0.loop })?.machine else { return true }
        return machine.work == nil && machine.active == nil
    }

    /// Asks `run()` to return. May be called from any thread, any number of times.
    public func requestStop() { mailbox.post(.stop) }

    /// Takes over a new configuration (all but `root`) at the next turn of the loop. May be called from any thread.
    public func reload(configuration: SpoolConfiguration) { mailbox.post(.reload(configuration)) }
}
