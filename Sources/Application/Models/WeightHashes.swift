import Foundation
import Glibc

/// SHA-256 of models' files, remembered for as long as the files are the same: hashing some gigabytes takes seconds.
struct WeightHashes {
    /// What tells that a file is still the one that was hashed.
    struct FileIdentity: Hashable, Codable {
        let device: UInt64, inode: UInt64, size: Int64
        /// Of the last change of the content, which a program can set, and of anything, which it cannot: seconds and
        /// nanoseconds of each.
        let times: [Int]

        init?(path: String) {
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

    private struct Entry: Codable { let files: [FileIdentity], sha256: String }

    private var known: [[FileIdentity]: String] = [:]
    private let file: URL?

    /// - Parameter folder: where they are remembered beyond this process, if anywhere.
    init(folder: String?) {
        file = folder.map { URL(fileURLWithPath: $0).appendingPathComponent("hashes.json") }
        // A file that is not there, or not what it should be, costs the time to hash again.
        guard let file, let data = try? Data(contentsOf: file),
            let entries = try? JSONDecoder().decode([Entry].self, from: data)
        else { return }
        for entry in entries { known[entry.files] = entry.sha256 }
    }

    subscript(files: [FileIdentity]) -> String? { known[files] }

    mutating func remember(_ files: [FileIdentity], _ sha256: String) {
        guard known.updateValue(sha256, forKey: files) != sha256, let file else { return }
        let entries = known.map { Entry(files: $0, sha256: $1) }
        try? JSONEncoder().encode(entries).write(to: file, options: .atomic)
    }
}
