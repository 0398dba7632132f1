import Bytes
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
    /// What is odd about the model's files and did not keep it from being loaded.
    public let warnings: [String]

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
        /// An autoencoder that takes the place of the model's own: a file, or a diffusers folder.
        public var autoencoder: String?
        /// Textual inversions: files, or folders of them.
        public var embeddings: [EmbeddingFile] = []
        /// What is said of the schedule over the files.
        public var schedule = ScheduleOverrides()
        /// Whether tensors that are no part of the model are an error; they are a warning otherwise.
        public var isStrict = false

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
        let separate = try options.autoencoder.map { file throws(DiffusionError) in
            try SeparateAutoencoder(path: file, variant: options.variant)
        }
        var (base, configuration, ignored) =
            try ModelPath.isFolder(path)
            ? try folder(path, options, separate) : try singleFile(path, options, separate, engine)
        if let type = options.predictionType { configuration.schedule.predictionType = type }
        do { try configuration.schedule.apply(options.schedule) } catch {
            throw .schedule(error, path: path, scope: "scheduler.")
        }
        if separate != nil { ignored += SeparateAutoencoder.ignored }
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
        var tokenizer = try Self.ownTokenizer(of: path, naming: configuration.text.naming)
        let embeddings = try TextualInversion.all(options.embeddings, width: configuration.text.width)
        tokenizer.add(TextualInversion.words(embeddings, firstIdentifier: configuration.text.vocabularySize))
        let model = try StableDiffusion(
            store, configuration, tokenizer: tokenizer, embeddings: embeddings.flatMap(\.vectors),
            ignoring: ignored, isStrict: options.isStrict, engine: engine)
        for update in updates { try update.finish() }
        do { try inspect(store) } catch { throw .checkpoint(error) }
        return model
    }

    private typealias Source = (
        store: ParameterStore, configuration: ModelConfiguration, ignored: [ParameterStore.IgnoredKeys]
    )

    private static func folder(
        _ path: String, _ options: Options, _ separate: SeparateAutoencoder?
    ) throws(DiffusionError) -> Source {
        let folder = try DiffusersFolder(path: path, variant: options.variant, hasAutoencoder: separate == nil)
        let configuration = try folder.configuration(separate: separate)
        let parts = try folder.parts(configuration, withAutoencoder: separate == nil)
        return (
            ParameterStore(parts: parts + (separate.map { [$0.part] } ?? []), path: path), configuration,
            LDMNames.ignored
        )
    }

    private static func singleFile(
        _ path: String, _ options: Options, _ separate: SeparateAutoencoder?, _ engine: Engine
    ) throws(DiffusionError) -> Source {
        let file = try LDMCheckpoint(path: path, prefersEMA: options.usesEMA)
        let store = ParameterStore(parts: [try file.part] + (separate.map { [$0.part] } ?? []), path: path)
        var configuration = try ModelConfiguration(
            recognisedFrom: store, path: path, autoencoder: separate?.configuration)
        let isSaid = file.applyMetadata(to: &configuration)
        if let yaml = try LDMCheckpoint.yaml(options.yaml, of: path) {
            try configuration.apply(ldmYaml: yaml)
            _ = file.applyMarkers(to: &configuration)
        } else if !file.applyMarkers(to: &configuration), !isSaid, options.predictionType == nil,
            let architecture = configuration.architecture,
            try onEngine({ () throws(EngineError) in
                try PredictionProbe.predictsV(store, configuration.unet, engine: engine)
            })
        {
            configuration.schedule.predictionType = .vPrediction
            if architecture == .stableDiffusion2 {
                configuration.latentSize = 768 / configuration.autoencoder.downscale
            }
        }
        if let separate {
            configuration.autoencoder = separate.configuration
            configuration.latentScale = separate.latentScale ?? configuration.latentScale
        }
        return (store, configuration, file.ignored + (separate == nil ? [] : [.prefix(LDMNames.autoencoder)]))
    }

    /// Refuses a model of another kind by its name, from an index or a file's header alone.
    public static func checkFamily(of path: String) throws(DiffusionError) {
        if try ModelPath.isFolder(path) {
            _ = try DiffusersFolder(path: path, variant: nil, hasAutoencoder: false)
        } else {
            _ = try LDMCheckpoint(path: path, prefersEMA: false)
        }
    }

    /// The tokenizer that ``load(checkpoint:yaml:options:engine:)`` gives a model, textual inversions included.
    public static func tokenizer(of path: String, options: Options) throws(DiffusionError) -> Tokenizer {
        var naming = TextEncoderConfiguration.Naming.transformers
        if try !ModelPath.isFolder(path) {
            let names = try LDMCheckpoint(path: path, prefersEMA: false).file.tensors.keys
            if names.contains(where: { $0.hasPrefix(LDMNames.openCLIP) }) { naming = .openCLIP }
        }
        var tokenizer = try ownTokenizer(of: path, naming: naming)
        let embeddings = try TextualInversion.all(options.embeddings, width: nil)
        // The ids do not matter here, only how many there are.
        tokenizer.add(TextualInversion.words(embeddings, firstIdentifier: 0))
        return tokenizer
    }

    private static func ownTokenizer(
        of path: String, naming: TextEncoderConfiguration.Naming
    ) throws(DiffusionError) -> Tokenizer {
        if try ModelPath.isModelFolder(path) { return try DiffusersFolder.tokenizer(of: path) }
        do {
            return naming == .transformers
                ? try Tokenizer.clip(cleaning: .transformers, padding: .endOfText) : try Tokenizer.clip()
        } catch { throw .resource("\(error)") }
    }

    /// The parts of a diffusers folder, or nil for a single file: folder and weight files of each, and what the one file is
    /// called that holds them all.
    public static func weightParts(
        of path: String, variant: String? = nil
    ) throws(DiffusionError) -> [(folder: String, files: [String], stem: String)]? {
        guard try ModelPath.isFolder(path) else { return nil }
        let folder = try DiffusersFolder(path: path, variant: variant)
        return [
            ("unet", folder.unet, "diffusion_pytorch_model"), ("vae", folder.autoencoder, "diffusion_pytorch_model"),
            ("text_encoder", folder.text, "model"),
        ].map { name, weights, stem in (name, weights.files.map { String($0.dropFirst(name.count + 1)) }, stem) }
    }

    /// The weight files of a model, the path itself or those of a diffusers folder, sorted: what identifies it.
    ///
    /// - Parameter hasAutoencoder: false where another takes the place of the model's own.
    public static func weightFiles(
        of path: String, variant: String? = nil, hasAutoencoder: Bool = true
    ) throws(DiffusionError) -> [String] {
        guard try ModelPath.isFolder(path) else { return [path] }
        return try DiffusersFolder(path: path, variant: variant, hasAutoencoder: hasAutoencoder).weightFiles.map {
            DiffusersFolder.join(path, $0)
        }
    }

    /// The weight files of a separate autoencoder, ``Options/autoencoder``.
    public static func autoencoderFiles(of path: String, variant: String?) throws(DiffusionError) -> [String] {
        try SeparateAutoencoder.weightFiles(of: path, variant: variant)
    }

    /// The files of textual inversions, those of folders one by one.
    public static func embeddingFiles(of files: [EmbeddingFile]) throws(DiffusionError) -> [EmbeddingFile] {
        try TextualInversion.files(files)
    }

    /// The files that say how the weights are used: of a folder its configurations and the tokenizer's tables, of a single
    /// file the yaml, if there is one.
    public static func describingFiles(of path: String, yaml: String? = nil) throws(DiffusionError) -> [String] {
        guard try ModelPath.isModelFolder(path) else {
            return [try LDMCheckpoint.yaml(yaml, of: path)].compactMap(\.self)
        }
        let parts = Set(try ModelPath.names(inExisting: path))
        var files: [String] = []
        for part in ["", "scheduler", "text_encoder", "tokenizer", "unet", "vae"]
        where part == "" || parts.contains(part) {
            let folder = DiffusersFolder.join(path, part)
            files += try ModelPath.names(inExisting: folder)
                .filter { ($0.hasSuffix(".json") && !$0.contains(".index.")) || $0.hasSuffix(".txt") }
                .sorted().map { DiffusersFolder.join(folder, $0) }
        }
        return files
    }

    /// Builds the model from parameters in LDM naming, or from a random store.
    ///
    /// - Parameters:
    ///   - tokenizer: nil is CLIP's own, with the padding that belongs to the text encoder's family.
    ///   - embeddings: what the tokenizer's ids behind the vocabulary mean, each as wide as the text encoder.
    ///   - ignored: keys in the files that are no parameters of the model.
    ///   - isStrict: whether other keys are an error; otherwise ``warnings`` lists them.
    public init(
        _ store: ParameterStore, _ configuration: ModelConfiguration, tokenizer: Tokenizer? = nil,
        embeddings: [[Float]] = [], ignoring ignored: [ParameterStore.IgnoredKeys]? = nil, isStrict: Bool = true,
        engine: Engine
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
                embeddings: embeddings, engine: engine)
            unet = try UNet(store.scoped(LDMNames.unet), configuration.unet, engine: engine)
            autoencoder = try Autoencoder(
                store.scoped(LDMNames.autoencoder), configuration.autoencoder, engine: engine)
        } catch { throw .engine(error) }
        // OpenCLIP's last block is in the file and, by "penultimate", never run.
        do {
            let unused = try store.finish(ignoring: ignored ?? LDMNames.ignored, allowsUnused: !isStrict)
            warnings = unused.isEmpty ? [] : [Self.warning(unused)]
        } catch { throw .checkpoint(error) }
    }

    private static func warning(_ unused: [KeyMismatch.Entry]) -> String {
        let shown = 50
        return "\(unused.count) tensors that are no part of the model are not used: "
            + unused.prefix(shown).map(\.description).joined(separator: ", ")
            + (unused.count > shown ? " and \(unused.count - shown) more" : "")
    }

    private static func onEngine<R>(_ body: () throws(EngineError) -> R) throws(DiffusionError) -> R {
        do { return try body() } catch { throw .engine(error) }
    }

    /// The states of a prompt, `[1, 77, width]`; what is too long is cut.
    public func encode(prompt: String) throws(DiffusionError) -> Tensor {
        try encode(prompt: prompt, reading: PromptReading(), chunks: 1)
    }

    // Latents are in files' order outside the model: torch draws noise in it, and samplers, checkpoints and golden data are
    // defined over it. The engine wants channels last. A latent has some ten thousand numbers, so that reordering it at each
    // step costs microseconds beside an evaluation of a second.

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
