import Bytes
import Checkpoint
import Crypto
import Diffusion
import Foundation
import Glibc
import TensorEngine

/// A model's weights as its engine reads them, in a file of their own: the next start maps them, and neither reads nor converts
/// the checkpoint's. The file may be deleted at any time.
///
/// It is a safetensors file of bytes, one tensor per packed form, named after parameters and layout. What the values
/// depend on is in the file's name: a hash over the model's files, the adapter and the compute path.
final class PreparedWeights {
    /// Where the file is, or will be.
    let path: String
    /// What an earlier run has left.
    private let file: Checkpoint?
    /// The names in the file as it is now.
    private var kept: Set<String>

    /// Counts changes of what stands under one name: the order of parameters in a product, Winograd's transform.
    private static let version = "1"
    /// Room that must be left on the disk.
    private static let reserve = 1 << 30
    /// After so many tensors they are made durable, so that the last sync does not take minutes.
    private static let syncInterval = 16

    /// Metadata key of the SHA-256 of the file's data section.
    private static let checksumKey = "dreamcache.data_sha256"

    /// Why what an earlier run left is not used, if that is so.
    private(set) var damage: String?

    /// A file that is not there or cannot be read, or whose bytes are not those that were written, is as good as an empty one.
    /// The bytes are read once for each state of the file.
    init(
        folder: String, featureHash: String, adapterHash: String?, compute: ComputePath, _ known: KnownFiles,
        _ monitor: Monitor
    ) throws(DreamCacheError) {
        let lines = [Self.version, featureHash, adapterHash ?? "no adapter", compute.rawValue]
        path = "\(folder)/\(sha256(lines.joined(separator: "\n").utf8)).safetensors"
        Self.sweep(folder)
        do {
            file = try Self.checked(path, known, monitor)
        } catch .preparedWeights(_, let found) {
            file = nil
            damage = found
        }
        kept = Set(file?.tensors.keys.map { $0 } ?? [])
    }

    private static func checked(
        _ path: String, _ known: KnownFiles, _ monitor: Monitor
    ) throws(DreamCacheError) -> Checkpoint? {
        guard FileIdentity(path: path) != nil else { return nil }
        let file: Checkpoint
        do { file = try Checkpoint.open(path) } catch {
            throw .preparedWeights(path: path, found: "\(error.place): \(error.found)")
        }
        guard let expected = file.metadata[checksumKey] else {
            throw .preparedWeights(path: path, found: "no checksum")
        }
        try monitor.begin("checking prepared weights")
        try known.once("prepared \(expected)", [path]) { () throws(DreamCacheError) in
            let hash = try file.withUnsafeDataSection { bytes in
                Result { () throws(DreamCacheError) in
                    var hash = SHA256()
                    for start in stride(from: 0, to: bytes.count, by: 1 << 20) {
                        try monitor.check()
                        let piece = bytes[start..<min(bytes.count, start + 1 << 20)]
                        hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: piece))
                    }
                    return hexadecimal(hash.finalize())
                }
            }.get()
            guard hash == expected else { throw .preparedWeights(path: path, found: "SHA-256 \(hash)") }
        }
        return file
    }

    /// Removes what writers that were killed have left: whoever still writes holds a lock on its file.
    private static func sweep(_ folder: String) {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        where name.hasSuffix(".part") {
            let part = "\(folder)/\(name)"
            let descriptor = open(part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
            guard descriptor >= 0 else { continue }
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { unlink(part) }
            close(descriptor)
        }
    }

    /// Lets an engine read what an earlier run has left.
    func serve(_ engine: Engine) {
        guard let file else { return }
        engine.preparedWeights = { file.tensors[$0]?.mappedBytes }
    }

    /// Writes the file anew if the engine has packed weights that are not in it; what is in it stays.
    ///
    /// - Parameter check: throws where the weights came out of a file that was damaged meanwhile.
    /// - Returns: the size of the weights in bytes; nil where there is nothing new.
    /// - Throws: `DreamCacheError` with the errno, or where the disk has no room for it, or `.stopped`; the file before, if
    ///   any, stays.
    func keep(
        _ engine: Engine, _ monitor: Monitor, check: () throws(CheckpointError) -> Void
    ) throws(DreamCacheError) -> Int? {
        var writer = SafetensorsWriter()
        writer.dataAlignment = Engine.packedWeightsAlignment
        var size = 0
        var names: Set<String> = []
        engine.forEachPackedWeights { name, bytes, _ in
            guard names.insert(name).inserted else { return }
            // The gap aligns the next tensor.
            let gap = -bytes.count & (Engine.packedWeightsAlignment - 1)
            size += bytes.count + gap
            // The engine's memory, which nobody touches before the file is written.
            nonisolated(unsafe) let bytes = bytes
            writer.add(name, type: .u8, shape: [bytes.count + gap]) { emit in
                emit(bytes)
                [UInt8](repeating: 0, count: gap).withUnsafeBytes(emit)
            }
        }
        guard !names.isSubset(of: kept) else { return nil }
        for tensor in file?.tensors.values.map({ $0 }) ?? [] where names.insert(tensor.name).inserted {
            size += tensor.count
            writer.add(tensor)
        }
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
        let free = try FreeSpace.bytes(at: folder)
        guard free >= size + Self.reserve else {
            throw .mismatch(
                path: folder, field: "free space", found: "\(free >> 20) MB",
                expected: "\((size + Self.reserve) >> 20) MB")
        }
        try monitor.begin("keeping weights")
        writer.metadata[Self.checksumKey] = try checksum(writer, monitor)
        try write(writer, monitor, check: check)
        kept = names
        return size
    }

    private func checksum(_ writer: SafetensorsWriter, _ monitor: Monitor) throws(DreamCacheError) -> String {
        var hash = SHA256()
        var isStopped = false
        do {
            try writer.forEachDataPiece(path: path) { piece in
                for start in stride(from: 0, to: piece.count, by: 1 << 20) where !isStopped {
                    let part = piece[start..<min(piece.count, start + 1 << 20)]
                    hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: part))
                    isStopped = monitor.isInterrupted()
                }
            }
        } catch { throw .diffusion(.checkpoint(error)) }
        if isStopped { throw .stopped }
        return hexadecimal(hash.finalize())
    }

    private func write(
        _ writer: SafetensorsWriter, _ monitor: Monitor, check: () throws(CheckpointError) -> Void
    ) throws(DreamCacheError) {
        // Of this process alone: another may be keeping the same weights.
        let part = "\(path).\(getpid()).part"
        unlink(part)
        defer { unlink(part) }
        var isStopped = false
        do throws(CheckpointError) {
            let descriptor = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
            guard descriptor >= 0 else { throw .system("open", part) }
            defer { close(descriptor) }
            // As long as this process writes, and no longer: the sign that the file is not left over.
            _ = flock(descriptor, LOCK_EX | LOCK_NB)
            try writer.write(to: descriptor, path: part) { (index, count) throws(CheckpointError) in
                do { try monitor.begin("keeping weights", index, of: count) } catch {
                    isStopped = true
                    throw CheckpointError(path: part, cause: .stopped, place: "file", found: "a request to stop")
                }
                guard index % Self.syncInterval != 0 || fdatasync(descriptor) == 0 else {
                    throw .system("fdatasync", part)
                }
            }
            // Zeros that stand for what a damaged file held are not kept.
            try check()
            guard fsync(descriptor) == 0 else { throw .system("fsync", part) }
            guard rename(part, path) == 0 else { throw .system("rename", part) }
        } catch {
            throw isStopped ? .stopped : .diffusion(.checkpoint(error))
        }
    }
}
