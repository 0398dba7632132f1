import CLinux
import Glibc

/// A file that appears under its name whole, or not at all.
///
/// The bytes go to a file beside the target, so that a target that is also the input stays as it is while it is read.
/// `commit` makes the bytes durable, gives the file its name, and makes the name durable. Without `commit` nothing is left,
/// also after SIGKILL where the file system knows files without a name (O_TMPFILE).
public final class AtomicFile {
    /// The open file, for those who write with calls of their own.
    public let descriptor: Int32
    /// What the caller named; a link is followed, and stays a link.
    private let path: String
    private let target: String
    private let isReplacing: Bool
    /// The name beside the target. Before `commit` a file without a name does not have it yet.
    private let temporary: String
    private var hasName: Bool

    /// Begins a file.
    ///
    /// - Parameter replacing: whether a file that is there already is replaced. It keeps its permissions.
    /// - Throws: `FileError`, also where the name stands for something that is no regular file.
    public init(_ path: String, replacing: Bool = true) throws(FileError) {
        self.path = path
        isReplacing = replacing
        var permissions: mode_t?
        var status = stat()
        if stat(path, &status) == 0 {
            guard replacing else { throw FileError(operation: "create", path: path, code: EEXIST) }
            guard status.st_mode & S_IFMT == S_IFREG else {
                let code = status.st_mode & S_IFMT == S_IFDIR ? EISDIR : EINVAL
                throw FileError(operation: "create", path: path, code: code, expected: "a regular file or a new name")
            }
            permissions = status.st_mode & 0o777
            target = Self.resolved(path) ?? path
        } else {
            target = path
        }
        let (folder, name) = Self.parts(of: target)
        // Short, because the name itself may be as long as the file system allows.
        temporary = "\(folder)/.\(sha256(name.utf8).prefix(12)).\(getpid()).part"
        let unnamed =
            access("/proc/self/fd", X_OK) == 0
            ? open(folder, clinux_o_tmpfile | O_RDWR | O_CLOEXEC, 0o666) : -1
        if unnamed >= 0 {
            descriptor = unnamed
            hasName = false
        } else {
            unlink(temporary)
            descriptor = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
            guard descriptor >= 0 else { throw .current("create", path) }
            hasName = true
        }
        if let permissions { fchmod(descriptor, permissions) }
    }

    /// Appends bytes.
    public func write(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
        try writeAll(bytes, to: descriptor, path: path)
    }

    /// Appends bytes.
    public func write(_ bytes: [UInt8]) throws(FileError) { try writeAll(bytes, to: descriptor, path: path) }

    /// Makes the file durable under its name.
    public func commit() throws(FileError) {
        guard fsync(descriptor) == 0 else { throw .current("fsync", path) }
        if !hasName {
            unlink(temporary)
            let linked = linkat(AT_FDCWD, "/proc/self/fd/\(descriptor)", AT_FDCWD, temporary, AT_SYMLINK_FOLLOW)
            guard linked == 0 else { throw .current("link", path) }
            hasName = true
        }
        let renamed = isReplacing ? rename(temporary, target) : renameToNew(temporary, target)
        guard renamed == 0 else { throw .current("rename", path) }
        hasName = false
        try syncFolder(of: target)
    }

    /// Makes a file of these bytes.
    public static func write(_ bytes: [UInt8], to path: String, replacing: Bool = true) throws(FileError) {
        let file = try AtomicFile(path, replacing: replacing)
        try file.write(bytes)
        try file.commit()
    }

    deinit {
        close(descriptor)
        if hasName { unlink(temporary) }
    }

    /// The folder and the last part of a path.
    static func parts(of path: String) -> (folder: String, name: String) {
        let trimmed = path.utf8.last == UInt8(ascii: "/") && path.utf8.count > 1 ? String(path.dropLast()) : path
        guard let slash = trimmed.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", trimmed) }
        let folder = String(trimmed[..<slash])
        return (folder.isEmpty ? "/" : folder, String(trimmed[trimmed.utf8.index(after: slash)...]))
    }

    private static func resolved(_ path: String) -> String? {
        guard let real = realpath(path, nil) else { return nil }
        defer { free(real) }
        return String(validatingCString: real)
    }
}

/// Renames to a name that must be free.
func renameToNew(_ from: String, _ to: String) -> Int32 {
    let result = clinux_rename_noreplace(AT_FDCWD, from, AT_FDCWD, to)
    guard result != 0, errno == EINVAL || errno == ENOSYS else { return result }
    // Some network file systems lack RENAME_NOREPLACE.
    guard access(to, F_OK) != 0 else {
        errno = EEXIST
        return -1
    }
    return rename(from, to)
}

/// Makes the names in the folder of a path durable.
func syncFolder(of path: String) throws(FileError) {
    let folder = AtomicFile.parts(of: path).folder
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .current("open", folder) }
    defer { close(descriptor) }
    // Some file systems cannot sync a folder and say so with EINVAL; there is nothing more to be done on them.
    guard fsync(descriptor) == 0 || errno == EINVAL else { throw .current("fsync", folder) }
}
