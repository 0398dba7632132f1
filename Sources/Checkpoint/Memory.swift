import Bytes
import CCheckpoint
import Glibc
import Synchronization

/// Bytes that tensors point into: a read-only file mapping, memory of our own, or addresses without memory, whose bytes
/// are made up each time they are read.
///
/// The size is checked once, when the file is opened. Pages that another process cuts off later, or that the disk can no
/// longer read, read as zeros, and `MappedFiles.check()` then names the file.
final class Memory: @unchecked Sendable {
    /// Writes the bytes from `offset` on into a buffer.
    typealias Maker = @Sendable (_ offset: Int, _ buffer: UnsafeMutableRawBufferPointer) -> Void

    private enum Kind {
        case file
        case heap
        case made(Maker)
    }

    /// Immutable after initialisation, which is what makes sharing between threads sound. To be read through
    /// `withBytes` where they may be made up.
    let bytes: UnsafeRawBufferPointer
    private let kind: Kind
    /// Of a file: what watches over its pages, -1 where nothing does.
    private let watch: Int32

    /// Maps the whole of an open regular file. The descriptor is the caller's, and may be closed afterwards.
    /// - Throws: `CheckpointError` with the errno, or when the file is empty or no regular file.
    init(mapping descriptor: Int32, path: String) throws(CheckpointError) {
        let size = try RegularFile.of(descriptor).mapError { CheckpointError($0, path) }.get().size
        guard size > 0 else {
            throw CheckpointError(
                path: path, cause: .truncated, place: "file", found: "0 bytes", expected: "a checkpoint")
        }
        guard let address = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), address != MAP_FAILED else {
            throw .system("mmap", path)
        }
        bytes = UnsafeRawBufferPointer(start: address, count: size)
        kind = .file
        watch = mapping_watch(address, size)
        MappedFiles.began(watch, path: path, size: size)
    }

    /// Addresses for `count` bytes that `maker` makes up whenever they are read, and that no memory is spent on in
    /// between; nil when there are no such addresses.
    init?(count: Int, maker: @escaping Maker) {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let address = mmap(nil, max(count, 1), PROT_NONE, flags, -1, 0), address != MAP_FAILED else { return nil }
        bytes = UnsafeRawBufferPointer(start: address, count: count)
        kind = .made(maker)
        watch = -1
    }

    /// Memory of `count` zero bytes; large blocks cost nothing until they are written.
    private init?(zeros count: Int) {
        guard let address = calloc(max(count, 1), 1) else { return nil }
        bytes = UnsafeRawBufferPointer(start: address, count: count)
        kind = .heap
        watch = -1
    }

    /// `count` zero bytes, then filled by `fill`; nil when there is no memory for them.
    static func allocated(_ count: Int, fill: (UnsafeMutableRawBufferPointer) -> Void = { _ in }) -> Memory? {
        guard let memory = Memory(zeros: count) else { return nil }
        fill(UnsafeMutableRawBufferPointer(mutating: memory.bytes))
        return memory
    }

    /// No bytes at all.
    static let empty = Memory(of: UnsafeRawBufferPointer(start: nil, count: 0))

    private init(of nothing: UnsafeRawBufferPointer) {
        bytes = nothing
        kind = .heap
        watch = -1
    }

    /// Whether its bytes are made up when they are read.
    var isMade: Bool { if case .made = kind { true } else { false } }

    /// Calls `body` with the content of `part`, which lies in `bytes`.
    func withBytes<R>(
        _ part: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) throws -> R
    ) rethrows -> R {
        guard case .made(let maker) = kind, let base = bytes.baseAddress, let start = part.baseAddress else {
            return try withExtendedLifetime(self) { try body(part) }
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: part.count, alignment: 64)
        defer { buffer.deallocate() }
        maker(start - base, buffer)
        return try body(UnsafeRawBufferPointer(buffer))
    }

    /// Gives the pages of a mapped file under `part` back to the system; reading them again brings them back. So a
    /// checkpoint that is converted tensor by tensor never stands in memory beside what was made of it.
    func release(_ part: UnsafeRawBufferPointer) {
        guard case .file = kind, let base = bytes.baseAddress, let start = part.baseAddress else { return }
        // A fault brings the pages around it too: fault_around_bytes, 64 KiB unless an administrator says otherwise.
        let window = 64 << 10
        let offset = (start - base) / window * window
        let end = min(bytes.count, (start - base + part.count + window - 1) / window * window)
        guard end > offset else { return }
        // A refusal costs memory, nothing else.
        madvise(UnsafeMutableRawPointer(mutating: base + offset), end - offset, MADV_DONTNEED)
    }

    deinit {
        let address = UnsafeMutableRawPointer(mutating: bytes.baseAddress)
        switch kind {
        case .file:
            MappedFiles.ended(watch)
            munmap(address, bytes.count)
        case .made: munmap(address, max(bytes.count, 1))
        case .heap: free(address)
        }
    }
}

/// The files that are mapped at this moment.
public enum MappedFiles {
    private static let files = Mutex<[Int32: (path: String, size: Int)]>([:])

    fileprivate static func began(_ watch: Int32, path: String, size: Int) {
        if watch >= 0 { files.withLock { $0[watch] = (path, size) } }
    }

    fileprivate static func ended(_ watch: Int32) {
        mapping_unwatch(watch)
        _ = files.withLock { $0.removeValue(forKey: watch) }
    }

    /// Checks that everything read so far from the mapped files that `isUsed` names came from these files, and is not
    /// zeros in place of what could not be read. To be called after work that used such a file, before its result
    /// counts; costs nothing as long as all is well.
    /// - Throws: `CheckpointError` naming a file of which a part could not be read: `.truncated` where it has become shorter,
    ///   else EIO. It is thrown for as long as the file is mapped.
    public static func check(_ isUsed: (_ path: String) -> Bool = { _ in true }) throws(CheckpointError) {
        guard mapping_faults() > 0 else { return }
        let damaged = files.withLock { files in
            files.first { mapping_is_damaged($0.key) && isUsed($0.value.path) }?.value
        }
        guard let damaged else { return }
        var status = stat()
        guard stat(damaged.path, &status) == 0, Int(status.st_size) < damaged.size else {
            throw CheckpointError(
                path: damaged.path, cause: .system(code: EIO), place: "mapped file",
                found: "a part that can no longer be read", expected: "a file that stays as it was opened")
        }
        throw CheckpointError(
            path: damaged.path, cause: .truncated, place: "mapped file", found: "\(status.st_size) bytes",
            expected: "\(damaged.size), as when it was opened (replace a file in use by rename, never in place)")
    }
}

extension CheckpointError {
    /// The failure of a system call, read from errno.
    package static func system(_ call: String, _ path: String) -> CheckpointError {
        CheckpointError(.current(call, path))
    }

    /// Of a file that cannot be read.
    package init(_ fault: RegularFile.Fault, _ path: String) {
        switch fault {
        case .system(let call, let code): self.init(FileError(operation: call, path: path, code: code))
        case .folder, .special:
            self.init(
                path: path, cause: .unsupported, place: "file type", found: fault.found, expected: "a regular file")
        }
    }

    /// The failure of a call on a file.
    package init(_ error: FileError) {
        self.init(
            path: error.path, cause: .system(code: error.code), place: error.operation,
            found: "\(error.reason) (errno \(error.code))", expected: error.expected ?? "")
    }
}

/// Work on files, whose errors become the checkpoint's.
func onFile<R>(_ work: () throws(FileError) -> R) throws(CheckpointError) -> R {
    do throws(FileError) { return try work() } catch { throw CheckpointError(error) }
}
