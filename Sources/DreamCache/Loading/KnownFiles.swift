import Bytes
import Checkpoint
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
    /// The number of files that are remembered; older entries are dropped, so that the file stays small.
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
        // A file that changed while it was read has no hash that could be remembered.
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

/// SHA-256 of a file's bytes, in lower-case hexadecimal; the monitor hears of every piece.
private func sha256(ofFile path: String, _ monitor: Monitor) throws(DreamCacheError) -> String {
    var isInterrupted = false
    let hash = try onFile { () throws(FileError) in
        try Bytes.sha256(ofFile: path) {
            isInterrupted = monitor.isInterrupted()
            return !isInterrupted
        }
    }
    if isInterrupted { throw .stopped }
    return hash
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
