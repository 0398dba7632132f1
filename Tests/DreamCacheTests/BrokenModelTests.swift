import Checkpoint
import Foundation
import Golden
import TensorEngine
import Testing

@testable import Diffusion
@testable import DreamCache

/// Models that are broken, or belong to something else, and what each is answered with.
@Suite struct BrokenModelTests {
    /// A fault done to a copy of a family's files, and what the message then says.
    struct Fault: Sendable, CustomTestStringConvertible {
        let name: String
        var family = "sd2"
        /// Parts of the message: the file, the field or key, what was found.
        let says: [String]
        var files: @Sendable (_ copy: Copy) -> ModelFiles = { ModelFiles(checkpoint: $0.folder) }
        let fault: @Sendable (_ copy: Copy) throws -> Void

        var testDescription: String { name }
    }

    /// A copy of a family's files that may be broken.
    struct Copy: Sendable {
        let root: String
        var folder: String { root + "/folder" }

        func read(_ path: String) throws -> String {
            try String(contentsOfFile: "\(root)/\(path)", encoding: .utf8)
        }
        func write(_ path: String, _ text: String) throws {
            try Data(text.utf8).write(to: URL(fileURLWithPath: "\(root)/\(path)"))
        }
        func replace(_ path: String, _ old: String, _ new: String) throws {
            let text = try read(path)
            try #require(text.contains(old))
            try write(path, text.replacingOccurrences(of: old, with: new))
        }
        func remove(_ path: String) throws { try FileManager.default.removeItem(atPath: "\(root)/\(path)") }
        func move(_ path: String, _ target: String) throws {
            try FileManager.default.moveItem(atPath: "\(root)/\(path)", toPath: "\(root)/\(target)")
        }
        func truncate(_ path: String, to count: Int) throws {
            try Data(contentsOf: URL(fileURLWithPath: "\(root)/\(path)")).prefix(count).write(
                to: URL(fileURLWithPath: "\(root)/\(path)"))
        }
        /// Writes a safetensors file of zeros.
        func tensors(_ path: String, _ shapes: [String: [Int]], _ metadata: [String: String] = [:]) throws {
            var writer = SafetensorsWriter(metadata: metadata)
            for (name, shape) in shapes {
                writer.add(
                    name, type: .f32, shape: shape, floats: Array(repeating: 0, count: shape.reduce(1, *)))
            }
            try writer.write(toPath: "\(root)/\(path)")
        }
        /// Rewrites a safetensors file tensor by tensor.
        func rewrite(_ path: String, _ change: (StoredTensor, inout SafetensorsWriter) -> Void) throws {
            var writer = SafetensorsWriter()
            for tensor in try Checkpoint.open("\(root)/\(path)").tensors.values { change(tensor, &writer) }
            try writer.write(toPath: "\(root)/\(path).new")
            try FileManager.default.removeItem(atPath: "\(root)/\(path)")
            try move("\(path).new", path)
        }
    }

    private static let unet = "folder/unet/config.json"
    private static let shard = "folder/unet/diffusion_pytorch_model-00002-of-00004.safetensors"
    private static let index = "folder/unet/diffusion_pytorch_model.safetensors.index.json"
    private static let text = "folder/text_encoder/model.safetensors"

    private static func single(_ name: String) -> @Sendable (Copy) -> ModelFiles {
        { ModelFiles(checkpoint: "\($0.root)/\(name)") }
    }

    private static func lora(_ name: String) -> @Sendable (Copy) -> ModelFiles {
        {
            var files = ModelFiles(checkpoint: $0.folder)
            files.loras = [LowRankFile(path: "\($0.root)/\(name)")]
            return files
        }
    }

    private static func adapter(_ name: String) -> @Sendable (Copy) -> ModelFiles {
        { ModelFiles(checkpoint: $0.folder, adapter: "\($0.root)/\(name)") }
    }

    // MARK: Folders

    private static let folders: [Fault] = [
        Fault(name: "no index", says: ["model_index.json", "No such file"]) {
            try $0.remove("folder/model_index.json")
        },
        Fault(name: "index that is no JSON", says: ["model_index.json", "no JSON object"]) {
            try $0.write("folder/model_index.json", "[1, 2")
        },
        Fault(name: "SDXL", says: ["model_index.json: text_encoder_2", "Stable Diffusion XL"]) {
            try $0.replace(
                "folder/model_index.json", "\"tokenizer\"",
                "\"text_encoder_2\": [\"transformers\", \"CLIPTextModelWithProjection\"], \"tokenizer\"")
        },
        Fault(name: "another class of U-Net", says: ["model_index.json: unet", "UNet3DConditionModel"]) {
            try $0.replace("folder/model_index.json", "UNet2DConditionModel", "UNet3DConditionModel")
        },
        Fault(name: "no U-Net", says: ["model_index.json: unet: found nothing"]) {
            try $0.replace("folder/model_index.json", "\"unet\"", "\"net\"")
        },
        Fault(name: "no configuration", says: ["unet/config.json", "No such file"]) { try $0.remove(unet) },
        Fault(
            name: "text for a number",
            says: ["unet/config.json: in_channels: found 'four', expected a whole number from 1 to 64"]
        ) { try $0.replace(unet, "\"in_channels\": 4", "\"in_channels\": \"four\"") },
        Fault(name: "inpainting", says: ["in_channels: found 9, an inpainting model"]) {
            try $0.replace(unet, "\"in_channels\": 4", "\"in_channels\": 9")
        },
        Fault(name: "another block", says: ["unet/config.json: down_block_types", "AttnDownBlock2D"]) {
            try $0.replace(unet, "\"DownBlock2D\"", "\"AttnDownBlock2D\"")
        },
        Fault(
            name: "heads that do not divide", says: ["attention_head_dim: found [3, 2, 2]", "[8, 16, 16]"]
        ) {
            let text = try $0.read(unet)
            let range = try #require(text.range(of: #"\[\s*1,\s*2,\s*2\s*\]"#, options: .regularExpression))
            try $0.write(unet, text.replacingCharacters(in: range, with: "[3, 2, 2]"))
        },
        Fault(
            name: "an option we lack",
            says: ["unet/config.json: addition_embed_type: found 'text_time', expected null"]
        ) { try $0.replace(unet, "\"addition_embed_type\": null", "\"addition_embed_type\": \"text_time\"") },
        Fault(name: "an activation we lack", says: ["text_encoder/config.json: hidden_act: found 'relu'"]) {
            try $0.replace("folder/text_encoder/config.json", "\"gelu\"", "\"relu\"")
        },
        Fault(name: "another kind of model", says: ["scheduler_config.json: _class_name", "flow matching"]) {
            try $0.replace("folder/scheduler/scheduler_config.json", "DDIMScheduler", "FlowMatchEulerDiscreteScheduler")
        },
        Fault(name: "no vocabulary", says: ["tokenizer/vocab.json"]) { try $0.remove("folder/tokenizer/vocab.json") },
        Fault(name: "vocabulary without end token", says: ["tokenizer/vocab.json", "<|endoftext|>"]) {
            try $0.replace("folder/tokenizer/vocab.json", "<|endoftext|>", "<|end|>")
        },
        Fault(name: "no weights", says: ["text_encoder: weights: found none", "model.safetensors"]) {
            try $0.remove(text)
        },
        Fault(
            name: "a variant that is not there", says: ["only the variants fp16", "non_ema"],
            files: {
                var files = ModelFiles(checkpoint: $0.folder)
                files.variant = "non_ema"
                return files
            }
        ) {
            try $0.move(text, "folder/text_encoder/model.fp16.safetensors")
        },
        Fault(name: "two variants and none named", says: ["only the variants bf16, fp16", "named as variant"]) {
            try $0.move(text, "folder/text_encoder/model.fp16.safetensors")
            try $0.tensors("folder/text_encoder/model.bf16.safetensors", ["a": [1]])
        },
        Fault(name: "a shard is missing", says: ["index.json: weight_map", "00002-of-00004.safetensors, which is not"])
        {
            try $0.remove(shard)
        },
        Fault(
            name: "an index that leads outside", says: ["index.json: weight_map", "'../../secret'", "beside the index"]
        ) {
            try $0.replace(index, "diffusion_pytorch_model-00002-of-00004.safetensors", "../../secret")
        },
        Fault(name: "a truncated shard", says: ["00002-of-00004.safetensors: truncated", "data section"]) {
            try $0.truncate(shard, to: 60_000)
        },
        Fault(name: "a Git LFS pointer", says: ["text_encoder/model.safetensors", "Git LFS pointer"]) {
            try $0.write(text, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        },
        Fault(
            name: "a tensor is missing, one too many, one misshapen",
            says: [
                "1 missing, 1 misshapen, 1 unused", "model.safetensors: encoder.layers.1.mlp.fc2.bias [16]",
                "model.safetensors: final_layer_norm.bias found [16, 1], expected [16]",
                "model.safetensors: encoder.layers.1.mlp.fc3.bias [16]",
            ]
        ) {
            try $0.rewrite(text) { tensor, writer in
                switch tensor.name {
                case "encoder.layers.1.mlp.fc2.bias": writer.add(tensor.renamed("encoder.layers.1.mlp.fc3.bias"))
                case "final_layer_norm.bias": writer.add(tensor.reshaped([16, 1]) ?? tensor)
                default: writer.add(tensor)
                }
            }
        },
        Fault(
            name: "another U-Net's weights",
            says: [
                "116 missing, 80 misshapen",
                "unet/diffusion_pytorch_model.bin: down_blocks.1.attentions.0.norm.bias [16]",
                "up_blocks.0.resnets.1.norm1.bias found [24], expected [32]",
            ],
            files: { ModelFiles(checkpoint: $0.folder) }
        ) {
            // The weights of the v-model, with the configuration of the other.
            for file in try FileManager.default.contentsOfDirectory(atPath: "\($0.folder)/unet")
            where file != "config.json" { try $0.remove("folder/unet/\(file)") }
            try FileManager.default.copyItem(
                atPath: Family("sd2v").folder + "/unet/diffusion_pytorch_model.bin",
                toPath: "\($0.folder)/unet/diffusion_pytorch_model.bin")
        },
        Fault(
            name: "too much left out", says: ["clip_skip: found 2, expected 0 to 1"],
            files: {
                var files = ModelFiles(checkpoint: $0.folder)
                files.clipSkip = 2
                return files
            }
        ) { _ in },
    ]

    // MARK: Single files

    private static let singles: [Fault] = [
        Fault(name: "nothing", says: ["none.ckpt: open", "No such file"], files: single("none.ckpt")) { _ in },
        Fault(name: "an empty file", says: ["empty.ckpt", "0 bytes"], files: single("empty.ckpt")) {
            try $0.write("empty.ckpt", "")
        },
        Fault(name: "a web page", says: ["page.ckpt", "an HTML page"], files: single("page.ckpt")) {
            try $0.write("page.ckpt", "<!DOCTYPE html><html></html>")
        },
        Fault(name: "a truncated zip", family: "sd1", says: ["single.ckpt: truncated"], files: single("single.ckpt")) {
            try $0.truncate("single.ckpt", to: 100_000)
        },
        Fault(name: "a LoRA as model", says: ["kohya.safetensors", "a LoRA file"], files: single("kohya.safetensors")) {
            _ in
        },
        Fault(
            name: "SDXL in one file", says: ["xl.safetensors", "Stable Diffusion XL"], files: single("xl.safetensors")
        ) {
            try $0.tensors("xl.safetensors", ["conditioner.embedders.0.x": [1]])
        },
        Fault(
            name: "a U-Net alone", says: ["diffusion_pytorch_model", "alone (name the model's folder)"],
            files: single("folder/unet/diffusion_pytorch_model-00001-of-00004.safetensors")
        ) { _ in },
        Fault(
            name: "an autoencoder alone", says: ["an autoencoder alone"],
            files: single("folder/vae/diffusion_pytorch_model-00001-of-00003.safetensors")
        ) { _ in },
        Fault(
            name: "no text encoder", says: ["single.safetensors: text encoder: found none in the checkpoint"],
            files: single("single.safetensors")
        ) {
            try $0.rewrite("single.safetensors") { tensor, writer in
                if !tensor.name.hasPrefix("cond_stage_model.") { writer.add(tensor) }
            }
        },
        Fault(
            name: "averages that are not there", says: ["averaged (EMA) weights, as were asked for"],
            files: {
                var files = ModelFiles(checkpoint: "\($0.root)/single.safetensors")
                files.usesEMA = true
                return files
            }
        ) { _ in },
        Fault(
            name: "a yaml of another kind", says: ["single.yaml: model", "expected an LDM model configuration"],
            files: single("single.safetensors")
        ) { try $0.write("single.yaml", "trainer: {}\n") },
    ]

    // MARK: LoRAs and adapters

    private static let additions: [Fault] = [
        Fault(
            name: "a LoRA of another base",
            says: ["other.safetensors: tensors: found updates of other shapes", "attn2_to_k", "a LoRA for this base"],
            files: lora("other.safetensors")
        ) {
            let name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
            try $0.tensors(
                "other.safetensors", ["\(name).lora_down.weight": [2, 768], "\(name).lora_up.weight": [8, 2]])
        },
        Fault(
            name: "a LoRA of unknown maps",
            says: ["found updates of maps that the model does not have", "lora_unet_down_blocks_9_x"],
            files: lora("other.safetensors")
        ) {
            try $0.tensors(
                "other.safetensors",
                [
                    "lora_unet_down_blocks_9_x.lora_down.weight": [2, 4],
                    "lora_unet_down_blocks_9_x.lora_up.weight": [8, 2],
                ])
        },
        Fault(
            name: "half a LoRA", says: ["lora_unet_a", "found down [2, 4], expected"], files: lora("other.safetensors")
        ) {
            try $0.tensors("other.safetensors", ["lora_unet_a.lora_down.weight": [2, 4]])
        },
        Fault(name: "a quarter of a LoHa", says: ["lora_unet_a", "hada_w1_a [2, 4]"], files: lora("other.safetensors"))
        {
            try $0.tensors("other.safetensors", ["lora_unet_a.hada_w1_a": [2, 4]])
        },
        Fault(
            name: "an adapter of Stable Diffusion",
            says: [
                "adapter for Stable Diffusion 2 (1280 channels; middle_block.1 1280", "output_blocks.10.1 320",
                "the model, which is another base (16 channels",
            ], files: adapter("other.safetensors")
        ) {
            let sites = [
                "middle_block.1": 1280, "output_blocks.4.1": 1280, "output_blocks.6.1": 640, "output_blocks.8.1": 640,
                "output_blocks.10.1": 320,
            ]
            try $0.tensors(
                "other.safetensors",
                Dictionary(
                    uniqueKeysWithValues: sites.map {
                        ("diffusion_model.\($0.key).transformer_blocks.0.linear_cat.bias", [$0.value])
                    }), ["modelspec.architecture": "stable-diffusion-v2-512/dreamcache"])
        },
        Fault(
            name: "a LoRA as adapter", says: ["kohya.safetensors", "a LoRA file", "a DreamCache adapter"],
            files: adapter("kohya.safetensors")
        ) { _ in },
        Fault(
            name: "an adapter of a base without a name",
            says: ["modelspec.architecture: found stable-diffusion-xl-v1-base/dreamcache"],
            files: adapter("other.safetensors")
        ) {
            try $0.tensors(
                "other.safetensors", ["diffusion_model.middle_block.1.transformer_blocks.0.linear_cat.bias": [8]],
                ["modelspec.architecture": "stable-diffusion-xl-v1-base/dreamcache"])
        },
    ]

    @Test(arguments: folders + singles + additions)
    func isRefusedByName(_ fault: Fault) throws {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("broken-\(UUID())")
        try FileManager.default.copyItem(at: Family(fault.family).root, to: root)
        defer { try? FileManager.default.removeItem(at: root) }
        let copy = Copy(root: root.path)
        try fault.fault(copy)
        let error = try #require(throws: DreamCacheError.self) {
            try Pipeline(files: fault.files(copy), path: .openBLAS)
        }
        for part in fault.says { #expect("\(error)".contains(part), "\(error)") }
        #expect("\(error)".contains(root.path), "the message names the file: \(error)")
    }
}
