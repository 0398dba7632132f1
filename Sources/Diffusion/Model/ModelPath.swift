import Bytes
import Checkpoint

/// What lies on the disk of a model. A file that cannot be looked at is an error, never one that is not there.
enum ModelPath {
    static func presence(of path: String) throws(DiffusionError) -> FilePresence {
        do throws(FileError) { return try FilePresence.of(path) } catch { throw .checkpoint(CheckpointError(error)) }
    }

    static func isFile(_ path: String) throws(DiffusionError) -> Bool { try presence(of: path) == .file }

    static func isFolder(_ path: String) throws(DiffusionError) -> Bool { try presence(of: path) == .folder }

    /// Whether a model is a folder of files; else it is a single file.
    /// - Throws: where nothing is there, too: a folder that goes away while it is read was no single file.
    static func isModelFolder(_ path: String) throws(DiffusionError) -> Bool {
        switch try presence(of: path) {
        case .folder: return true
        case .file: return false
        case .nothing: throw .configuration(path: path, field: "file", found: "nothing", expected: "a model")
        }
    }

    /// The names in a folder, none where there is no folder.
    static func names(in folder: String) throws(DiffusionError) -> [String] {
        do throws(FileError) { return try FilePresence.names(in: folder) } catch {
            throw .checkpoint(CheckpointError(error))
        }
    }

    /// The names in a folder that was seen: that it is gone is an error too.
    static func names(inExisting folder: String) throws(DiffusionError) -> [String] {
        do throws(FileError) { return try FilePresence.names(inExisting: folder) } catch {
            throw .checkpoint(CheckpointError(error))
        }
    }
}
