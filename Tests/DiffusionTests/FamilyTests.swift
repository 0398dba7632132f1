import Checkpoint
import Foundation
import Golden
import TensorEngine
import Testing

@testable import Diffusion

/// Models of each family, as folder and as one file, against diffusers and transformers.
@Suite struct FamilyTests {
    /// One layout of one family on one compute path.
    struct Case: Sendable, CustomTestStringConvertible {
        let family: Family
        let checkpoint: String
        let path: ComputePath
        var testDescription: String { "\(family) \(checkpoint) \(path.rawValue)" }

        func load(_ options: StableDiffusion.Options = .init()) throws -> StableDiffusion {
            let engine = try Engine(path: path)
            if checkpoint == "folder" {
                return try .load(checkpoint: family.folder, options: options, engine: engine)
            }
            return try single(family, engine: engine)
        }

        static let all = Golden.exactPaths.flatMap { path in
            [
                ("sd1", "folder"), ("sd1", "single.ckpt"), ("sd2", "folder"), ("sd2", "single.safetensors"),
                ("sd2v", "folder"),
            ].map { Case(family: Family($0.0), checkpoint: $0.1, path: path) }
        }
        static let folders = all.filter { $0.checkpoint == "folder" }
    }

    /// The single file of a family. Heads and groups of the tiny models are not those that the geometry's recognition
    /// assumes of real ones.
    static func single(_ family: Family, engine: Engine) throws -> StableDiffusion {
        let path = family.path(family.name == "sd1" ? "single.ckpt" : "single.safetensors")
        let file = try LDMCheckpoint(path: path, prefersEMA: false)
        return try StableDiffusion(file.store, try configuration(family, file.store), engine: engine)
    }

    static func configuration(_ family: Family, _ store: ParameterStore) throws -> ModelConfiguration {
        var configuration = try ModelConfiguration(recognisedFrom: store, path: "single")
        configuration.unet.heads = family.name == "sd1" ? .count(2) : .channels(8)
        configuration.unet.normGroups = 4
        configuration.autoencoder.normGroups = 4
        configuration.text.heads = 2
        configuration.latentSize = 16
        return configuration
    }

    private func ids(_ family: Family) throws -> [[Int32]] {
        let all = try #require(try family.tensors()["text.ids"]).floats().map { Int32($0) }
        return stride(from: 0, to: all.count, by: 77).map { Array(all[$0..<$0 + 77]) }
    }

    private func states(_ model: StableDiffusion, _ family: Family) throws -> [Float] {
        try ids(family).flatMap { model.engine.floats(try model.textEncoder.encode($0)) }
    }

    @Test(arguments: Family.all) func tokensEqualTransformers(_ family: Family) throws {
        let tokenizer = try Tokenizer(diffusersFolder: URL(fileURLWithPath: family.folder + "/tokenizer"))
        #expect(try Family.prompts.map { tokenizer.encode($0) } == ids(family))
    }

    @Test(arguments: Case.all) func text(_ example: Case) throws {
        let model = try example.load()
        let expected = try #require(try example.family.tensors()["text.states"]).floats()
        #expect(relativeError(try states(model, example.family), expected) < 1e-4)
    }

    @Test(arguments: Case.folders) func clipSkip(_ example: Case) throws {
        var options = StableDiffusion.Options()
        options.clipSkip = 1
        let expected = try #require(try example.family.tensors()["text.clip_skip_1"]).floats()
        #expect(relativeError(try states(try example.load(options), example.family), expected) < 1e-4)
    }

    @Test(arguments: Case.all) func unet(_ example: Case) throws {
        let (model, expected) = (try example.load(), try example.family.tensors())
        let context = try model.textEncoder.encode(try #require(try ids(example.family).first))
        for (height, width) in [(16, 16), (13, 10), (7, 9)] {
            let found = try evaluate(model, height, width, context)
            let golden = try #require(expected["unet.\(height)x\(width)"]).floats()
            #expect(relativeError(found, golden) < 1e-4, "\(height)x\(width)")
        }
    }

    private func evaluate(
        _ model: StableDiffusion, _ height: Int, _ width: Int, _ context: Tensor
    ) throws -> [Float] {
        let text = try model.unet.textKeys(context)
        let x = try model.latentTensor(wave(4 * height * width), height: height, width: width)
        let time = try #require(try model.unet.timeEmbeddings([481]).first)
        let features = try model.unet.encode(x, time: time, text: text)
        return try #require(model.predictions(try model.unet.decode(features, time: time, text: text)).first)
    }

    @Test(arguments: Case.all) func autoencoder(_ example: Case) throws {
        let (model, expected) = (try example.load(), try example.family.tensors())
        let pixels = channelsLast(wave(3 * 64 * 64, rate: 0.11), channels: 3)
        let posterior = try model.autoencoder.encode(pixels, height: 64, width: 64)
        #expect(relativeError(posterior.mean, try #require(expected["vae.mean"]).floats()) < 1e-4)
        #expect(relativeError(posterior.logVariance, try #require(expected["vae.logvar"]).floats()) < 1e-4)
        let image = try model.autoencoder.decode(wave(4 * 8 * 8), height: 8, width: 8)
        #expect(
            relativeError(channelsFirst(image, channels: 3), try #require(expected["vae.decoded"]).floats()) < 1e-4)
    }

    /// The same numbers from both layouts, bit for bit.
    @Test(arguments: ["sd1", "sd2"]) func singleFileEqualsFolder(_ name: String) throws {
        let family = Family(name)
        let folder = try StableDiffusion.load(checkpoint: family.folder, engine: try Engine(path: .oneDNNFP32))
        let single = try Self.single(family, engine: try Engine(path: .oneDNNFP32))
        #expect(try states(folder, family) == states(single, family))
        let tokens = try #require(try ids(family).first)
        let outputs = try [folder, single].map { try evaluate($0, 16, 16, try $0.textEncoder.encode(tokens)) }
        #expect(outputs[0] == outputs[1])
        // What a single file shows of its geometry is what the folder's configurations say.
        var recognised = single.configuration
        recognised.text.naming = folder.configuration.text.naming
        recognised.text.layers = folder.configuration.text.layers
        recognised.text.skippedLayers = folder.configuration.text.skippedLayers
        recognised.schedule = folder.configuration.schedule
        #expect(recognised == folder.configuration)
    }

    @Test func configurationsSayWhatFilesDoNot() throws {
        let model = try StableDiffusion.load(checkpoint: Family("sd2v").folder, engine: try Engine(path: .openBLAS))
        #expect(model.configuration.schedule.predictionType == .vPrediction)
        #expect(model.configuration.schedule.sampler == .dpmSolverMultistep)
        #expect(model.configuration.latentSize == 24)
        #expect(model.configuration.latentScale == 0.2)
        #expect(model.tokenizer.padding == .zero)
    }

    /// What the metadata of a single file says; the probe decides by the U-Net's output alone.
    @Test func predictionOfASingleFile() throws {
        let family = Family("sd2")
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).safetensors").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let cases: [([String: String], Bool, PredictionType, Int)] = [
            ([:], false, .epsilon, 64), (["modelspec.architecture": "stable-diffusion-v2-512"], true, .epsilon, 64),
            (["modelspec.architecture": "stable-diffusion-v2-768-v"], true, .vPrediction, 96),
            (["modelspec.prediction_type": "v", "modelspec.resolution": "640x640"], true, .vPrediction, 80),
        ]
        for (metadata, isSaid, type, size) in cases {
            var writer = SafetensorsWriter(metadata: metadata)
            for tensor in try family.tensors("single.safetensors").values { writer.add(tensor) }
            try writer.write(toPath: path)
            let file = try LDMCheckpoint(path: path, prefersEMA: false)
            var configuration = try Self.configuration(family, file.store)
            configuration.latentSize = 64
            #expect(file.applyMetadata(to: &configuration) == isSaid)
            #expect(configuration.schedule.predictionType == type)
            #expect(configuration.latentSize == size)
        }
        let file = try LDMCheckpoint(path: family.path("single.safetensors"), prefersEMA: false)
        let configuration = try Self.configuration(family, file.store).unet
        let engine = try Engine(path: .openBLAS)
        for (bias, predictsV) in [(Float(10), false), (-10, true)] {
            let store = ParameterStore(amending: file.store) { name, _ in
                name == "model.diffusion_model.out.2.bias" ? [{ $0.update(repeating: bias) }] : []
            }
            #expect(try PredictionProbe.predictsV(store, configuration, engine: engine) == predictsV)
        }
    }

    // MARK: Low-rank updates

    @Test(arguments: ["sd1", "sd2"], ["kohya", "peft"]) func lora(_ name: String, _ naming: String) throws {
        let family = Family(name)
        var options = StableDiffusion.Options()
        options.loras = [LowRankFile(path: family.path("\(naming).safetensors"), weight: 0.8)]
        let model = try StableDiffusion.load(
            checkpoint: family.folder, options: options, engine: try Engine(path: .oneDNNFP32))
        let expected = try family.tensors("lora-expected.safetensors")
        let context = try model.textEncoder.encode(try #require(try ids(family).first))
        #expect(relativeError(model.engine.floats(context), try #require(expected["text"]).floats()) < 1e-4)
        let golden = try #require(expected["unet"]).floats()
        #expect(relativeError(try evaluate(model, 16, 16, context), golden) < 1e-4)
        // It is the update that is tested: without it the result is another.
        let plain = try StableDiffusion.load(checkpoint: family.folder, engine: try Engine(path: .oneDNNFP32))
        #expect(relativeError(try evaluate(plain, 16, 16, context), golden) > 1e-2)
    }

    /// OpenCLIP keeps q, k and v in one weight; kohya's files update them apart.
    @Test func loraOfAFusedWeight() throws {
        let family = Family("sd2")
        let file = try LDMCheckpoint(path: family.path("single.safetensors"), prefersEMA: false)
        let configuration = try Self.configuration(family, file.store)
        let updates = try LowRankUpdates(LowRankFile(path: family.path("kohya.safetensors"), weight: 0.8))
        let names = LowRankNames(configuration)
        let store = ParameterStore(amending: file.store) { updates.amendments(of: $0, shape: $1, names: names) }
        let model = try StableDiffusion(store, configuration, engine: try Engine(path: .openBLAS))
        try updates.finish()
        let states = model.engine.floats(try model.textEncoder.encode(try #require(try ids(family).first)))
        let expected = try #require(try family.tensors("lora-expected.safetensors")["text"]).floats()
        #expect(relativeError(states, expected) < 1e-4)
    }

    // MARK: Averaged weights

    @Test func averagedWeightsAreTakenWhenAskedForOrAlone() throws {
        let family = Family("sd1")
        let original = try Checkpoint.open(family.path("single.ckpt"))
        let prefix = "model.diffusion_model."
        func write(_ name: String, both: Bool) throws -> String {
            var writer = SafetensorsWriter()
            for tensor in original.tensors.values {
                guard tensor.name.hasPrefix(prefix) else {
                    writer.add(tensor)
                    continue
                }
                let flat = tensor.name.dropFirst("model.".count).split(separator: ".").joined()
                writer.add(tensor.renamed("model_ema." + flat))
                // The last weights, which are not asked for: zeros.
                if both {
                    writer.add(
                        tensor.name, type: .f16, shape: tensor.shape, floats: Array(repeating: 0, count: tensor.count))
                }
            }
            writer.add("model_ema.decay", type: .f32, shape: [], floats: [0.9999])
            writer.add("model_ema.num_updates", type: .f32, shape: [], floats: [7])
            let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())-\(name)").path
            try writer.write(toPath: path)
            return path
        }
        let both = try write("both.safetensors", both: true)
        let alone = try write("alone.safetensors", both: false)
        defer { for path in [both, alone] { try? FileManager.default.removeItem(atPath: path) } }
        let expected = try #require(try family.tensors()["unet.16x16"]).floats()
        for (path, prefersEMA, isEqual) in [(both, true, true), (both, false, false), (alone, false, true)] {
            let file = try LDMCheckpoint(path: path, prefersEMA: prefersEMA)
            let model = try StableDiffusion(
                file.store, try Self.configuration(family, file.store), ignoring: file.ignored,
                engine: try Engine(path: .openBLAS))
            let context = try model.textEncoder.encode(try #require(try ids(family).first))
            let error = relativeError(try evaluate(model, 16, 16, context), expected)
            #expect((error < 1e-4) == isEqual)
        }
        #expect(throws: DiffusionError.self) {
            try LDMCheckpoint(path: family.path("single.ckpt"), prefersEMA: true)
        }
    }
}
