import SystemPackage

/// One system call the spool is about to make, with the paths (relative to the spool's root) it concerns.
public enum SystemCall: Sendable, Equatable {
    case openForReading(SpoolPath)
    case create(SpoolPath)
    case read(SpoolPath)
    case write(SpoolPath, bytes: [UInt8])
    case close(SpoolPath)
    case sync(SpoolPath)
    case syncDirectory(SpoolPath)
    case syncFileSystem
    case rename(SpoolPath, to: SpoolPath, replacing: Bool)
    case unlink(SpoolPath)
    case makeDirectory(SpoolPath)
    case removeDirectory(SpoolPath)
    case makeSymbolicLink(SpoolPath, target: String)
    case changeMode(SpoolPath, mode: UInt32)
    case readLink(SpoolPath)
    case status(SpoolPath)
    case list(SpoolPath)
    case lock(SpoolPath)
    case space

    /// Whether it changes what is on the disk, or makes a change durable.
    public var isMutating: Bool {
        switch self {
        case .create, .write, .sync, .syncDirectory, .syncFileSystem, .rename, .unlink, .makeDirectory,
            .removeDirectory, .makeSymbolicLink, .changeMode:
            true
        case .openForReading, .read, .readLink, .close, .status, .list, .lock, .space: false
        }
    }

    /// The call's name and first path, for messages.
    var label: (operation: String, path: String) {
        switch self {
        case .openForReading(let path): ("open", path.string)
        case .create(let path): ("create", path.string)
        case .read(let path): ("read", path.string)
        case .write(let path, _): ("write", path.string)
        case .close(let path): ("close", path.string)
        case .sync(let path): ("fsync", path.string)
        case .syncDirectory(let path): ("fsync folder", path.string)
        case .syncFileSystem: ("syncfs", "")
        case .rename(let from, let to, _): ("rename", "\(from.string) to \(to.string)")
        case .unlink(let path): ("unlink", path.string)
        case .makeDirectory(let path): ("mkdir", path.string)
        case .removeDirectory(let path): ("rmdir", path.string)
        case .makeSymbolicLink(let path, _): ("symlink", path.string)
        case .changeMode(let path, _): ("chmod", path.string)
        case .readLink(let path): ("readlink", path.string)
        case .status(let path): ("stat", path.string)
        case .list(let path): ("list", path.string)
        case .lock(let path): ("lock", path.string)
        case .space: ("statfs", "")
        }
    }
}

/// The seam every system call of the spool passes: tests count, fail or end the process here.
public struct SystemGate: Sendable {
    /// What becomes of a call.
    public enum Verdict: Sendable, Equatable {
        /// It is made.
        case proceed
        /// It is not made and fails so.
        case fail(Errno)
        /// It is not made and the simulated process has ended: this call and all later ones throw `.processStopped`.
        case stop
        /// A write is made of so many bytes only.
        case short(Int)
    }

    /// Judges a call.
    public let judge: @Sendable (SystemCall) -> Verdict

    /// A gate.
    public init(judge: @escaping @Sendable (SystemCall) -> Verdict) { self.judge = judge }
}
