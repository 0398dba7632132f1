import CLinux
import Glibc

/// A regular file, open for reading. Whatever else a name may stand for (a folder, a pipe that nobody writes to) is told by its
/// kind, and never waited for.
public struct RegularFile: Sendable {
    /// Why there is no regular file to be read.
    public enum Fault: Error, Equatable, Sendable {
        /// A call that failed, and its errno.
        case system(call: String, code: Int32)
        /// A folder.
        case folder
        /// A pipe, socket or device.
        case special

        /// What was found, in words.
        public var found: String {
            switch self {
            case .system(_, let code): String(cString: strerror(code))
            case .folder: "a folder"
            case .special: "a pipe, socket or device"
            }
        }
    }

    /// The descriptor.
    public let descriptor: Int32
    /// Bytes, when it was opened.
    public let size: Int

    /// Opens a file, which the caller closes.
    public static func open(_ path: String) -> Result<RegularFile, Fault> { open(Array(path.utf8)) }

    /// The same of a path that need not be UTF-8.
    public static func open(_ path: [UInt8]) -> Result<RegularFile, Fault> {
        // Without O_NONBLOCK a FIFO in the file's place would hang the program here.
        let flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY
        let descriptor = (path.map { CChar(bitPattern: $0) } + [0]).withUnsafeBufferPointer { name in
            name.baseAddress.map { Glibc.open($0, flags) } ?? -1
        }
        guard descriptor >= 0 else { return .failure(.system(call: "open", code: errno)) }
        let file = of(descriptor)
        if case .failure = file { Glibc.close(descriptor) }
        return file
    }

    /// A file that somebody else has opened, and closes.
    public static func of(_ descriptor: Int32) -> Result<RegularFile, Fault> {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return .failure(.system(call: "fstat", code: errno)) }
        return switch status.st_mode & S_IFMT {
        case S_IFREG: .success(RegularFile(descriptor: descriptor, size: Int(status.st_size)))
        case S_IFDIR: .failure(.folder)
        default: .failure(.special)
        }
    }

    /// Its bytes from the first, at most so many. The file may have changed since it was opened: what is there is read.
    public func bytes(_ limit: Int = .max) -> Result<[UInt8], Fault> {
        var code: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: min(size, limit)) { buffer, count in
            while count < buffer.count {
                let got = pread(descriptor, buffer.baseAddress?.advanced(by: count), buffer.count - count, off_t(count))
                if got < 0 && errno == EINTR { continue }
                if got < 0 { code = errno }
                if got <= 0 { return }
                count += got
            }
        }
        return code == 0 ? .success(bytes) : .failure(.system(call: "read", code: code))
    }

    /// Gives the descriptor back.
    public func close() { Glibc.close(descriptor) }
}
