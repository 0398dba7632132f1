import Bytes
import Checkpoint
import Diffusion
import Foundation
import Synchronization

/// Model files into safetensors, in another precision.
public enum Conversion {
    /// Writes a base model as safetensors, every tensor of floats as `type`, the others as they are; names stay.
    ///
    /// The output appears whole or not at all, and may be the input itself where both are files.
    ///
    /// - Parameters:
    ///   - path: a single file of any readable format, or a diffusers folder.
    ///   - output: a file; for a folder, a folder that does not exist yet, which then has one file of weights per part.
    ///   - variant: which of a folder's weights are taken.
    /// - Throws: `DreamCacheError`, also when a number is too large for `type`.
    public static func checkpoint(
        _ path: String, to output: String, type: StoredElementType, variant: String? = nil
    ) throws(DreamCacheError) {
        let parts = try onModel { () throws(DiffusionError) in
            try StableDiffusion.weightParts(of: path, variant: variant)
        }
        if let parts {
            try folder(path, parts, to: output, type: type)
            return
        }
        let file: Checkpoint
        do { file = try Checkpoint.open(path) } catch { throw .diffusion(.checkpoint(error)) }
        try write(file, to: output, type: type, metadata: modelSpec(file))
    }

    private static func folder(
        _ path: String, _ parts: [(folder: String, files: [String], stem: String)], to output: String,
        type: StoredElementType
    ) throws(DreamCacheError) {
        let result = try onFile { () throws(FileError) in try AtomicFolder(output) }
        do {
            for folder in ["tokenizer", "scheduler"] + parts.map(\.folder) {
                try copyDescriptions(from: "\(path)/\(folder)", to: result.path(folder))
            }
            try copy("\(path)/model_index.json", to: result.path("model_index.json"))
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
                tensors, to: result.path("\(part.folder)/\(part.stem).safetensors"), type: type,
                metadata: ["format": "pt"])
        }
        try onFile { () throws(FileError) in try result.commit() }
    }

    /// Copies all that describes a part. An index of shards describes nothing any more: the part has one file of weights.
    private static func copyDescriptions(from source: String, to target: String) throws {
        try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
        for name in try FileManager.default.contentsOfDirectory(atPath: source)
        where (name.hasSuffix(".json") && !name.contains(".index.")) || name.hasSuffix(".txt") {
            try copy("\(source)/\(name)", to: "\(target)/\(name)")
        }
    }

    /// A copy of what a link points to: downloads are links into a store.
    private static func copy(_ source: String, to target: String) throws {
        try Data(contentsOf: URL(fileURLWithPath: source)).write(to: URL(fileURLWithPath: target))
    }

    /// What the metadata of a converted single file says: the ModelSpec entries it had before, and whose layout it is.
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
                if type == .f16, overflowsHalf(values) { overflown.note(tensor.name) }
                values.withUnsafeBufferPointer { type.encoded($0)?.withUnsafeBytes(emit) }
            }
        }
        // Without `commit` the target stays as it was.
        let file = try onFile { () throws(FileError) in try AtomicFile(path) }
        do { try writer.write(to: file.descriptor, path: path) } catch { throw .diffusion(.checkpoint(error)) }
        if let name = overflown.first { throw overflow(of: name, in: path) }
        try onFile { () throws(FileError) in try file.commit() }
    }

    private static func overflowsHalf(_ values: [Float]) -> Bool {
        values.contains { $0.isFinite && Float16($0).isInfinite }
    }

    /// Whether a tensor of floats has a number that F16 has not.
    static func overflowsHalf(_ tensor: StoredTensor) -> Bool {
        tensor.elementType.isFloat && tensor.elementType != .f16 && overflowsHalf(tensor.floats())
    }

    static func overflow(of name: String, in path: String) -> DreamCacheError {
        .mismatch(path: path, field: name, found: "a number beyond 65504", expected: "BF16 or F32 for this model")
    }

    /// The first tensor that did not fit its new type.
    private final class Overflow: Sendable {
        private let name = Mutex<String?>(nil)

        var first: String? { name.withLock { $0 } }

        func note(_ name: String) { self.name.withLock { $0 = $0 ?? name } }
    }
}
