import Checkpoint
import Diffusion
import Foundation
import Synchronization

/// Model files into safetensors, in another precision.
public enum Conversion {
    /// Writes a base model as safetensors, every tensor of floats as `type`, the others as they are; names stay.
    ///
    /// - Parameters:
    ///   - path: a single file of any readable format, or a diffusers folder.
    ///   - output: a file; for a folder, a folder that does not exist yet, which then has one file of weights a part.
    ///   - variant: which of a folder's weights are taken.
    /// - Throws: `DreamCacheError`, also when a number is too large for `type`.
    public static func checkpoint(
        _ path: String, to output: String, type: StoredElementType, variant: String? = nil
    ) throws(DreamCacheError) {
        let parts = try onModel { () throws(DiffusionError) in
            try StableDiffusion.weightParts(of: path, variant: variant)
        }
        guard let parts else {
            let file: Checkpoint
            do { file = try Checkpoint.open(path) } catch { throw .diffusion(.checkpoint(error)) }
            try write(file, to: output, type: type, metadata: modelSpec(file))
            return
        }
        let manager = FileManager.default
        guard !manager.fileExists(atPath: output) else {
            throw .request(field: "output", found: "\(output), which exists", expected: "a folder to be made")
        }
        do {
            for folder in ["tokenizer", "scheduler"] + parts.map(\.folder) {
                let (source, target) = ("\(path)/\(folder)", "\(output)/\(folder)")
                try manager.createDirectory(atPath: target, withIntermediateDirectories: true)
                // All that describes a part; of an index nothing is left to say.
                for name in try manager.contentsOfDirectory(atPath: source)
                where (name.hasSuffix(".json") && !name.contains(".index.")) || name.hasSuffix(".txt") {
                    // A copy of what a link points to: downloads are links into a store.
                    try Data(contentsOf: URL(fileURLWithPath: "\(source)/\(name)")).write(
                        to: URL(fileURLWithPath: "\(target)/\(name)"))
                }
            }
            try Data(contentsOf: URL(fileURLWithPath: "\(path)/model_index.json")).write(
                to: URL(fileURLWithPath: "\(output)/model_index.json"))
        } catch {
            throw .request(field: "output", found: error.localizedDescription, expected: "a copy of \(path)")
        }
        for part in parts {
            var tensors: [StoredTensor] = []
            for file in part.files {
                do { tensors += try Checkpoint.open("\(path)/\(part.folder)/\(file)").tensors.values } catch {
                    throw .diffusion(.checkpoint(error))
                }
            }
            try write(
                tensors, to: "\(output)/\(part.folder)/\(part.stem).safetensors", type: type, metadata: ["format": "pt"]
            )
        }
    }

    /// What the metadata of a converted single file says: what it said before, and the base where it can be told.
    private static func modelSpec(_ file: Checkpoint) -> [String: String] {
        var metadata = file.metadata.filter { $0.key.hasPrefix("modelspec.") }
        metadata["format"] = "pt"
        return metadata
    }

    static func write(
        _ checkpoint: Checkpoint, to path: String, type: StoredElementType?, metadata: [String: String]
    ) throws(DreamCacheError) {
        try write(Array(checkpoint.tensors.values), to: path, type: type, metadata: metadata)
    }

    private static func write(
        _ tensors: [StoredTensor], to path: String, type: StoredElementType?, metadata: [String: String]
    ) throws(DreamCacheError) {
        guard type.map(\.isFloat) ?? true else {
            throw .request(field: "type", found: "\(type?.rawValue ?? "")", expected: "F32, F16 or BF16")
        }
        var writer = SafetensorsWriter(metadata: metadata)
        let overflown = Overflow()
        for tensor in tensors {
            guard let type, tensor.elementType.isFloat, tensor.elementType != type else {
                writer.add(tensor)
                continue
            }
            writer.add(tensor.name, type: type, shape: tensor.shape) { emit in
                let values = tensor.floats()
                if type == .f16, values.contains(where: { $0.isFinite && Float16($0).isInfinite }) {
                    overflown.note(tensor.name)
                }
                values.withUnsafeBufferPointer { type.encoded($0)?.withUnsafeBytes(emit) }
            }
        }
        // Beside the target first, so that a failure leaves what was there.
        let temporary = path + ".partial"
        do { try writer.write(toPath: temporary) } catch { throw .diffusion(.checkpoint(error)) }
        if let name = overflown.first {
            unlink(temporary)
            throw .mismatch(
                path: path, field: name, found: "a number beyond 65504", expected: "BF16 or F32 for this model")
        }
        guard rename(temporary, path) == 0 else {
            let reason = String(cString: strerror(errno))
            unlink(temporary)
            throw .mismatch(path: path, field: "file", found: reason, expected: "a file that can be replaced")
        }
    }

    /// The first tensor that did not fit its new type.
    private final class Overflow: Sendable {
        private let name = Mutex<String?>(nil)

        var first: String? { name.withLock { $0 } }

        func note(_ name: String) { self.name.withLock { $0 = $0 ?? name } }
    }
}
