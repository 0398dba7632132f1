import Checkpoint

/// Geometry and conventions of a latent diffusion model: all that its weights alone do not say, or not surely.
public struct ModelConfiguration: Sendable, Equatable {
    /// The denoiser.
    public var unet = UNetConfiguration.stableDiffusion2
    /// The autoencoder.
    public var autoencoder = AutoencoderConfiguration.stableDiffusion
    /// The text encoder.
    public var text = TextEncoderConfiguration.openCLIPViTH
    /// Noise schedule, prediction type and default sampler.
    public var schedule = ScheduleConfiguration()
    /// Latents are multiplied by this after encoding.
    public var latentScale: Float = 0.18215
    /// Side of the latents the model was trained on.
    public var latentSize = 64

    /// Stable Diffusion 2.1-base.
    public init() {}

    /// Side in pixels of the images the model was trained on.
    public var imageSize: Int { latentSize * autoencoder.downscale }
}

extension ModelConfiguration {
    /// Reads the geometry off the shapes of an LDM checkpoint.
    ///
    /// What shapes do not show follows the family: Stable Diffusion 2 (linear projections in its transformers) has 64
    /// channels per head, Stable Diffusion 1 has 8 heads. The native size and v-prediction cannot be seen: 512 pixels and
    /// epsilon are assumed, and a yaml beside the checkpoint says otherwise.
    /// - Parameter separate: the geometry of an autoencoder that takes the place of the checkpoint's own, if any.
    /// - Throws: `DiffusionError.checkpoint` naming the first key without which nothing can be told.
    public init(
        recognisedFrom store: ParameterStore, path: String, autoencoder separate: AutoencoderConfiguration? = nil
    ) throws(DiffusionError) {
        self.init()
        func shape(_ name: String, rank: Int) throws(DiffusionError) -> [Int] {
            guard let shape = store.shape(of: name), shape.count == rank, shape.allSatisfy((1...1 << 20).contains)
            else {
                throw .checkpoint(
                    CheckpointError(
                        path: path, cause: .unsupported, place: name,
                        found: store.shape(of: name).map { "shape \($0)" }
                            ?? FileKind.of(store.names) ?? "no such tensor",
                        expected: FileKind.supported))
            }
            return shape
        }

        try recogniseUNet(store, shape)
        if let separate {
            autoencoder = separate
        } else {
            guard store.names.contains(where: { $0.hasPrefix(LDMNames.autoencoder) }) else {
                throw .configuration(
                    path: path, field: "vae", found: "no autoencoder in the checkpoint (no \(LDMNames.autoencoder)*)",
                    expected: "one to be named as vae (models.NAME.vae in the configuration, or --vae)")
            }
            try recogniseAutoencoder(store, shape)
        }
        guard store.names.contains(where: { $0.hasPrefix("cond_stage_model.") }) else {
            throw .configuration(
                path: path, field: "text encoder", found: "none in the checkpoint (no cond_stage_model.*)",
                expected: FileKind.supported)
        }
        try recogniseText(store, shape)
        try checkRecognised(path)
    }

    private mutating func recogniseUNet(
        _ store: ParameterStore, _ shape: (String, Int) throws(DiffusionError) -> [Int]
    ) throws(DiffusionError) {
        let first = try shape(LDMNames.unet + "input_blocks.0.0.weight", 4)
        unet.modelChannels = first[0]
        unet.inChannels = first[1]
        unet.outChannels = try shape(LDMNames.unet + "out.2.weight", 4)[0]
        let blocks = LDMNames.unet + "input_blocks."
        unet.channelMultipliers = []
        unet.attentionLevels = []
        unet.residualBlocks = 0
        var level = 0
        var residuals = 0
        var index = 1
        while index < 100 {
            if let conv = store.shape(of: "\(blocks)\(index).0.in_layers.2.weight"), conv.count == 4 {
                residuals += 1
                if unet.channelMultipliers.count == level {
                    unet.channelMultipliers.append(conv[0] / unet.modelChannels)
                }
                let transformer = "\(blocks)\(index).1."
                if let projection = store.shape(of: transformer + "proj_in.weight") {
                    unet.attentionLevels.insert(level)
                    unet.heads = projection.count == 2 ? .channels(64) : .count(8)
                    let keys = try shape(transformer + "transformer_blocks.0.attn2.to_k.weight", 2)
                    unet.contextSize = keys[1]
                    var depth = 0
                    while store.contains("\(transformer)transformer_blocks.\(depth).norm1.weight") { depth += 1 }
                    unet.transformerDepth = max(1, depth)
                }
            } else if store.contains("\(blocks)\(index).0.op.weight") {
                unet.residualBlocks = max(unet.residualBlocks, residuals)
                level += 1
                residuals = 0
            } else {
                break
            }
            index += 1
        }
        unet.residualBlocks = max(unet.residualBlocks, residuals, 1)
    }

    /// Refuses sizes that no model of this family has. Later arithmetic on them then neither overflows nor divides by zero.
    private func checkRecognised(_ path: String) throws(DiffusionError) {
        let levels = 1...8
        let sizes: [(place: String, found: Int, expected: ClosedRange<Int>)] = [
            (LDMNames.unet + "input_blocks.*: levels", unet.channelMultipliers.count, levels),
            (LDMNames.unet + "input_blocks.0.0.weight: channels", unet.modelChannels, 1...4096),
            (LDMNames.autoencoder + "encoder.down.*: levels", autoencoder.channelMultipliers.count, levels),
            (LDMNames.autoencoder + "encoder.conv_in.weight: channels", autoencoder.channels, 1...4096),
            (LDMNames.autoencoder + "decoder.conv_in.weight: inputs", autoencoder.latentChannels, 1...4096),
        ]
        let multipliers = unet.channelMultipliers + autoencoder.channelMultipliers
        let factors = multipliers.map { ("channels of a level, in multiples of the first", $0, 1...64) }
        if let wrong = (sizes + factors).first(where: { !$0.expected.contains($0.found) }) {
            throw .checkpoint(
                CheckpointError(
                    path: path, cause: .unsupported, place: wrong.place, found: "\(wrong.found)",
                    expected: "\(wrong.expected.lowerBound) to \(wrong.expected.upperBound)"))
        }
    }

    /// The parts that LDM's yaml leaves to the code that reads it: the text encoder's size.
    mutating func recogniseText(
        _ store: ParameterStore, _ shape: (String, Int) throws(DiffusionError) -> [Int]
    ) throws(DiffusionError) {
        let isCLIP = store.contains(LDMNames.transformers + "embeddings.token_embedding.weight")
        let prefix = isCLIP ? LDMNames.transformers : LDMNames.openCLIP
        let tokens = try shape(prefix + (isCLIP ? "embeddings.token_embedding.weight" : "token_embedding.weight"), 2)
        let positions = try shape(
            prefix + (isCLIP ? "embeddings.position_embedding.weight" : "positional_embedding"), 2)
        let blocks = prefix + (isCLIP ? "encoder.layers." : "transformer.resblocks.")
        var layers = 0
        while store.contains("\(blocks)\(layers).\(isCLIP ? "layer_norm1" : "ln_1").weight") { layers += 1 }
        text = TextEncoderConfiguration(
            family: isCLIP ? .clip : .openCLIP, width: tokens[1], layers: layers, skippedLayers: isCLIP ? 0 : 1)
        let hidden = try shape("\(blocks)0.mlp.\(isCLIP ? "fc1" : "c_fc").weight", 2)
        text.hiddenSize = hidden[0]
        text.vocabularySize = tokens[0]
        text.contextLength = positions[0]
    }

    private mutating func recogniseAutoencoder(
        _ store: ParameterStore, _ shape: (String, Int) throws(DiffusionError) -> [Int]
    ) throws(DiffusionError) {
        let encoder = LDMNames.autoencoder + "encoder."
        autoencoder.channels = try shape(encoder + "conv_in.weight", 4)[0]
        autoencoder.latentChannels = try shape(LDMNames.autoencoder + "decoder.conv_in.weight", 4)[1]
        autoencoder.channelMultipliers = []
        autoencoder.residualBlocks = 0
        while let conv = store.shape(
            of: "\(encoder)down.\(autoencoder.channelMultipliers.count).block.0.conv1.weight"), conv.count == 4
        {
            autoencoder.channelMultipliers.append(max(1, conv[0] / autoencoder.channels))
        }
        while store.contains("\(encoder)down.0.block.\(autoencoder.residualBlocks).conv1.weight") {
            autoencoder.residualBlocks += 1
        }
    }
}
