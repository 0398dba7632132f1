import Checkpoint
import Crypto
import Diffusion
import Foundation
import Glibc

/// What tells that a file is still the one that was looked at.
public struct FileIdentity: Hashable, Codable, Sendable {
    private let device: UInt64, inode: UInt64, size: Int64
    /// Of the last change of the content, which a program can set, and of anything, which it cannot: seconds and
    /// nanoseconds of each.
    private let times: [Int]

    /// Of a regular file; nil where there is none.
    public init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int64(status.st_size)
        times = [
            status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
        ]
    }
}

/// What reading models' files has shown, remembered for as long as the files are the same: reading some gigabytes takes
/// seconds. Belongs to one thread.
public final class KnownFiles {
    private struct Hash: Codable { let file: FileIdentity, sha256: String }
    private struct Check: Codable, Hashable { let files: [FileIdentity], what: String }
    private struct Document: Codable { var hashes: [Hash], checks: [Check] }

    private var hashes: [FileIdentity: String] = [:]
    private var checks: Set<Check> = []
    private let file: URL?
    /// Beyond so many the oldest knowledge is worth no file of megabytes.
    private static let capacity = 1000

    /// - Parameter folder: where they are remembered beyond this process, if anywhere.
    public init(folder: String? = nil) {
        file = folder.map { URL(fileURLWithPath: $0).appendingPathComponent("known-files.json") }
        // A file that is not there, or not what it should be, costs the time to read the models again.
        guard let file, let data = try? Data(contentsOf: file),
            let document = try? JSONDecoder().decode(Document.self, from: data)
        else { return }
        for hash in document.hashes { hashes[hash.file] = hash.sha256 }
        checks = Set(document.checks)
    }

    /// SHA-256 of a file, in lower-case hexadecimal.
    func sha256(of path: String, _ monitor: Monitor) throws(DreamCacheError) -> String {
        let identity = FileIdentity(path: path)
        if let identity, let known = hashes[identity] { return known }
        let hash = try DreamCache.sha256(ofFile: path, monitor)
        // One that changed meanwhile has neither content.
        if let identity, FileIdentity(path: path) == identity {
            hashes[identity] = hash
            save()
        }
        return hash
    }

    /// Runs a check of files whose result depends on their bytes alone, unless they have passed it before; `what` tells the
    /// check from others.
    func once(
        _ what: String, _ paths: [String], check: () throws(DreamCacheError) -> Void
    ) throws(DreamCacheError) {
        let files = paths.compactMap(FileIdentity.init)
        let key = Check(files: files, what: what)
        if files.count == paths.count, checks.contains(key) { return }
        try check()
        guard files.count == paths.count, paths.compactMap(FileIdentity.init) == files else { return }
        checks.insert(key)
        save()
    }

    private func save() {
        if hashes.count > Self.capacity { hashes = [:] }
        if checks.count > Self.capacity { checks = [] }
        guard let file else { return }
        let document = Document(hashes: hashes.map { Hash(file: $0, sha256: $1) }, checks: Array(checks))
        try? JSONEncoder().encode(document).write(to: file, options: .atomic)
    }
}

/// Lower-case hexadecimal digits of a digest.
package func hexadecimal(_ digest: some Sequence<UInt8>) -> String {
    digest.map { byte in
        let digits = String(byte, radix: 16)
        return byte < 16 ? "0" + digits : digits
    }.joined()
}

/// SHA-256 of a file's bytes, in lower-case hexadecimal; read a piece at a time.
func sha256(ofFile path: String, _ monitor: Monitor = .none) throws(DreamCacheError) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .diffusion(.checkpoint(.system("open", path))) }
    defer { close(descriptor) }
    var hash = SHA256()
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { buffer.deallocate() }
    while true {
        try monitor.check()
        let count = read(descriptor, buffer.baseAddress, buffer.count)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw .diffusion(.checkpoint(.system("read", path))) }
        if count == 0 { return hexadecimal(hash.finalize()) }
        hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }
}

/// Room on a disk.
public enum FreeSpace {
    /// Bytes that this user may still write to the file system of `path`.
    /// - Throws: `DreamCacheError` with the errno.
    public static func bytes(at path: String) throws(DreamCacheError) -> Int {
        var space = statvfs()
        guard statvfs(path, &space) == 0 else { throw .diffusion(.checkpoint(.system("statvfs", path))) }
        let (free, overflow) = UInt64(space.f_bavail).multipliedReportingOverflow(by: UInt64(space.f_frsize))
        return overflow ? .max : Int(clamping: free)
    }
}
