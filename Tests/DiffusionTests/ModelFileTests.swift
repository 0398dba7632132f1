import Checkpoint
import Foundation
import Glibc
import Golden
import TensorEngine
import Testing

@testable import Diffusion

/// Single files as people have them: with more in them, with less, marked, or of another family.
@Suite struct ModelFileTests {
    private static let original = Golden.path("tiny-sd2.ckpt")

    /// A copy of the golden checkpoint of the tensors that `keep` keeps, and of further ones by shape.
    private func file(
        adding shapes: [String: [Int]] = [:], metadata: [String: String] = [:], keep: (String) -> Bool = { _ in true }
    ) throws -> String {
        var writer = SafetensorsWriter(metadata: metadata)
        for tensor in try Checkpoint.open(Self.original).tensors.values where keep(tensor.name) { writer.add(tensor) }
        for (name, shape) in shapes {
            writer.add(name, type: .f32, shape: shape, floats: Array(repeating: 0, count: shape.reduce(1, *)))
        }
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).safetensors").path
        try writer.write(toPath: path)
        return path
    }

    private func load(
        _ path: String, _ change: (inout StableDiffusion.Options) -> Void = { _ in }
    ) throws -> StableDiffusion {
        var options = StableDiffusion.Options()
        options.yaml = Golden.path("tiny-sd2.yaml")
        change(&options)
        return try StableDiffusion.load(checkpoint: path, options: options, engine: try Engine(path: .openBLAS))
    }

    private func refusal(_ path: String, _ change: (inout StableDiffusion.Options) -> Void = { _ in }) -> String {
        let error = #expect(throws: DiffusionError.self) { try load(path, change) }
        return error.map { "\($0)" } ?? ""
    }

    /// A part that cannot be looked at, here for a link in a circle, is an error; the model is not made without it in silence.
    @Test func whatCannotBeLookedAtIsAnError() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for name in ["adapter_config.json", "loop", "model.yaml"] {
            try FileManager.default.createSymbolicLink(atPath: "\(folder)/\(name)", withDestinationPath: name)
        }
        let model = "\(folder)/model.safetensors"
        try FileManager.default.copyItem(atPath: Self.original, toPath: model)
        let attempts: [() throws -> Any] = [
            { try LowRankFile(path: folder).files() }, { try LowRankFile(path: "\(folder)/lora.safetensors").files() },
            { try TextualInversion.files([EmbeddingFile(path: "\(folder)/loop")]) },
            { try StableDiffusion.weightFiles(of: "\(folder)/loop") },
            { try StableDiffusion.describingFiles(of: model) },
            { try StableDiffusion.autoencoderFiles(of: "\(folder)/loop", variant: nil) },
        ]
        for attempt in attempts {
            let error = #expect(throws: DiffusionError.self) { _ = try attempt() }
            #expect(error.map { "\($0)" }?.contains("(errno \(ELOOP))") == true, "\(error.map { "\($0)" } ?? "")")
        }
    }

    /// A part that its folder lists and that is gone when it is looked at is an error: a model's identity does not come without it.
    @Test func whatIsListedMustBeThere() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())").path
        try FileManager.default.createDirectory(atPath: "\(folder)/unet", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        #expect(try StableDiffusion.describingFiles(of: folder) == [])
        try FileManager.default.createSymbolicLink(
            atPath: "\(folder)/scheduler", withDestinationPath: "/nothing-has-this-name")
        let error = #expect(throws: DiffusionError.self) { try StableDiffusion.describingFiles(of: folder) }
        #expect(error.map { "\($0)" }?.contains("scheduler") == true)
        // A model that is not there at all is no single file without a yaml.
        #expect(throws: DiffusionError.self) { try StableDiffusion.describingFiles(of: folder + "/nothing") }
    }

    /// What ControlNet and EMA tools, samplers and safety checkers leave in a file is not used, and said.
    @Test func moreTensorsAreAWarning() throws {
        let extra = [
            "control_model.input_blocks.0.0.weight": [8, 4, 3, 3], "embedding_manager.embedder.weight": [8],
            "safety_checker.concept_embeds": [17, 8], "ddim_sigmas": [5],
        ]
        let path = try file(adding: extra)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let model = try load(path)
        let warning = try #require(model.warnings.first)
        for name in extra.keys { #expect(warning.contains(name)) }
        #expect(warning.hasPrefix("4 tensors"))
        #expect(try load(Self.original).warnings.isEmpty)
        let strict = refusal(path) { $0.isStrict = true }
        #expect(strict.contains("0 missing, 0 misshapen, 4 unused"))
        for name in extra.keys { #expect(strict.contains(name)) }
        // What is missing is an error in any case.
        let less = try file(adding: extra) { $0 != "model.diffusion_model.out.2.bias" }
        defer { try? FileManager.default.removeItem(atPath: less) }
        #expect(refusal(less).contains("1 missing"))
    }

    @Test func markersAreObeyed() throws {
        let path = try file(adding: ["v_pred": [0], "ztsnr": [0]])
        defer { try? FileManager.default.removeItem(atPath: path) }
        for yaml in [Golden.path("tiny-sd2.yaml"), nil] {
            let model = try load(path) { $0.yaml = yaml }
            #expect(model.configuration.schedule.predictionType == .vPrediction)
            #expect(model.configuration.schedule.rescaleBetasZeroSNR)
            #expect(model.configuration.schedule.timestepSpacing == .trailing)
            #expect(model.warnings.isEmpty)
            if yaml != nil { continue }
            // Without a yaml the shapes alone speak.
            break
        }
        // A run begins at the last timestep, which is pure noise.
        let schedule = try load(path).configuration.schedule
        #expect(try Sampler(schedule, steps: 10).timesteps.first == 999)
        #expect(try TrainingSchedule(schedule).alphasCumprod.last == 0)
        // What the user says is over what the file says.
        let said = try load(path) {
            $0.predictionType = .epsilon
            $0.schedule.rescaleBetasZeroSNR = false
            $0.schedule.timestepSpacing = .leading
        }
        #expect(said.configuration.schedule.predictionType == .epsilon)
        #expect(!said.configuration.schedule.rescaleBetasZeroSNR)
        #expect(said.configuration.schedule.timestepSpacing == .leading)
    }

    @Test func settingsOfTheSchedule() throws {
        let model = try load(Self.original) {
            $0.schedule.sampler = SamplerChoice(.dpmSolverMultistep, algorithm: .sdeDPMSolverPlusPlus, sigmas: .karras)
            $0.schedule.betaStart = 0.001
            $0.schedule.betaSchedule = .linear
            $0.schedule.stepsOffset = 0
        }
        let schedule = model.configuration.schedule
        #expect(schedule.sampler == .dpmSolverMultistep)
        #expect(schedule.algorithmType == .sdeDPMSolverPlusPlus)
        #expect(schedule.useKarrasSigmas)
        #expect((schedule.betaStart, schedule.betaEnd) == (0.001, 0.012))
        #expect(schedule.betaSchedule == .linear)
        #expect(schedule.stepsOffset == 0)
        #expect(refusal(Self.original) { $0.schedule.betaEnd = 2 }.contains("scheduler.beta_end"))
    }

    // MARK: The autoencoder

    @Test func withoutAnAutoencoderItIsSaidHowToNameOne() throws {
        let path = try file { !$0.hasPrefix("first_stage_model.") }
        defer { try? FileManager.default.removeItem(atPath: path) }
        let error = refusal(path)
        #expect(error.contains("no autoencoder in the checkpoint"))
        #expect(error.contains("vae"))
    }

    private enum Naming: CaseIterable { case ldm, ldmAlone, diffusers }

    /// A checkpoint without one and an autoencoder apart, in each naming, are the whole model again.
    @Test func aSeparateAutoencoder() throws {
        let prefix = LDMNames.autoencoder
        let whole = try load(Self.original)
        let latent = wave(4 * 16 * 16)
        let expected = try whole.autoencoder.decode(latent, height: 16, width: 16)
        let bare = try file { !$0.hasPrefix(prefix) }
        defer { try? FileManager.default.removeItem(atPath: bare) }
        let names = KeyRenaming(
            table: DiffusersNames.autoencoder(whole.configuration.autoencoder, isOld: false).under(prefix))
        for naming in Naming.allCases {
            var writer = SafetensorsWriter()
            for tensor in try Checkpoint.open(Self.original).tensors.values where tensor.name.hasPrefix(prefix) {
                let name =
                    switch naming {
                    case .ldm: tensor.name
                    case .ldmAlone: String(tensor.name.dropFirst(prefix.count))
                    case .diffusers: names(tensor.name)
                    }
                writer.add(tensor.renamed(name))
            }
            writer.add(naming == .ldm ? prefix + "loss.logvar" : "loss.logvar", type: .f32, shape: [1], floats: [0])
            let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).safetensors").path
            try writer.write(toPath: path)
            defer { try? FileManager.default.removeItem(atPath: path) }
            for checkpoint in [bare, Self.original] {
                let model = try load(checkpoint) {
                    $0.autoencoder = path
                    $0.isStrict = true
                }
                #expect(try model.autoencoder.decode(latent, height: 16, width: 16) == expected, "\(naming)")
            }
        }
        // Of a whole checkpoint the autoencoder alone is taken.
        let borrowed = try load(bare) { ($0.autoencoder, $0.isStrict) = (Self.original, true) }
        #expect(try borrowed.autoencoder.decode(latent, height: 16, width: 16) == expected)
        #expect(refusal(bare) { $0.autoencoder = bare }.contains("vae: found no encoder.conv_in.weight"))
    }

    /// A diffusers folder of an autoencoder, or of a whole model, beside a diffusers folder whose own is not even there.
    @Test func anAutoencoderOfAFolder() throws {
        let family = Family("sd1")
        let expected = try #require(try family.tensors()["vae.decoded"]).floats()
        let copy = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())")
        try FileManager.default.copyItem(at: URL(fileURLWithPath: family.folder), to: copy)
        defer { try? FileManager.default.removeItem(at: copy) }
        try FileManager.default.removeItem(at: copy.appendingPathComponent("vae"))
        for path in [family.folder, family.folder + "/vae"] {
            var options = StableDiffusion.Options()
            options.autoencoder = path
            let model = try StableDiffusion.load(
                checkpoint: copy.path, options: options, engine: try Engine(path: .oneDNNFP32))
            let pixels = try model.autoencoder.decode(wave(4 * 8 * 8), height: 8, width: 8)
            let found = channelsFirst(pixels, channels: 3)
            #expect(relativeError(found, expected) < 1e-4)
        }
    }

    // MARK: Other families

    @Test(arguments: [
        ("conditioner.embedders.1.model.ln_final.weight", "Stable Diffusion XL"),
        ("model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight", "Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("model.diffusion_model.input_blocks.1.0.time_stack.emb_layers.1.weight", "Stable Video Diffusion"),
    ])
    func otherFamiliesAreNamed(_ key: String, _ name: String) throws {
        for isWhole in [true, false] {
            let path = try file(adding: [key: [2, 2]]) { _ in isWhole }
            defer { try? FileManager.default.removeItem(atPath: path) }
            let error = refusal(path)
            #expect(error.contains("found \(name)"))
            #expect(error.contains("expected Stable Diffusion 1 or 2"))
            #expect(throws: DiffusionError.self) { try StableDiffusion.checkFamily(of: path) }
        }
    }

    @Test(arguments: [
        ("StableDiffusionXLPipeline", "Stable Diffusion XL"), ("StableDiffusion3Pipeline", "Stable Diffusion 3"),
        ("FluxPipeline", "Flux"), ("StableDiffusionInpaintPipeline", "an inpainting model"),
        ("PixArtSigmaPipeline", "PixArt"),
    ])
    func otherPipelinesAreNamed(_ pipeline: String, _ name: String) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try Data(#"{"_class_name": "\#(pipeline)"}"#.utf8).write(to: folder.appendingPathComponent("model_index.json"))
        let error = #expect(throws: DiffusionError.self) { try StableDiffusion.checkFamily(of: folder.path) }
        #expect("\(error.map { "\($0)" } ?? "")".contains("found \(pipeline) (\(name))"))
    }

    /// The configurations of published models name samplers we have and some we have not.
    @Test(arguments: ["DEISMultistepScheduler", "KDPM2AncestralDiscreteScheduler"])
    func aFolderIsReadWhateverItsScheduler(_ name: String) throws {
        let copy = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())")
        try FileManager.default.copyItem(at: URL(fileURLWithPath: Family("sd1").folder), to: copy)
        defer { try? FileManager.default.removeItem(at: copy) }
        try Data(
            """
            {"_class_name": "\(name)", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
             "prediction_type": "v_prediction", "steps_offset": 1, "timestep_spacing": "leading"}
            """.utf8
        ).write(to: copy.appendingPathComponent("scheduler/scheduler_config.json"))
        let model = try StableDiffusion.load(checkpoint: copy.path, engine: try Engine(path: .openBLAS))
        #expect(model.configuration.schedule.predictionType == .vPrediction)
        #expect(model.configuration.schedule.betaEnd == 0.012)
        _ = try Sampler(model.configuration.schedule.selecting(SamplerChoice(.ddim)), steps: 10)
    }
}
