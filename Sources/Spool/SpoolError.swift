import SystemPackage

/// What went wrong in the spool, with the operation and the path it happened at.
public struct SpoolError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is, which decides what a program does about it.
    public enum Code: Sendable, Equatable {
        /// A system call failed.
        case system(Errno)
        /// Another daemon holds the spool.
        case locked
        /// The spool's folders are not as they must be: several file systems, a foreign version, not a folder.
        case badLayout
        /// A file of the spool's own does not say what it should.
        case damaged
        /// What the pictures of a set depend on is another than it was.
        case changed
        /// Nothing of that name is known.
        case unknown
        /// Two syncs in a row failed: the storage cannot be trusted.
        case storageFault
        /// Waited long enough.
        case timedOut
        /// A test has ended the simulated process.
        case processStopped
    }

    /// The kind.
    public let code: Code
    /// What was being done: the system call's name, or a few words.
    public let operation: String
    /// The path concerned, relative to the spool, or empty.
    public let path: String
    /// Further words, or empty.
    public let detail: String

    /// A failure.
    public init(_ code: Code, operation: String, path: String = "", detail: String = "") {
        self.code = code
        self.operation = operation
        self.path = path
        self.detail = detail
    }

    /// One line for people.
    public var description: String {
        let cause: String =
            switch code {
            case .system(let errno): "\(errno)"
            case .locked: "another daemon is running on this spool"
            case .badLayout: "the spool's folders are not usable"
            case .damaged: "the file is damaged"
            case .changed: "changed in the meantime"
            case .unknown: "not known"
            case .storageFault: "two syncs in a row failed; the storage cannot be trusted"
            case .timedOut: "timed out"
            case .processStopped: "the process was stopped"
            }
        return [operation, path, cause, detail].filter { !$0.isEmpty }.joined(separator: ": ")
    }

    /// The exit code of a daemon that ends because of this (sysexits.h): 74 storage, 78 configuration, 75 try later.
    public var exitCode: Int32 {
        switch code {
        case .storageFault, .system, .damaged: 74
        case .badLayout: 78
        case .locked, .timedOut: 75
        case .changed: 1
        case .unknown: 5
        case .processStopped: 70
        }
    }

    /// The errno, when a system call failed.
    public var errno: Errno? { if case .system(let errno) = code { errno } else { nil } }
}

extension SpoolError {
    /// Whether the cause is what users did to their own files, and not the machine.
    var isForeign: Bool {
        guard let errno else { return false }
        return [
            .noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels, .permissionDenied, .notPermitted,
        ].contains(errno)
    }

    /// Whether it tells of the machine: no room, no descriptors, no memory, a disk that does not answer. What was tried
    /// is not to blame, and is tried again.
    var isMachineTrouble: Bool {
        guard let errno else { return false }
        return [
            .noSpace, .diskQuotaExceeded, .fileTooLarge, .ioError, .readOnlyFileSystem, .tooManyOpenFiles,
            .tooManyOpenFilesInSystem, .noMemory, .resourceTemporarilyUnavailable, .resourceBusy, .staleNFSFileHandle,
        ].contains(errno)
    }
}
