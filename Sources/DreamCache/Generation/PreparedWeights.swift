import Checkpoint
import Crypto
import Diffusion
import Foundation
import Glibc
import TensorEngine

/// A model's weights as its engine reads them, in a file of their own: the next start maps them, and neither reads nor converts
/// the checkpoint's. The file may be deleted at any time.
///
/// It is a safetensors file of bytes, one tensor a packed form, named after parameters and layout. What the values depend on is
/// in the file's name: a hash over the model's files, the adapter and the compute path.
public struct PreparedWeights: Sendable {
    /// Where the file is, or will be.
    public let path: String

    /// Counts changes of what stands under one name: the order of parameters in a product, Winograd's transform.
    private static let version = "1"
    /// Room that must be left on the disk.
    private static let reserve = 1 << 30

    init(folder: String, featureHash: String, adapterHash: String?, compute: ComputePath) {
        let lines = [Self.version, featureHash, adapterHash ?? "no adapter", compute.rawValue]
        path = "\(folder)/\(hexadecimal(SHA256.hash(data: Array(lines.joined(separator: "\n").utf8)))).safetensors"
    }

    /// Lets an engine read what the file has; a file that is not there or cannot be read is as good as an empty one.
    func serve(_ engine: Engine) {
        guard let file = try? Checkpoint.open(path) else { return }
        engine.preparedWeights = { file.tensors[$0]?.mappedBytes }
    }

    /// Writes the file anew if the engine has packed weights that did not come from it.
    ///
    /// - Returns: its size in bytes; nil where there is nothing new.
    /// - Throws: `DreamCacheError` with the errno, or where the disk has no room for it; the file before, if any, stays.
    func keep(
        _ engine: Engine, progress: (_ tensor: Int, _ tensors: Int) -> Void
    ) throws(DreamCacheError) -> Int? {
        var writer = SafetensorsWriter()
        writer.dataAlignment = Engine.packedWeightsAlignment
        var (size, hasNew) = (0, false)
        engine.forEachPackedWeights { name, bytes, isNew in
            hasNew = hasNew || isNew
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
        guard hasNew else { return nil }
        try checkRoom(for: size)
        let part = "\(path).part"
        defer { unlink(part) }
        do throws(CheckpointError) {
            let descriptor = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else { throw .system("open", part) }
            defer { close(descriptor) }
            try writer.write(to: descriptor, path: part, progress: progress)
            guard fsync(descriptor) == 0 else { throw .system("fsync", part) }
            guard rename(part, path) == 0 else { throw .system("rename", part) }
        } catch {
            throw .diffusion(.checkpoint(error))
        }
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
