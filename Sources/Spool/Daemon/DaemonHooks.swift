/// What the daemon tells the program around it.
///
/// All are called on the thread that is in `SpoolDaemon.run()`, and should return at once.
public struct DaemonHooks: Sendable {
    /// Recovery is complete and drops are being taken. Once.
    public var ready: @Sendable () -> Void
    /// The daemon is alive and, if it is working, its work has progressed since the last call. At least every
    /// `SpoolConfiguration.aliveInterval` as long as that is so, and seldom more than once per second.
    public var alive: @Sendable () -> Void
    /// One line for `systemctl status`, when it changes.
    public var status: @Sendable (String) -> Void
    /// A configuration given to `reload` is in force.
    public var reloaded: @Sendable () -> Void
    /// The daemon has begun to stop. Once.
    public var stopping: @Sendable () -> Void

    /// Hooks; what is left out does nothing.
    public init(
        ready: @escaping @Sendable () -> Void = {}, alive: @escaping @Sendable () -> Void = {},
        status: @escaping @Sendable (String) -> Void = { _ in }, reloaded: @escaping @Sendable () -> Void = {},
        stopping: @escaping @Sendable () -> Void = {}
    ) {
        self.ready = ready
        self.alive = alive
        self.status = status
        self.reloaded = reloaded
        self.stopping = stopping
    }

    /// The hooks that speak systemd's notification protocol. Whoever receives SIGHUP sends `RELOADING=1` before it calls
    /// `reload`; the `READY=1` that ends it comes from here.
    public static func systemd(_ notifier: SystemNotifier) -> DaemonHooks {
        DaemonHooks(
            ready: { notifier.send("READY=1") }, alive: { notifier.send("WATCHDOG=1") },
            status: { notifier.send("STATUS=\($0)") }, reloaded: { notifier.send("READY=1") },
            stopping: { notifier.send("STOPPING=1") })
    }
}
