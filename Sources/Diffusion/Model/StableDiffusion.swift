import Checkpoint
import Foundation
import TensorEngine

/// A latent diffusion model in memory: tokenizer, text encoder, U-Net and autoencoder on one engine.
public final class StableDiffusion {
    /// Its geometry and conventions.
    public let configuration: ModelConfiguration
    /// What runs it.
    public let engine: Engine
    /// Text to token ids.
    public let tokenizer: Tokenizer
    /// Token ids to states.
    public let textEncoder: TextEncoder
    /// The denoiser.
    public let unet: UNet
    /// Images to latents and back.
    public let autoencoder: Autoencoder

    /// What of a model is loaded, and how, where there is a choice.
    public struct Options: Sendable, Hashable {
        /// LDM yaml of a single file; without one, a file of the same base name with `.yaml` is used if it exists, and the
        /// geometry is recognised from the weights if not.
        public var yaml: String?
        /// Variant of a folder's weights, such as `fp16`; nil takes those without one, or the only variant there is.
        public var variant: String?
        /// Whether the averaged U-Net of a single file is taken instead of the last one.
        public var usesEMA = false
        /// Text encoder blocks at the end that are not run, beyond those the model itself leaves out (diffusers'
        /// `clip_skip`; what other programs call CLIP skip 2 is 1 here).
        public var clipSkip = 0
        /// What the U-Net predicts, where the files do not say it or say it wrongly. Of a single file of Stable Diffusion 2
        /// that does not say it, it is found out by running the U-Net once.
        public var predictionType: PredictionType?
        /// Low-rank updates, added in this order.
        public var loras: [LowRankFile] = []

        /// All as the files say.
        public init() {}
    }

    /// Loads a model: one file in LDM naming (`.ckpt`, `.safetensors`, told apart by content) or a diffusers folder.
    ///
    /// - Parameters:
    ///   - path: the file or folder.
    ///   - yaml: as ``Options/yaml``.
    ///   - inspect: given the parameters of which the model was made, while the files are at hand.
    /// - Throws: `DiffusionError`; all missing, unused and misshapen tensors in one error, under the names the files have.
    public static func load(
        checkpoint path: String, yaml: String? = nil, options: Options = Options(), engine: Engine,
        inspect: (ParameterStore) throws(CheckpointError) -> Void = { _ in }
    ) throws(DiffusionError) -> StableDiffusion {
        var options = options
        options.yaml = yaml ?? options.yaml
        let base: ParameterStore
        var configuration: ModelConfiguration
        var tokenizer: Tokenizer?
        var ignored = LDMNames.ignored
        if DiffusersFolder.isFolder(path) {
            let folder = try DiffusersFolder(path: path, variant: options.variant)
            configuration = try folder.configuration()
            base = try folder.store(configuration)
            tokenizer = try folder.tokenizer()
        } else {
            let file = try LDMCheckpoint(path: path, prefersEMA: options.usesEMA)
            base = file.store
            configuration = try ModelConfiguration(recognisedFrom: base, path: path)
            let isSaid = file.applyMetadata(to: &configuration)
            if let yaml = options.yaml ?? LDMCheckpoint.sibling(of: path) {
                try configuration.apply(ldmYaml: yaml)
            } else if !isSaid, options.predictionType == nil, configuration.architecture == .stableDiffusion2,
                try onEngine({ () throws(EngineError) in
                    try PredictionProbe.predictsV(base, configuration.unet, engine: engine)
                })
            {
                configuration.schedule.predictionType = .vPrediction
                configuration.latentSize = 768 / configuration.autoencoder.downscale
            }
            ignored = file.ignored
        }
        if let type = options.predictionType { configuration.schedule.predictionType = type }
        guard configuration.unet.inChannels == configuration.autoencoder.latentChannels else {
            throw .configuration(
                path: path, field: "in_channels",
                found: "\(configuration.unet.inChannels)"
                    + (configuration.unet.inChannels == 9 ? ", an inpainting model" : ""),
                expected: "\(configuration.autoencoder.latentChannels), the channels of the latent")
        }
        guard (0..<configuration.text.layers - configuration.text.skippedLayers).contains(options.clipSkip) else {
            throw .configuration(
                path: path, field: "clip_skip", found: "\(options.clipSkip)",
                expected: "0 to \(configuration.text.layers - configuration.text.skippedLayers - 1)")
        }
        configuration.text.skippedLayers += options.clipSkip

        let updates = try options.loras.map { file throws(DiffusionError) in try LowRankUpdates(file) }
        let names = LowRankNames(configuration)
        let store =
            updates.isEmpty
            ? base
            : ParameterStore(amending: base) { name, shape in
                updates.flatMap { $0.amendments(of: name, shape: shape, names: names) }
            }
        let model = try StableDiffusion(
            store, configuration, tokenizer: tokenizer, ignoring: ignored, engine: engine)
        for update in updates { try update.finish() }
        do { try inspect(store) } catch { throw .checkpoint(error) }
        return model
    }

    /// The parts of a diffusers folder, or nil for a single file: folder and weight files of each, and what the one file is
    /// called that holds them all.
    public static func weightParts(
        of path: String, variant: String? = nil
    ) throws(DiffusionError) -> [(folder: String, files: [String], stem: String)]? {
        guard DiffusersFolder.isFolder(path) else { return nil }
        let folder = try DiffusersFolder(path: path, variant: variant)
        return [
            ("unet", folder.unet, "diffusion_pytorch_model"), ("vae", folder.autoencoder, "diffusion_pytorch_model"),
            ("text_encoder", folder.text, "model"),
        ].map { name, weights, stem in (name, weights.files.map { String($0.dropFirst(name.count + 1)) }, stem) }
    }

    /// The weight files of a model, the path itself or those of a diffusers folder, sorted: what identifies it.
    public static func weightFiles(of path: String, variant: String? = nil) throws(DiffusionError) -> [String] {
        guard DiffusersFolder.isFolder(path) else { return [path] }
        return try DiffusersFolder(path: path, variant: variant).weightFiles.map { DiffusersFolder.join(path, $0) }
    }

    /// The files that say how the weights are used: of a folder its configurations and the tokenizer's tables, of a single
    /// file the yaml, if there is one.
    public static func describingFiles(of path: String, yaml: String? = nil) -> [String] {
        guard DiffusersFolder.isFolder(path) else {
            return [yaml ?? LDMCheckpoint.sibling(of: path)].compactMap(\.self)
        }
        return ["", "scheduler", "text_encoder", "tokenizer", "unet", "vae"].flatMap { part in
            let folder = DiffusersFolder.join(path, part)
            let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
            return names.filter { ($0.hasSuffix(".json") && !$0.contains(".index.")) || $0.hasSuffix(".txt") }
                .sorted().map { DiffusersFolder.join(folder, $0) }
        }
    }

    /// Builds the model from parameters in LDM naming, or from a random store.
    ///
    /// - Parameters:
    ///   - tokenizer: nil is CLIP's own, with the padding that belongs to the text encoder's family.
    ///   - ignored: keys in the files that are no parameters of the model.
    public init(
        _ store: ParameterStore, _ configuration: ModelConfiguration, tokenizer: Tokenizer? = nil,
        ignoring ignored: [ParameterStore.IgnoredKeys]? = nil, engine: Engine
    ) throws(DiffusionError) {
        self.configuration = configuration
        self.engine = engine
        let isTransformers = configuration.text.naming == .transformers
        do {
            self.tokenizer =
                if let tokenizer {
                    tokenizer
                } else if isTransformers {
                    try Tokenizer.clip(cleaning: .transformers, padding: .endOfText)
                } else {
                    try Tokenizer.clip()
                }
        } catch { throw .resource("\(error)") }
        do {
            textEncoder = try TextEncoder(
                store.scoped(isTransformers ? LDMNames.transformers : LDMNames.openCLIP), configuration.text,
                engine: engine)
            unet = try UNet(store.scoped(LDMNames.unet), configuration.unet, engine: engine)
            autoencoder = try Autoencoder(
                store.scoped(LDMNames.autoencoder), configuration.autoencoder, engine: engine)
        } catch { throw .engine(error) }
        // OpenCLIP's last block is in the file and, by "penultimate", never run.
        do { try store.finish(ignoring: ignored ?? LDMNames.ignored) } catch { throw .checkpoint(error) }
    }

    private static func onEngine<R>(_ body: () throws(EngineError) -> R) throws(DiffusionError) -> R {
        do { return try body() } catch { throw .engine(error) }
    }

    /// The states of a prompt, `[1, 77, width]`.
    public func encode(prompt: String) throws(DiffusionError) -> Tensor {
        do {
            return try textEncoder.encode(
                tokenizer.encode(prompt, contextLength: configuration.text.contextLength))
        } catch { throw .engine(error) }
    }

    /// A latent in files' order, `[channels, h, w]`, as the U-Net takes it: a batch of one.
    public func latentTensor(_ latent: [Float], height: Int, width: Int) throws(EngineError) -> Tensor {
        let channels = configuration.unet.inChannels
        return try engine.tensor(channelsLast(latent, channels: channels), shape: [1, height, width, channels])
    }

    /// The predictions of a batch, each in files' order `[channels, h, w]`.
    public func predictions(_ output: Tensor) -> [[Float]] {
        let all = engine.floats(output)
        let size = all.count / max(1, output.shape[0])
        return (0..<output.shape[0]).map {
            channelsFirst(Array(all[$0 * size..<($0 + 1) * size]), channels: output.channels)
        }
    }
}
