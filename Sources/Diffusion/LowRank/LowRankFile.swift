import Checkpoint
import Foundation
import Synchronization

/// A LoRA file and how strongly it is added.
public struct LowRankFile: Sendable, Hashable {
    /// The file: safetensors or torch, in kohya's or in diffusers' (PEFT's) naming, told apart by content.
    public var path: String
    /// Factor of its updates; 1 is as trained, 0 nothing, negative the contrary.
    public var weight: Double

    /// A file and its factor.
    public init(path: String, weight: Double = 1) {
        self.path = path
        self.weight = weight
    }
}

/// Low-rank updates of weights (Hu et al. 2021, arXiv 2106.09685): W + weight * alpha / rank * up down, computed where a
/// weight is read, so that the model's own weights stay in their file.
///
/// Source of the names: kohya-ss sd-scripts `networks/lora.py`; diffusers `loaders/lora_conversion_utils.py`; PEFT.
/// Proved by `Tests/Fixtures/families`.
final class LowRankUpdates: Sendable {
    /// The update of one map.
    private struct Module {
        var down: StoredTensor?
        var up: StoredTensor?
        var alpha: Double?
        /// How the file names it.
        var spelling: String
    }

    private struct Record {
        var used: Set<String> = []
        var wrong: [String] = []
    }

    private let file: LowRankFile
    private let modules: [String: Module]
    private let record = Mutex(Record())

    private enum Role { case down, up, alpha }

    /// How the names of the three parts of an update end.
    private static let endings: [(String, Role)] = [
        (".lora_down.weight", .down), (".lora_up.weight", .up), (".lora_A.default.weight", .down),
        (".lora_B.default.weight", .up), (".lora_A.weight", .down), (".lora_B.weight", .up),
        (".lora_linear_layer.down.weight", .down), (".lora_linear_layer.up.weight", .up),
        (".lora.down.weight", .down), (".lora.up.weight", .up), ("_lora.down.weight", .down),
        ("_lora.up.weight", .up), (".alpha", .alpha),
    ]

    /// Reads the file; its tensors stay in it.
    init(_ file: LowRankFile) throws(DiffusionError) {
        self.file = file
        guard file.weight.isFinite else {
            throw .configuration(
                path: file.path, field: "weight", found: "\(file.weight)", expected: "a finite number")
        }
        let checkpoint: Checkpoint
        do { checkpoint = try Checkpoint.open(file.path) } catch { throw .checkpoint(error) }
        let alphas = try Self.alphas(in: checkpoint)
        var modules: [String: Module] = [:]
        for (key, tensor) in checkpoint.tensors {
            guard let (ending, role) = Self.endings.first(where: { key.hasSuffix($0.0) }) else {
                throw Self.failure(
                    file, key, "a tensor that is no part of a LoRA",
                    "names ending in lora_down.weight, lora_up.weight, lora_A.weight, lora_B.weight or alpha "
                        + "(LoHa, LoKr and DoRA are not supported)")
            }
            let spelling = String(key.dropLast(ending.count))
            let name = Self.normalised(spelling)
            var module = modules[name] ?? Module(spelling: spelling)
            switch role {
            case .down: module.down = tensor
            case .up: module.up = tensor
            case .alpha:
                guard tensor.count == 1, let alpha = tensor.floats().first, alpha.isFinite else {
                    throw Self.failure(file, key, "shape \(tensor.shape)", "one finite number")
                }
                module.alpha = Double(alpha)
            }
            modules[name] = module
        }
        for (name, module) in modules {
            guard let down = module.down, let up = module.up, down.shape.count >= 2, up.shape.count >= 2,
                down.shape[0] == up.shape[1], down.shape[0] > 0, up.count == up.shape[0] * up.shape[1]
            else {
                let shapes = [module.down, module.up].map { $0.map { "\($0.shape)" } ?? "nothing" }
                throw Self.failure(
                    file, module.spelling, "down \(shapes[0]) and up \(shapes[1])", "[rank, inputs] and [outputs, rank]"
                )
            }
            if module.alpha == nil { modules[name]?.alpha = alphas[name.hasPrefix("te_") ? "te" : "unet"] }
        }
        guard !modules.isEmpty else {
            throw Self.failure(file, "tensors", "none", "a LoRA")
        }
        self.modules = modules
    }

    private static func failure(
        _ file: LowRankFile, _ place: String, _ found: String, _ expected: String
    ) -> DiffusionError {
        .checkpoint(
            CheckpointError(path: file.path, cause: .unsupported, place: place, found: found, expected: expected))
    }

    /// `lora_alpha` of each network, where diffusers wrote PEFT's configuration into the metadata.
    private static func alphas(in checkpoint: Checkpoint) throws(DiffusionError) -> [String: Double] {
        guard let text = checkpoint.metadata["lora_adapter_metadata"],
            let values = try? JSONDecoder().decode([String: JSONValue].self, from: Data(text.utf8))
        else { return [:] }
        var alphas: [String: Double] = [:]
        for (prefix, network) in [("unet.", "unet"), ("text_encoder.", "te")] {
            if case .number(let alpha)? = values[prefix + "lora_alpha"] { alphas[network] = alpha }
            if case .object(let pattern)? = values[prefix + "alpha_pattern"], !pattern.isEmpty {
                throw .configuration(
                    path: checkpoint.path, field: "lora_adapter_metadata: \(prefix)alpha_pattern",
                    found: "\(pattern.count) entries", expected: "one alpha for all")
            }
        }
        return alphas
    }

    /// One spelling for all: kohya's, where dots are underscores, with `unet_` or `te_` before it.
    private static func normalised(_ spelling: String) -> String {
        var name = spelling[...]
        for wrapping in ["base_model.model.", "lora_"] where name.hasPrefix(wrapping) {
            name = name.dropFirst(wrapping.count)
        }
        if name.hasPrefix("text_encoder.") { name = "te_" + name.dropFirst("text_encoder.".count) }
        if ["down_blocks", "mid_block", "up_blocks"].contains(where: { name.hasPrefix($0) }) { name = "unet_" + name }
        var result = name.replacingOccurrences(of: ".processor.", with: ".").replacingOccurrences(of: ".", with: "_")
        // The processors of old diffusers name the map behind attention without its index.
        if result.hasSuffix("to_out") { result += "_0" }
        return result
    }

    /// What is added to the model's weight `name`.
    func amendments(of name: String, shape: [Int], names: LowRankNames) -> [ParameterStore.Amendment] {
        names.targets(of: name, rows: shape.first ?? 0).compactMap { target in
            guard let found = target.names.first(where: { modules[$0] != nil }), let module = modules[found],
                let up = module.up, let down = module.down
            else { return nil }
            record.withLock { _ = $0.used.insert(found) }
            let inputs = shape.dropFirst().reduce(1, *)
            let rank = down.shape[0]
            guard up.shape[0] == target.rows.count, down.count == rank * inputs else {
                record.withLock {
                    $0.wrong.append(
                        "\(module.spelling): \(down.shape) and \(up.shape) for a weight of "
                            + "\([target.rows.count] + shape.dropFirst())")
                }
                return nil
            }
            let scale = Float(file.weight * (module.alpha ?? Double(rank)) / Double(rank))
            let first = target.rows.lowerBound * inputs
            return { values in
                let (down, up) = (down.floats(), up.floats())
                down.withUnsafeBufferPointer { down in
                    for output in 0..<up.count / rank {
                        for r in 0..<rank {
                            let factor = scale * up[output * rank + r]
                            let row = first + output * inputs
                            for i in 0..<inputs { values[row &+ i] += factor * down[r &* inputs &+ i] }
                        }
                    }
                }
            }
        }
    }

    /// Checks that every update belonged to a weight of the model, of its shape.
    /// - Throws: one error that lists all that did not.
    func finish() throws(DiffusionError) {
        let record = record.withLock { $0 }
        if !record.wrong.isEmpty {
            throw Self.failure(
                file, "tensors", "updates of other shapes:\n    " + record.wrong.sorted().joined(separator: "\n    "),
                "a LoRA for this base model")
        }
        let unused = modules.filter { !record.used.contains($0.key) }.map(\.value.spelling).sorted()
        guard unused.isEmpty else {
            throw Self.failure(
                file, "tensors",
                "updates of maps that the model does not have:\n    " + unused.joined(separator: "\n    "),
                "a LoRA for this base model")
        }
    }
}
