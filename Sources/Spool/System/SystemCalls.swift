import CLinux
import Glibc
import SystemPackage

/// What the spool needs of the operating system, below one root folder that paths can never leave.
///
/// Paths are relative to the root. No call follows a symbolic link. EINTR is retried here and nowhere else.
public struct SystemCalls: Sendable {
    private let root: Root
    private let gate: SystemGate?
    /// Absolute path of the root, for those who open files themselves.
    public let rootPath: String

    private final class Root: Sendable {
        let descriptor: Int32
        init(_ descriptor: Int32) { self.descriptor = descriptor }
        deinit { Glibc.close(descriptor) }
    }

    /// The calls below `root`, which must exist and be a folder.
    public init(root path: String, gate: SystemGate? = nil) throws(SpoolError) {
        let descriptor = clinux_open(path, O_RDONLY | O_DIRECTORY, 0)
        guard descriptor >= 0 else {
            throw SpoolError(.badLayout, operation: "open the spool", path: path, detail: "\(Errno.current)")
        }
        root = Root(descriptor)
        rootPath = path
        self.gate = gate
    }

    /// The absolute path of a relative one.
    public func absolute(_ path: SpoolPath) -> String { rootPath + "/" + path.string }

    // MARK: - Files

    /// The status of a path itself; a final symbolic link is not followed.
    public func status(_ path: SpoolPath) throws(SpoolError) -> FileStatus {
        try judge(.status(path))
        let descriptor = try call(.status(path)) { beneath(path, clinux_o_path | O_NOFOLLOW, 0) }
        defer { Glibc.close(descriptor) }
        return try status(of: descriptor, path)
    }

    /// The status of a path, or nil when nothing is there.
    public func statusIfAny(_ path: SpoolPath) throws(SpoolError) -> FileStatus? {
        do throws(SpoolError) {
            return try status(path)
        } catch  where error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory {
            return nil
        }
    }

    private func status(of descriptor: Int32, _ path: SpoolPath) throws(SpoolError) -> FileStatus {
        var s = stat()
        _ = try call(.status(path)) { fstat(descriptor, &s) }
        return FileStatus(s)
    }

    /// Why a file of a stranger's is not read.
    public enum Refusal: Error, Sendable, Equatable {
        case notRegular(FileStatus.Kind)
        case severalLinks(Int)
        case tooLarge(Int, limit: Int)
        case changedWhileRead
        case cannotOpen(Errno)
    }

    /// Streams a file that a stranger may own and be changing, in pieces, never blocking on a pipe or device and never
    /// reading more than `limit` bytes.
    ///
    /// - Returns: a refusal, when it is not a plain file with one name that rests while it is read.
    public func readForeign(
        _ path: SpoolPath, limit: Int, _ body: (UnsafeRawBufferPointer) throws(SpoolError) -> Void
    ) throws(SpoolError) -> Refusal? {
        let before: FileStatus
        let descriptor: Int32
        do throws(SpoolError) {
            before = try status(path)
            guard before.kind == .regular else { return .notRegular(before.kind) }
            guard before.links == 1 else { return .severalLinks(before.links) }
            guard before.size <= limit else { return .tooLarge(before.size, limit: limit) }
            try judge(.openForReading(path))
            descriptor = try call(.openForReading(path)) {
                beneath(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW, 0)
            }
        } catch {
            // Somebody holds a lease on it, which the kernel now asks back (fcntl(2), F_SETLEASE).
            if error.errno == .resourceTemporarilyUnavailable { return .changedWhileRead }
            if let errno = error.errno, error.isForeign { return .cannotOpen(errno) }
            throw error
        }
        defer { Glibc.close(descriptor) }
        let opened = try status(of: descriptor, path)
        guard opened.inode == before.inode, opened.kind == .regular else { return .changedWhileRead }
        let count = try readAll(descriptor, path, limit: limit, body)
        let after = try status(of: descriptor, path)
        guard count <= limit else { return .tooLarge(count, limit: limit) }
        guard after.links <= 1 else { return .severalLinks(after.links) }
        guard after.modified == before.modified, after.size == before.size, count == before.size else {
            return .changedWhileRead
        }
        return nil
    }

    /// The bytes of a file of the spool's own.
    public func read(_ path: SpoolPath, limit: Int = 64 << 20) throws(SpoolError) -> [UInt8] {
        var bytes: [UInt8] = []
        let count = try stream(path, limit: limit) { (piece) throws(SpoolError) in bytes.append(contentsOf: piece) }
        guard count <= limit else {
            throw SpoolError(.damaged, operation: "read", path: path.string, detail: "more than \(limit) bytes")
        }
        return bytes
    }

    /// The status of a path in a stranger's folder, or nil when it cannot be had.
    public func foreignStatus(_ path: SpoolPath) throws(SpoolError) -> FileStatus? {
        do throws(SpoolError) {
            return try status(path)
        } catch  where error.isForeign {
            return nil
        }
    }

    /// Streams a file of the spool's own; returns the number of bytes, one more than `limit` when there are more.
    @discardableResult
    public func stream(
        _ path: SpoolPath, limit: Int = .max - 1, _ body: (UnsafeRawBufferPointer) throws(SpoolError) -> Void
    ) throws(SpoolError) -> Int {
        try judge(.openForReading(path))
        let descriptor = try call(.openForReading(path)) { beneath(path, O_RDONLY | O_NONBLOCK, 0) }
        defer { Glibc.close(descriptor) }
        return try readAll(descriptor, path, limit: limit, body)
    }

    private func readAll(
        _ descriptor: Int32, _ path: SpoolPath, limit: Int, _ body: (UnsafeRawBufferPointer) throws(SpoolError) -> Void
    ) throws(SpoolError) -> Int {
        var total = 0
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            try judge(.read(path))
            let count = try call(.read(path)) { Glibc.read(descriptor, buffer.baseAddress, buffer.count) }
            if count == 0 { return total }
            total += count
            if total > limit { return limit + 1 }
            try body(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        }
    }

    /// Makes a file somebody else has written durable.
    public func sync(_ path: SpoolPath) throws(SpoolError) {
        let descriptor = try call(.sync(path)) { beneath(path, O_RDONLY | O_NONBLOCK, 0) }
        defer { Glibc.close(descriptor) }
        try judge(.sync(path))
        _ = try call(.sync(path)) { fsync(descriptor) }
    }

    // MARK: - Names

    /// Makes the names in a folder durable.
    public func syncDirectory(_ path: SpoolPath) throws(SpoolError) {
        let descriptor = try call(.syncDirectory(path)) { beneath(path, O_RDONLY | O_DIRECTORY, 0) }
        defer { Glibc.close(descriptor) }
        try judge(.syncDirectory(path))
        _ = try call(.syncDirectory(path)) { fsync(descriptor) }
    }

    /// Makes everything on the spool's file system durable.
    public func syncFileSystem() throws(SpoolError) {
        try judge(.syncFileSystem)
        _ = try call(.syncFileSystem) { clinux_sync_filesystem(root.descriptor) }
    }

    /// Gives a file or folder another name; unless `replacing`, `.fileExists` when it is taken.
    public func rename(_ from: SpoolPath, to: SpoolPath, replacing: Bool = false) throws(SpoolError) {
        let operation = SystemCall.rename(from, to: to, replacing: replacing)
        try judge(operation)
        let perform = { (rename: (UnsafePointer<CChar>, UnsafePointer<CChar>) -> Int32) in
            from.withCString { from in to.withCString { rename(from, $0) } }
        }
        let plainly = { perform { renameat(root.descriptor, $0, root.descriptor, $1) } }
        if replacing {
            _ = try call(operation, plainly)
            return
        }
        do throws(SpoolError) {
            _ = try call(operation) { perform { clinux_rename_noreplace(root.descriptor, $0, root.descriptor, $1) } }
        } catch  where error.errno == .invalidArgument || error.errno == .noFunction {
            // Some network file systems lack RENAME_NOREPLACE. The spool's lock keeps other daemons away, so looking
            // first is enough.
            guard try statusIfAny(to) == nil else {
                throw SpoolError(.system(.fileExists), operation: "rename", path: "\(from) to \(to)")
            }
            _ = try call(operation, plainly)
        }
    }

    /// Removes a name of a file.
    public func unlink(_ path: SpoolPath) throws(SpoolError) { try remove(path, .unlink(path), flags: 0) }

    /// The folder is opened first, by the rules of `beneath`: one that a stranger swaps for a link leads nowhere.
    private func remove(_ path: SpoolPath, _ operation: SystemCall, flags: Int32) throws(SpoolError) {
        try judge(operation)
        guard let name = path.lastName else { return }
        let parent = try call(operation) { beneath(path.parent, O_RDONLY | O_DIRECTORY, 0) }
        defer { Glibc.close(parent) }
        _ = try call(operation) { name.withCString { unlinkat(parent, $0, flags) } }
    }

    /// Makes a folder.
    public func makeDirectory(_ path: SpoolPath, mode: mode_t = 0o755) throws(SpoolError) {
        try judge(.makeDirectory(path))
        _ = try call(.makeDirectory(path)) { path.withCString { mkdirat(root.descriptor, $0, mode) } }
    }

    /// Removes an empty folder.
    public func removeDirectory(_ path: SpoolPath) throws(SpoolError) {
        try remove(path, .removeDirectory(path), flags: AT_REMOVEDIR)
    }

    /// Sets the permissions of a file or folder of the spool's own.
    public func setMode(_ path: SpoolPath, _ mode: mode_t) throws(SpoolError) {
        try judge(.changeMode(path, mode: UInt32(mode)))
        let descriptor = try call(.changeMode(path, mode: UInt32(mode))) { beneath(path, O_RDONLY | O_NONBLOCK, 0) }
        defer { Glibc.close(descriptor) }
        _ = try call(.changeMode(path, mode: UInt32(mode))) { fchmod(descriptor, mode) }
    }

    /// Whether the spool is still where it was opened: its folder may be renamed, or another mounted over it, and then
    /// the absolute paths that a renderer gets lead elsewhere.
    public var isInPlace: Bool {
        var here = stat()
        var there = stat()
        guard fstat(root.descriptor, &here) == 0, stat(rootPath, &there) == 0 else { return false }
        return here.st_dev == there.st_dev && here.st_ino == there.st_ino
    }

    /// Makes a symbolic link, for people to follow; the spool itself never does.
    public func makeSymbolicLink(_ path: SpoolPath, target: String) throws(SpoolError) {
        try judge(.makeSymbolicLink(path, target: target))
        _ = try call(.makeSymbolicLink(path, target: target)) {
            path.withCString { symlinkat(target, root.descriptor, $0) }
        }
    }

    /// Where a symbolic link leads, as it says; it is not followed.
    public func readLink(_ path: SpoolPath) throws(SpoolError) -> String {
        try judge(.readLink(path))
        let descriptor = try call(.readLink(path)) { beneath(path, clinux_o_path | O_NOFOLLOW, 0) }
        defer { Glibc.close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = try call(.readLink(path)) {
            buffer.withUnsafeMutableBytes { bytes in
                bytes.baseAddress.map { readlinkat(descriptor, "", $0, bytes.count) } ?? 0
            }
        }
        return String(decoding: buffer[..<count], as: UTF8.self)
    }

    /// The names in a folder, sorted by their bytes, `.` and `..` left out.
    public func list(_ path: SpoolPath) throws(SpoolError) -> [SpoolPath.Name] {
        var names: [SpoolPath.Name] = []
        try forEachName(in: path) { bytes in
            if let name = SpoolPath.Name(bytes: Array(bytes)) { names.append(name) }
        }
        return names.sorted(by: <)
    }

    /// Calls with each name in a folder, `.` and `..` among them, in no order. The bytes last as long as the call.
    func forEachName(in path: SpoolPath, _ body: (UnsafeBufferPointer<UInt8>) -> Void) throws(SpoolError) {
        try judge(.list(path))
        let descriptor = try call(.list(path)) { beneath(path, O_RDONLY | O_DIRECTORY, 0) }
        guard let stream = fdopendir(descriptor) else {
            let errno = Errno.current
            Glibc.close(descriptor)
            throw SpoolError(.system(errno), operation: "list", path: path.string)
        }
        defer { closedir(stream) }
        while true {
            Glibc.errno = 0
            guard let entry = readdir(stream) else { break }
            withUnsafeBytes(of: &entry.pointee.d_name) { name in
                guard let start = name.baseAddress else { return }
                let length = strnlen(start.assumingMemoryBound(to: CChar.self), name.count)
                body(UnsafeBufferPointer(start: start.assumingMemoryBound(to: UInt8.self), count: length))
            }
        }
        if Glibc.errno != 0 { throw SpoolError(.system(.current), operation: "list", path: path.string) }
    }

    // MARK: - The whole spool

    /// A held lock; it ends with the last copy of this value, or with the process.
    public final class Lock: Sendable {
        private let descriptor: Int32
        fileprivate init(_ descriptor: Int32) { self.descriptor = descriptor }
        deinit { Glibc.close(descriptor) }
    }

    /// Takes the lock at a path, making the file when needed; nil when another holds it.
    public func lock(_ path: SpoolPath) throws(SpoolError) -> Lock? {
        try judge(.lock(path))
        let descriptor = try call(.lock(path)) { beneath(path, O_RDWR | O_CREAT, 0o644) }
        let lock = Lock(descriptor)
        if clinux_try_lock(descriptor) == 0 { return lock }
        let errno = Errno.current
        if errno == .resourceTemporarilyUnavailable || errno == .permissionDenied { return nil }
        throw SpoolError(.system(errno), operation: "lock", path: path.string)
    }

    /// Whether anybody holds the lock at a path.
    public func isLocked(_ path: SpoolPath) throws(SpoolError) -> Bool {
        try judge(.lock(path))
        let descriptor: Int32
        do throws(SpoolError) {
            descriptor = try call(.lock(path)) { beneath(path, O_RDONLY, 0) }
        } catch  where error.errno == .noSuchFileOrDirectory {
            return false
        }
        defer { Glibc.close(descriptor) }
        return try call(.lock(path)) { clinux_is_locked(descriptor) } == 1
    }

    /// The file system the root is on.
    public struct Space: Sendable, Equatable {
        /// `f_type` of statfs(2).
        public let type: UInt64
        /// Bytes an ordinary user may still write.
        public let freeBytes: Int
        /// Files that may still be made; nil where the file system does not count them.
        public let freeInodes: Int?

        /// Whether changes made elsewhere never reach inotify here: NFS, SMB, CIFS, FUSE, 9P, Ceph, AFS.
        public var isRemote: Bool {
            [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x6573_5546, 0x0102_1997, 0x00C3_6400, 0x5346_414F].contains(
                type)
        }
    }

    /// The room left.
    public func space() throws(SpoolError) -> Space {
        try judge(.space)
        var result = clinux_filesystem()
        _ = try call(.space) { clinux_read_filesystem(root.descriptor, &result) }
        return Space(
            type: result.type, freeBytes: Int(clamping: result.free_bytes),
            freeInodes: result.total_inodes == 0 ? nil : Int(clamping: result.free_inodes))
    }

    // MARK: - The seam: every call passes here

    /// Asks the gate; returns how much of a write it allows.
    @discardableResult
    func judge(_ operation: @autoclosure () -> SystemCall) throws(SpoolError) -> Int? {
        guard let gate else { return nil }
        let operation = operation()
        while true {
            switch gate.judge(operation) {
            case .proceed: return nil
            case .short(let count): return max(1, count)
            case .fail(.interrupted): continue
            case .fail(let errno):
                throw SpoolError(.system(errno), operation: operation.label.operation, path: operation.label.path)
            case .stop:
                throw SpoolError(.processStopped, operation: operation.label.operation, path: operation.label.path)
            }
        }
    }

    func call<Result: BinaryInteger>(
        _ operation: @autoclosure () -> SystemCall, _ body: () -> Result
    ) throws(SpoolError) -> Result {
        while true {
            let result = body()
            if result >= 0 { return result }
            let errno = Errno.current
            if errno == .interrupted { continue }
            let label = operation().label
            throw SpoolError(.system(errno), operation: label.operation, path: label.path)
        }
    }

    func beneath(_ path: SpoolPath, _ flags: Int32, _ mode: mode_t) -> Int32 {
        path.withCString { clinux_open_beneath(root.descriptor, $0, flags, mode) }
    }
}

extension Errno {
    /// The calling thread's errno.
    static var current: Errno { Errno(rawValue: Glibc.errno) }
}
