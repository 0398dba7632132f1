import Bytes
import CLinux
import Glibc
import Spool

/// Copies of the files in a folder, or of one file, under the names they have, whatever bytes these are.
enum PictureCopy {
    /// Copies into a folder, which is made. Links are followed; hidden files are left out. The copies are the group's,
    /// whatever the originals are and whatever the umask is.
    /// - Returns: what was not copied because it is no plain file.
    static func copy(_ path: String, into target: String) throws -> [String] {
        let source = try open(AT_FDCWD, Array(path.utf8), O_RDONLY, path)
        defer { close(source) }
        guard mkdir(target, 0o777) == 0 else { throw FileError.current("mkdir", target) }
        let folder = try open(AT_FDCWD, Array(target.utf8), O_RDONLY | O_DIRECTORY, target)
        defer { close(folder) }
        guard fchmod(folder, 0o770) == 0 else { throw FileError.current("chmod", target) }
        guard kind(of: source) == S_IFDIR else {
            if let name = GivenPaths.name(of: path) { try copyBytes(of: source, as: name, into: folder) }
            return []
        }
        var unused: [String] = []
        let names = try SystemCalls(root: "/proc/self/fd/\(source)").list("")
        for name in names where name.bytes.first != UInt8(ascii: ".") {
            let file = try open(source, name.bytes, O_RDONLY | O_NONBLOCK | O_NOCTTY, name.printable)
            defer { close(file) }
            if kind(of: file) == S_IFREG {
                try copyBytes(of: file, as: name, into: folder)
            } else {
                unused.append(name.printable)
            }
        }
        return unused
    }

    private static func copyBytes(of source: Int32, as name: SpoolPath.Name, into folder: Int32) throws {
        let target = try open(folder, name.bytes, O_WRONLY | O_CREAT | O_EXCL, name.printable)
        defer { close(target) }
        guard fchmod(target, 0o660) == 0 else { throw FileError.current("chmod", name.printable) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { buffer.deallocate() }
        while true {
            let count = read(source, buffer.baseAddress, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileError.current("read", name.printable) }
            if count == 0 { return }
            try writeAll(UnsafeRawBufferPointer(rebasing: buffer[..<count]), to: target, path: name.printable)
        }
    }

    private static func kind(of descriptor: Int32) -> mode_t {
        var status = stat()
        fstat(descriptor, &status)
        return status.st_mode & S_IFMT
    }

    private static func open(_ folder: Int32, _ name: [UInt8], _ flags: Int32, _ shown: String) throws -> Int32 {
        let descriptor = (name.map { CChar(bitPattern: $0) } + [0]).withUnsafeBufferPointer { buffer in
            buffer.baseAddress.map { openat(folder, $0, flags | O_CLOEXEC, 0o666) } ?? -1
        }
        guard descriptor >= 0 else { throw FileError.current("open", shown) }
        return descriptor
    }
}
