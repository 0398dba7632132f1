import Glibc

/// Bytes that tensors point into: a read-only file mapping, or memory of our own.
///
/// The size is checked once, when the file is opened. A file that another process shortens while it is mapped
/// raises SIGBUS on the next read of the lost pages; replace checkpoints by rename, never in place.
final class Memory: @unchecked Sendable {
    /// Immutable after initialisation, which is what makes sharing between threads sound.
    let bytes: UnsafeRawBufferPointer
    private let isMapping: Bool

    /// Maps the whole of an open regular file. The descriptor is the caller's, and may be closed afterwards.
    /// - Throws: `CheckpointError` with the errno, or when the file is empty or no regular file.
    init(mapping descriptor: Int32, path: String) throws(CheckpointError) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system("fstat", path) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw CheckpointError(
                path: path, cause: .unsupported, place: "file type",
                found: status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "something that is no regular file",
                expected: "a regular file")
        }
        guard status.st_size > 0 else {
            throw CheckpointError(
                path: path, cause: .truncated, place: "file", found: "0 bytes", expected: "a checkpoint")
        }
        let size = Int(status.st_size)
        guard let address = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), address != MAP_FAILED else {
            throw .system("mmap", path)
        }
        bytes = UnsafeRawBufferPointer(start: address, count: size)
        isMapping = true
    }

    /// Memory of `count` zero bytes; large blocks cost nothing until they are written.
    private init?(zeros count: Int) {
        guard let address = calloc(max(count, 1), 1) else { return nil }
        bytes = UnsafeRawBufferPointer(start: address, count: count)
        isMapping = false
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
        isMapping = false
    }

    deinit {
        if isMapping {
            munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
        } else {
            free(UnsafeMutableRawPointer(mutating: bytes.baseAddress))
        }
    }
}

extension CheckpointError {
    /// The failure of a system call, read from errno.
    static func system(_ call: String, _ path: String) -> CheckpointError {
        let code = errno
        return CheckpointError(
            path: path, cause: .system(code: code), place: call,
            found: "\(String(cString: strerror(code))) (errno \(code))")
    }
}
