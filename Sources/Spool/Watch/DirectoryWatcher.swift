/// Something a watcher noticed. Events are hints that make a scan come sooner; the scan is the truth.
public enum WatchEvent: Sendable, Equatable {
    /// An entry of a drop folder was renamed in: whoever did so says that it is complete.
    case movedIn(folder: DropFolder, name: String)
    /// An entry of a drop folder was closed after writing, made or changed.
    case changed(folder: DropFolder, name: String)
    /// Events were lost: the kernel's queue overflowed, or a watch went away.
    case lost(reason: String)
}

/// A source of watch events, as a value: inotify in the daemon, nothing on network file systems, a script in tests.
public struct DirectoryWatcher: Sendable {
    /// Begins to watch the drop folders of a spool; events may be delivered on any thread.
    /// Returns why it cannot watch, or nil; without a watcher the daemon polls.
    public let start: @Sendable (_ root: String, _ deliver: @escaping @Sendable (WatchEvent) -> Void) -> String?
    /// Ends watching.
    public let stop: @Sendable () -> Void

    /// A watcher.
    public init(
        start: @escaping @Sendable (_ root: String, _ deliver: @escaping @Sendable (WatchEvent) -> Void) -> String?,
        stop: @escaping @Sendable () -> Void
    ) {
        self.start = start
        self.stop = stop
    }

    /// No watching: the daemon polls.
    public static let none = DirectoryWatcher(start: { _, _ in "no watcher is configured" }, stop: {})
}
