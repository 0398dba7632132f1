import CLinux
import Foundation
import Glibc

/// A folder that appears under its name whole, or not at all.
///
/// Its files are made in a hidden folder beside the target. `commit` makes all of them durable and renames the folder.
/// Without `commit` the hidden folder is removed. One that SIGKILL has left is removed by the next attempt at the same name.
public final class AtomicFolder {
    /// Where the files go until `commit`.
    public let place: String
    private let target: String
    /// Holds the lock that tells other attempts that this one is alive.
    private let descriptor: Int32
    private var isPublished = false

    /// Begins a folder; folders above it are made.
    /// - Throws: `FileError`, also where the name is taken.
    public init(_ path: String) throws(FileError) {
        target = path
        // A link that leads nowhere is a taken name too.
        var status = stat()
        guard lstat(path, &status) != 0 else {
            throw FileError(operation: "create", path: path, code: EEXIST, expected: "a new name")
        }
        let (folder, name) = AtomicFile.parts(of: path)
        try Self.makeFolders(folder)
        let stem = ".\(sha256(name.utf8).prefix(12))."
        Self.sweep(folder, stem)
        place = "\(folder)/\(stem)\(getpid()).part"
        guard mkdir(place, 0o777) == 0 else { throw .current("mkdir", place) }
        descriptor = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0, flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let failure = FileError.current("lock", place)
            if descriptor >= 0 { close(descriptor) }
            rmdir(place)
            throw failure
        }
    }

    /// The path of a file in the making.
    public func path(_ name: String) -> String { "\(place)/\(name)" }

    /// Makes the folder durable under its name.
    public func commit() throws(FileError) {
        try Self.sync(place)
        guard renameToNew(place, target) == 0 else { throw .current("rename", target) }
        isPublished = true
        try syncFolder(of: target)
    }

    deinit {
        if !isPublished { try? FileManager.default.removeItem(atPath: place) }
        close(descriptor)
    }

    private static func makeFolders(_ folder: String) throws(FileError) {
        guard mkdir(folder, 0o777) != 0, errno != EEXIST else { return }
        guard errno == ENOENT else {
            // On a file system that is read-only, or in a folder of somebody else's, the folder may be there all the same.
            let failure = FileError.current("mkdir", folder)
            guard access(folder, X_OK) == 0 else { throw failure }
            return
        }
        try makeFolders(AtomicFile.parts(of: folder).folder)
        guard mkdir(folder, 0o777) == 0 || errno == EEXIST else { throw .current("mkdir", folder) }
    }

    /// Removes what attempts at this name have left that no process holds any more.
    private static func sweep(_ folder: String, _ stem: String) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        for name in names where name.hasPrefix(stem) && name.hasSuffix(".part") {
            let path = "\(folder)/\(name)"
            let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { continue }
            try? FileManager.default.removeItem(atPath: path)
        }
    }

    /// Makes everything below a folder durable, and then its names.
    private static func sync(_ folder: String) throws(FileError) {
        guard let stream = opendir(folder) else { throw .current("open", folder) }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard name != ".", name != ".." else { continue }
            let path = "\(folder)/\(name)"
            var status = stat()
            guard lstat(path, &status) == 0 else { throw .current("stat", path) }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: try sync(path)
            case S_IFREG:
                let descriptor = open(path, O_RDONLY | O_CLOEXEC)
                guard descriptor >= 0 else { throw .current("open", path) }
                defer { close(descriptor) }
                guard fsync(descriptor) == 0 else { throw .current("fsync", path) }
            default: break
            }
        }
        try syncFolder(of: "\(folder)/.")
    }
}
