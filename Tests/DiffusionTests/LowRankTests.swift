import Checkpoint
import Foundation
import Golden
import TensorEngine
import Testing

@testable import Diffusion

/// Updates of every kind and naming against PEFT, LyCORIS and diffusers; `Tests/Fixtures/lora/generate.py` makes them.
@Suite struct LowRankTests {
    private static let folder = Golden.fixtures.appendingPathComponent("lora")
    private static let family = Family("sd1")

    private static func expected(_ name: String) throws -> [Float] {
        let file = try Checkpoint.open(folder.appendingPathComponent("expected.safetensors").path)
        return try #require(file.tensors[name]).floats()
    }

    private func load(_ loras: [LowRankFile]) throws -> StableDiffusion {
        var options = StableDiffusion.Options()
        options.loras = loras
        return try StableDiffusion.load(
            checkpoint: Self.family.folder, options: options, engine: try Engine(path: .oneDNNFP32))
    }

    /// The U-Net on the generator's input, under the states of the model without updates.
    private func unet(_ model: StableDiffusion) throws -> [Float] {
        let (engine, unet) = (model.engine, model.unet)
        let states = try Self.expected("text.plain")
        let text = try unet.textKeys(try engine.tensor(states, shape: [1, 77, states.count / 77]))
        let time = try #require(try unet.timeEmbeddings([481]).first)
        let x = try model.latentTensor(wave(4 * 16 * 16), height: 16, width: 16)
        return try #require(
            model.predictions(try unet.decode(try unet.encode(x, time: time, text: text), time: time, text: text)).first
        )
    }

    private func file(_ name: String, weight: Double) -> LowRankFile {
        LowRankFile(path: Self.folder.appendingPathComponent(name).path, weight: weight)
    }

    @Test(arguments: ["peft-alpha", "peft-patterns", "peft-dora", "peft-loha", "peft-lokr"])
    func foldersOfPEFT(_ name: String) throws {
        let expected = try Self.expected("\(name).unet")
        let error = relativeError(try unet(try load([file(name, weight: 1)])), expected)
        #expect(error < 1e-4, "\(name): \(error)")
        // It is the update that is tested.
        #expect(relativeError(try Self.expected("plain.unet"), expected) > 1e-2)
        // The file itself finds the configuration beside it too.
        let inside = file("\(name)/adapter_model.safetensors", weight: 1)
        #expect(relativeError(try unet(try load([inside])), expected) < 1e-4)
    }

    @Test(arguments: [
        "locon", "locon-tucker", "loha", "loha-tucker", "lokr", "lokr-both", "lokr-tucker", "lokr-full", "dora",
        "dora-inputs", "native",
    ])
    func filesOfLyCORIS(_ name: String) throws {
        let expected = try Self.expected("\(name).unet")
        let error = relativeError(try unet(try load([file("\(name).safetensors", weight: 0.8)])), expected)
        #expect(error < 1e-4, "\(name): \(error)")
        #expect(relativeError(try Self.expected("plain.unet"), expected) > 1e-3)
    }

    /// `to_q_lora` of diffusers 0.15 to 0.18 is `q_proj`, and so on.
    @Test func oldNamesOfTheTextEncoder() throws {
        let model = try load([file("old-text.safetensors", weight: 0.8)])
        let states = model.engine.floats(try model.encode(prompt: Family.prompts[0]))
        let expected = try Self.expected("old-text.text")
        #expect(relativeError(states, expected) < 1e-4)
        #expect(relativeError(try Self.expected("text.plain"), expected) > 1e-2)
    }

    @Test func weightsOfTheParts() throws {
        var update = file("both.safetensors", weight: 0.3)
        update.unetWeight = 0
        update.textEncoderWeight = 0.8
        let text = try load([update])
        #expect(
            relativeError(
                text.engine.floats(try text.encode(prompt: Family.prompts[0])), try Self.expected("old-text.text"))
                < 1e-4)
        #expect(relativeError(try unet(text), try Self.expected("plain.unet")) < 1e-4)
        update.unetWeight = 0.8
        update.textEncoderWeight = 0
        let denoiser = try load([update])
        #expect(relativeError(try unet(denoiser), try Self.expected("native.unet")) < 1e-4)
    }

    /// Whatever shapes a file has, it is refused by name and nothing is read out of bounds.
    @Test func tensorsThatFitNoKindAreRefused() throws {
        let stem = "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
        let cases: [[(String, [Int])]] = [
            [("lora_down.weight", [2, 8])], [("lora_down.weight", [2, 8]), ("lora_up.weight", [8, 3])],
            [("lora_down.weight", [2, 8]), ("lora_up.weight", [8, 2]), ("lora_mid.weight", [3, 3])],
            [("lora_down.weight", [0, 8]), ("lora_up.weight", [8, 0])],
            [("lora_down.weight", []), ("lora_up.weight", [])],
            [("hada_w1_a", [8, 2]), ("hada_w1_b", [2, 8]), ("hada_w2_a", [8, 2])],
            [("hada_w1_a", [8, 2]), ("hada_w1_b", [2, 8]), ("hada_w2_a", [8, 2]), ("hada_w2_b", [2, 9])],
            [("lokr_w1", [2, 2])], [("lokr_w1", [2, 2]), ("lokr_w2", [4, 5])],
            [("lokr_w1", [2]), ("lokr_w2", [4, 4])],
            [("lokr_w1", [2, 2]), ("lokr_w2_a", [4, 1]), ("lokr_w2_b", [2, 4])], [("diff", [8, 9])],
            [("lora_down.weight", [2, 8]), ("lora_up.weight", [8, 2]), ("dora_scale", [3, 1])],
            [("oft_blocks", [2, 2])], [("alpha", [])],
        ]
        for parts in cases {
            var writer = SafetensorsWriter()
            for (name, shape) in parts {
                writer.add(
                    "\(stem).\(name)", type: .f32, shape: shape,
                    floats: Array(repeating: 0.5, count: shape.reduce(1, *)))
            }
            let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).safetensors").path
            try writer.write(toPath: path)
            defer { try? FileManager.default.removeItem(atPath: path) }
            let error = #expect(throws: DiffusionError.self, "\(parts)") { try load([LowRankFile(path: path)]) }
            #expect("\(error.map { "\($0)" } ?? "")".contains("attn1_to_q"), "\(parts)")
        }
    }
}
