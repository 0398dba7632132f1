import Checkpoint
import Foundation
import Synchronization

/// Low-rank updates of weights (Hu et al. 2021, arXiv 2106.09685): W + weight * alpha / rank * up down, computed where a
/// weight is read, so that the model's own weights stay in their file. ``LowRankModule`` lists the kinds.
///
/// Source of the names: kohya-ss sd-scripts `networks/lora.py`; diffusers `loaders/lora_conversion_utils.py`; PEFT; LyCORIS.
/// Proved by `Tests/Fixtures/families` and `Tests/Fixtures/lora`.
final class LowRankUpdates: Sendable {
    private struct Record {
        var used: Set<String> = []
        var wrong: [String] = []
    }

    private let file: LowRankFile
    private let modules: [String: LowRankModule]
    private let record = Mutex(Record())

    /// Reads the file; its tensors stay in it.
    init(_ file: LowRankFile) throws(DiffusionError) {
        self.file = file
        for weight in [file.weight, file.unetWeight ?? 0, file.textEncoderWeight ?? 0] where !weight.isFinite {
            throw .configuration(path: file.path, field: "weight", found: "\(weight)", expected: "a finite number")
        }
        let checkpoint: Checkpoint
        let path = try file.file()
        do { checkpoint = try Checkpoint.open(path) } catch { throw .checkpoint(error) }
        var modules: [String: LowRankModule] = [:]
        for (key, tensor) in checkpoint.tensors {
            guard let (ending, role) = LowRankModule.endings.first(where: { key.hasSuffix($0.0) }) else {
                throw Self.failure(
                    file, key, "a tensor that is no part of a LoRA",
                    "names that end as those of LoRA, LoCon, LoHa, LoKr or DoRA do")
            }
            let spelling = String(key.dropLast(ending.count))
            let name = Self.normalised(spelling)
            var module = modules[name] ?? LowRankModule(spelling: spelling)
            if role == .alpha {
                guard tensor.count == 1, let alpha = tensor.floats().first, alpha.isFinite else {
                    throw Self.failure(file, key, "shape \(tensor.shape)", "one finite number")
                }
                module.alpha = Double(alpha)
            } else {
                module.tensors[role] = tensor
            }
            modules[name] = module
        }
        guard !modules.isEmpty else { throw Self.failure(file, "tensors", "none", "a LoRA") }
        if modules.keys.contains(where: { $0.hasPrefix("te1_") || $0.hasPrefix("te2_") }) {
            throw Self.failure(file, "tensors", "a LoRA of Stable Diffusion XL", "one of Stable Diffusion 1 or 2")
        }
        try Self.complete(&modules, from: checkpoint)
        for module in modules.values where module.size == nil {
            throw Self.failure(
                file, module.spelling, module.shapes.isEmpty ? "nothing" : module.shapes,
                "the tensors of one update: down [rank, inputs] and up [outputs, rank], or those of LoHa or LoKr")
        }
        self.modules = modules
    }

    /// Alphas that stand beside the tensors.
    private static func complete(
        _ modules: inout [String: LowRankModule], from checkpoint: Checkpoint
    ) throws(DiffusionError) {
        let inside = try LowRankScale.inMetadata(of: checkpoint)
        let isOfPEFT = checkpoint.tensors.keys.contains { $0.hasPrefix("base_model.model.") }
        let beside = isOfPEFT ? try LowRankScale.beside(checkpoint.path) : nil
        for name in modules.keys {
            guard var module = modules[name] else { continue }
            (inside[name.hasPrefix("te_") ? "te" : "unet"] ?? beside)?.complete(&module)
            modules[name] = module
        }
    }

    private static func failure(
        _ file: LowRankFile, _ place: String, _ found: String, _ expected: String
    ) -> DiffusionError {
        .checkpoint(
            CheckpointError(path: file.path, cause: .unsupported, place: place, found: found, expected: expected))
    }

    /// Prefixes that say nothing, or which network a map belongs to.
    private static let wrappings = ["base_model.model.", "lora_", "lycoris_"]
    private static let networks = [
        ("text_encoder.", "te_"), ("text_encoders.clip_l.transformer.", "te_"),
        ("cond_stage_model.transformer.", "te_"),
        ("cond_stage_model.", "te_"), ("model.diffusion_model.", "unet_"), ("diffusion_model.", "unet_"),
    ]
    /// What maps are called that name no network.
    private static let ownBeginnings: [(beginnings: [String], network: String)] = [
        (["down_blocks", "mid_block", "up_blocks", "conv_in", "conv_out", "time_emb"], "unet_"),
        (["input_blocks", "middle_block", "output_blocks"], "unet_"),
        (["text_model", "encoder_layers", "encoder.layers", "embeddings."], "te_"),
    ]
    /// The text encoder's maps in diffusers 0.15 to 0.18.
    private static let oldText = [("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj"), ("to_out", "out_proj")]

    /// One spelling for all: kohya's, where dots are underscores, with `unet_` or `te_` before it.
    private static func normalised(_ spelling: String) -> String {
        var name = spelling
        for wrapping in wrappings where name.hasPrefix(wrapping) { name.removeFirst(wrapping.count) }
        if let (long, short) = networks.first(where: { name.hasPrefix($0.0) }) {
            name = short + name.dropFirst(long.count)
        } else if let (_, network) = ownBeginnings.first(where: { $0.0.contains { name.hasPrefix($0) } }) {
            name = network + name
        }
        var result = name.replacingOccurrences(of: ".processor.", with: ".").replacingOccurrences(of: ".", with: "_")
        if result.hasPrefix("te_") {
            for (old, new) in oldText where result.hasSuffix("self_attn_" + old) {
                result = result.dropLast(old.count) + new
            }
        }
        // The processors of old diffusers name the map behind attention without its index.
        if result.hasSuffix("to_out") { result += "_0" }
        return result
    }

    /// What is added to the model's weight `name`.
    func amendments(of name: String, shape: [Int], names: LowRankNames) -> [StoredTensor.Amendment] {
        names.targets(of: name, rows: shape.first ?? 0).compactMap { target in
            guard let found = target.names.first(where: { modules[$0] != nil }), let module = modules[found] else {
                return nil
            }
            record.withLock { _ = $0.used.insert(found) }
            let (rows, inputs) = (target.rows.count, shape.dropFirst().reduce(1, *))
            guard let size = module.size, size == (rows, inputs), module.magnitudeFits(rows: rows, inputs: inputs)
            else {
                record.withLock {
                    $0.wrong.append(
                        "\(module.spelling): \(module.shapes) for a weight of \([rows] + shape.dropFirst())")
                }
                return nil
            }
            let weight = (found.hasPrefix("te_") ? file.textEncoderWeight : file.unetWeight) ?? file.weight
            let first = target.rows.lowerBound * inputs
            return { values in
                module.apply(
                    to: UnsafeMutableBufferPointer(rebasing: values[first..<first + rows * inputs]), rows: rows,
                    inputs: inputs, weight: weight)
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
