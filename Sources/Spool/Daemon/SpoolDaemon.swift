import Logging

/// The daemon: takes drops, keeps the queue, has the renderer work, publishes sets, and loses nothing.
///
/// One thread, the one that calls `run()`, owns every change to the spool; the renderer works on another.
public final class SpoolDaemon: Sendable {
    /// A daemon for a spool, which it does not touch before `recover()`.
    ///
    /// - Parameters:
    ///   - configuration: where the spool is, and its limits.
    ///   - renderer: what makes the pictures.
    ///   - clock: the time.
    ///   - watcher: what notices drops.
    ///   - system: the system calls.
    ///   - hooks: whom to tell.
    ///   - logger: where to log; job ids are metadata.
    public init(
        configuration: SpoolConfiguration, renderer: any Renderer, clock: SpoolClock = .system,
        watcher: DirectoryWatcher = .none, hooks: DaemonHooks = DaemonHooks(),
        logger: Logger = Logger(label: "spool")
    ) {}

    /// Locks the spool and brings it from whatever state it was left in to a consistent one.
    public func recover() throws(SpoolError) {}

    /// Works until `requestStop()`; returns after the renderer has stopped and its job is back in the queue.
    public func run() throws(SpoolError) {}

    /// Asks `run()` to return. May be called from any thread, any number of times.
    public func requestStop() {}

    /// Takes over a new configuration (all but `root`) at the next turn of the loop. May be called from any thread.
    public func reload(configuration: SpoolConfiguration) {}
}
