import Bytes
import CLinux
import Foundation
import Glibc
import Spool

/// A folder of photos, or one photo, as the spool would store it: told apart from masks, and under plain names.
///
/// The plain names are links in a folder of their own, which goes with this value. Names of any bytes are opened so, and the
/// renderer finds a mask beside its picture as it does in the spool.
final class ReferenceFolder {
    /// The paths of the pictures, in the order of the names they were given.
    private(set) var pictures: [String] = []
    /// What is in the folder and is no picture, as it was given.
    let unused: [String]
    private let links: String
    private var originals: [String: String] = [:]

    /// - Parameter takesMask: whether the mask beside a single photo belongs to it.
    /// - Throws: `Failure` as the spool refuses a drop, naming the file.
    init(_ path: String, limits: SpoolConfiguration.ReferenceLimits, takesMask: Bool = false) throws {
        guard let resolved = realpath(path, nil) else {
            throw Failure(
                code: .rejected,
                message:
                    "\(path.printable): found \(String(cString: strerror(errno))), expected a folder of photos or a photo"
            )
        }
        defer { free(resolved) }
        let place = (0..<strlen(resolved)).map { UInt8(bitPattern: resolved[$0]) }
        var status = stat()
        let isFolder = stat(resolved, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
        // A photo may lie in the root, whose name is the slash.
        let slash = max(1, place.lastIndex(of: UInt8(ascii: "/")) ?? 0)
        let container = isFolder ? place : Array(place[..<slash])
        var names: [SpoolPath.Name] = []
        if isFolder {
            names = try Self.names(in: container, path)
        } else if let name = GivenPaths.name(of: path) {
            // Where a link leads to the photo, the mask lies beside what it leads to.
            names = [name]
            if takesMask { names += ReferenceNames.masks(of: name, among: try Self.names(in: container, path)) }
        }
        guard names.count <= limits.files else {
            throw Failure(
                code: .rejected,
                message: "\(path.printable): found \(names.count) files, expected at most \(limits.files)")
        }
        links = try Self.makeFolder()
        var collection = ReferenceCollection(names, isFolder: isFolder)
        for entry in collection.entries {
            let isItself = !isFolder && entry.role == .picture
            let target = isItself ? place : container + [UInt8(ascii: "/")] + entry.original.bytes
            guard let content = Self.content(of: target, limits) else {
                collection.leaveFolder(entry.original)
                continue
            }
            switch collection.judge(entry, content) {
            case .store(let name):
                originals[name] = entry.original.printable
                try Self.link(target, "\(links)/\(name)")
            case .leave: continue
            case .later:
                throw Failure(code: .rejected, message: "\(entry.original.printable): found a file that changes")
            case .reject(let message): throw Failure(code: .rejected, message: message)
            }
        }
        unused = collection.unused
        if let message = collection.refusal(path.printable) { throw Failure(code: .rejected, message: message) }
        pictures = collection.stored.filter { $0.maskOf == nil }.map { "\(links)/\($0.name)" }
    }

    /// The name that was given to a stored one, for messages.
    func original(of name: String) -> String { originals[name] ?? name }

    /// Leaves out all pictures but those of these names, as they were given or as the spool would store them.
    /// - Throws: `Failure` where one is not there.
    func choose(_ names: [String]) throws {
        pictures = try names.map { name in
            let isNamed = { (path: String) in
                let stored = URL(fileURLWithPath: path).lastPathComponent
                return stored == name || self.original(of: stored) == name.printable
            }
            guard let picture = pictures.first(where: isNamed) else {
                let known = pictures.map { original(of: URL(fileURLWithPath: $0).lastPathComponent) }
                throw Failure(
                    code: .rejected,
                    message: "$.subject.references: found '\(name.printable)', expected one of "
                        + known.joined(separator: ", "))
            }
            return picture
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: links) }

    private static func names(in folder: [UInt8], _ path: String) throws -> [SpoolPath.Name] {
        let descriptor = withCString(folder) { open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        defer { if descriptor >= 0 { close(descriptor) } }
        do { return try SystemCalls(root: "/proc/self/fd/\(descriptor)").list("") } catch {
            throw Failure(code: .rejected, message: "\(path.printable): \(error)")
        }
    }

    private static func makeFolder() throws -> String {
        var template = Array("\(NSTemporaryDirectory())/dreamcache-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil, let path = String(validating: template.dropLast(), as: UTF8.self) else {
            throw Failure(code: .failed, message: "a temporary folder: \(String(cString: strerror(errno)))")
        }
        return path
    }

    private static func link(_ target: [UInt8], _ path: String) throws {
        let result = withCString(target) { symlink($0, path) }
        guard result == 0 else {
            throw Failure(code: .failed, message: "\(path.printable): \(String(cString: strerror(errno)))")
        }
    }

    /// What a file is, by its bytes; nil for a folder.
    private static func content(
        of path: [UInt8], _ limits: SpoolConfiguration.ReferenceLimits
    ) -> Result<ImageFile, ImageFile.Fault>? {
        switch RegularFile.open(path) {
        case .failure(.folder): return nil
        case .failure(let fault):
            return .failure(.refused(found: fault.found, expected: "a file that can be read"))
        case .success(let file):
            defer { file.close() }
            guard file.size <= limits.fileBytes else {
                return .failure(.refused(found: "\(file.size) bytes", expected: "at most \(limits.fileBytes)"))
            }
            return file.bytes().mapError { .refused(found: $0.found, expected: "a file that can be read") }.flatMap {
                bytes in
                Result { () throws(ImageFile.Fault) in try ImageFile.examine(bytes, limits: limits) }
            }
        }
    }

    private static func withCString<R>(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>) -> R) -> R {
        (bytes.map { CChar(bitPattern: $0) } + [0]).withUnsafeBufferPointer { buffer in
            buffer.baseAddress.map(body) ?? body("")
        }
    }
}
