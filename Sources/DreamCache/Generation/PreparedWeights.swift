import Bytes
import Checkpoint
import Diffusion
import Foundation
import Glibc
import TensorEngine

/// A model's weights as its engine reads them, in a file of their own: the next start maps them, and neither reads nor converts
/// the checkpoint's. The file may be deleted at any time.
///
/// It is a safetensors file of bytes, one tensor a packed form, named after parameters and layout. What the values depend on is
/// in the file's name: a hash over the model's files, the adapter and the compute path.
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

    /// A file that is not there or cannot be read is as good as an empty one.
    init(folder: String, featureHash: String, adapterHash: String?, compute: ComputePath) {
        let lines = [Self.version, featureHash, adapterHash ?? "no adapter", compute.rawValue]
        path = "\(folder)/\(sha256(lines.joined(separator: "\n").utf8)).safetensors"
        file = try? Checkpoint.open(path)
        kept = Set(file?.tensors.keys.map { $0 } ?? [])
    }

    /// Lets an engine read what an earlier run has left.
    func serve(_ engine: Engine) {
        guard let file else { return }
        engine.preparedWeights = { file.tensors[$0]?.mappedBytes }
    }

    /// Writes the file anew if the engine has packed weights that are not in it; what is in it stays.
    ///
    /// - Returns: the size of the weights in bytes; nil where there is nothing new.
    /// - Throws: `DreamCacheError` with the errno, or where the disk has no room for it, or `.stopped`; the file before, if
    ///   any, stays.
    func keep(
        _ engine: Engine, progress: (_ tensor: Int, _ tensors: Int) -> Void, shouldStop: () -> Bool
    ) throws(DreamCacheError) -> Int? {
        var writer = SafetensorsWriter()
        writer.dataAlignment = Engine.packedWeightsAlignment
        var size = 0
        var names: Set<String> = []
        engine.forEachPackedWeights { name, bytes, _ in
            guard names.insert(name).inserted else { return }
            // So that the next one is aligned too.
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
        try checkRoom(for: size)
        // Of this process alone: another may be keeping the same weights.
        let part = "\(path).\(getpid()).part"
        unlink(part)
        defer { unlink(part) }
        var isStopped = false
        do throws(CheckpointError) {
            let descriptor = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
            guard descriptor >= 0 else { throw .system("open", part) }
            defer { close(descriptor) }
            try writer.write(to: descriptor, path: part) { (index, count) throws(CheckpointError) in
                progress(index, count)
                isStopped = shouldStop()
                if isStopped {
                    throw CheckpointError(path: part, cause: .truncated, place: "file", found: "a request to stop")
                }
                guard index % Self.syncInterval != 0 || fdatasync(descriptor) == 0 else {
                    throw .system("fdatasync", part)
                }
            }
            guard fsync(descriptor) == 0 else { throw .system("fsync", part) }
            guard rename(part, path) == 0 else { throw .system("rename", part) }
        } catch {
            throw isStopped ? .stopped : .diffusion(.checkpoint(error))
        }
        kept = names
        return size
    }

    private func checkRoom(for size: Int) throws(DreamCacheError) {
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
        var space = statvfs()
        guard statvfs(folder, &space) == 0 else { throw .diffusion(.checkpoint(.system("statvfs", folder))) }
        let (free, overflow) = UInt64(space.f_bavail).multipliedReportingOverflow(by: UInt64(space.f_frsize))
        guard overflow || free >= UInt64(size + Self.reserve) else {
            throw .mismatch(
                path: folder, field: "free space", found: "\(free >> 20) MB",
                expected: "\((size + Self.reserve) >> 20) MB")
        }
    }
}
