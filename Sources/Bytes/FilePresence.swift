import CLinux
import Glibc

/// What a path stands for. Foundation's `fileExists` says no whatever the error is; but a file that cannot be looked at must not
/// count as one that is not there: a model would be made without it, a photo used without its mask.
public enum FilePresence: Equatable, Sendable {
    /// Nothing has this name.
    case nothing
    /// Anything but a folder.
    case file
    /// A folder.
    case folder

    /// What a path stands for; links are followed.
    /// - Throws: the errno, unless it says that nothing is there.
    public static func of(_ path: String) throws(FileError) -> FilePresence {
        var status = stat()
        if stat(path, &status) == 0 { return status.st_mode & S_IFMT == S_IFDIR ? .folder : .file }
        guard errno == ENOENT || errno == ENOTDIR else { throw .current("stat", path) }
        return .nothing
    }

    /// The names in a folder, none where there is no folder.
    /// - Throws: the errno of what cannot be read.
    public static func names(in folder: String) throws(FileError) -> [String] {
        try of(folder) == .folder ? try names(inExisting: folder) : []
    }

    /// The names in a folder that was seen: that it is gone is an error too.
    /// - Throws: the errno of what cannot be read.
    public static func names(inExisting folder: String) throws(FileError) -> [String] {
        guard let stream = opendir(folder) else { throw .current("list", folder) }
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
        guard errno == 0 else { throw .current("list", folder) }
        return names
    }
}
