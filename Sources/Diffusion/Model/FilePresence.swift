import Checkpoint
import Foundation
import Glibc

/// What a path stands for. Foundation's `fileExists` says no whatever the error is; but a file that cannot be looked at must not
/// count as one that is not there, or a model is made without it.
enum FilePresence: Equatable {
    case nothing, file, folder

    /// - Throws: `.checkpoint` with the errno, unless it says that nothing is there.
    static func of(_ path: String) throws(DiffusionError) -> FilePresence {
        var status = stat()
        if stat(path, &status) == 0 { return status.st_mode & S_IFMT == S_IFDIR ? .folder : .file }
        guard errno == ENOENT || errno == ENOTDIR else { throw .checkpoint(.system("stat", path)) }
        return .nothing
    }

    /// The names in a folder, none where there is no folder.
    static func names(in folder: String) throws(DiffusionError) -> [String] {
        guard try of(folder) == .folder else { return [] }
        guard let stream = opendir(folder) else { throw .checkpoint(.system("list", folder)) }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else { break }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        guard errno == 0 else { throw .checkpoint(.system("list", folder)) }
        return names
    }
}
