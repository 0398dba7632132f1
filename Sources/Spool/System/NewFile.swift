import Glibc
import SystemPackage

extension SystemCalls {
    /// A file being written, which did not exist before.
    public final class NewFile {
        /// -1 once closed.
        private var descriptor: Int32
        private let system: SystemCalls
        /// Where it is.
        public let path: SpoolPath

        init(_ descriptor: Int32, _ path: SpoolPath, _ system: SystemCalls) {
            self.descriptor = descriptor
            self.path = path
            self.system = system
        }

        /// Appends bytes.
        public func write(_ bytes: [UInt8]) throws(SpoolError) {
            let result = bytes.withUnsafeBytes { bytes in
                Result { () throws(SpoolError) in try write(bytes) }
            }
            try result.get()
        }

        private func write(_ bytes: UnsafeRawBufferPointer) throws(SpoolError) {
            var rest = bytes
            while !rest.isEmpty {
                let piece = rest
                let allowed = try system.judge(.write(path, bytes: Array(piece))) ?? piece.count
                let count = try system.call(.write(path, bytes: [])) {
                    Glibc.write(descriptor, piece.baseAddress, min(allowed, piece.count))
                }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
        }

        /// Makes what was written durable, and closes; both results count.
        public func syncAndClose() throws(SpoolError) {
            try system.judge(.sync(path))
            _ = try system.call(.sync(path)) { fsync(descriptor) }
            try closeChecked()
        }

        /// Closes, leaving durability to a later `syncFileSystem`.
        public func closeChecked() throws(SpoolError) {
            var refused: SpoolError?
            do { try system.judge(.close(path)) } catch { refused = error }
            // The descriptor is gone whatever close says; EINTR on Linux means closed.
            let result = Glibc.close(descriptor)
            let errno = Errno.current
            descriptor = -1
            if let refused { throw refused }
            if result != 0, errno != .interrupted {
                throw SpoolError(.system(errno), operation: "close", path: path.string)
            }
        }

        deinit { if descriptor >= 0 { Glibc.close(descriptor) } }
    }

    /// Makes a new file; `.fileExists` when the name is taken.
    public func create(_ path: SpoolPath, mode: mode_t = 0o644) throws(SpoolError) -> NewFile {
        try judge(.create(path))
        let descriptor = try call(.create(path)) { beneath(path, O_WRONLY | O_CREAT | O_EXCL, mode) }
        return NewFile(descriptor, path, self)
    }
}
