import TensorEngine

/// The geometry in the `config.json` of each part. An option that stands for a network we do not have is an error; an
/// unknown one is not, for every release adds some.
extension UNetConfiguration {
    private static let absent: [(key: String, off: [String])] = [
        ("center_input_sample", ["false"]), ("flip_sin_to_cos", ["true"]), ("freq_shift", ["0"]),
        ("only_cross_attention", ["false"]), ("mid_block_type", ["'UNetMidBlock2DCrossAttn'"]),
        ("downsample_padding", ["1"]), ("mid_block_scale_factor", ["1"]), ("dropout", ["0"]),
        ("act_fn", ["'silu'", "'swish'"]), ("norm_eps", ["1e-05"]), ("encoder_hid_dim", []),
        ("encoder_hid_dim_type", []), ("dual_cross_attention", ["false"]), ("class_embed_type", []),
        ("addition_embed_type", []), ("num_class_embeds", []), ("resnet_time_scale_shift", ["'default'"]),
        ("resnet_skip_time_act", ["false"]), ("resnet_out_scale_factor", ["1"]),
        ("time_embedding_type", ["'positional'"]), ("time_embedding_dim", []), ("time_embedding_act_fn", []),
        ("timestep_post_act", []), ("time_cond_proj_dim", []), ("conv_in_kernel", ["3"]), ("conv_out_kernel", ["3"]),
        ("attention_type", ["'default'"]), ("class_embeddings_concat", ["false"]),
        ("mid_block_only_cross_attention", ["false"]), ("cross_attention_norm", []),
        ("reverse_transformer_layers_per_block", []),
    ]

    /// Reads `unet/config.json` of a `UNet2DConditionModel`.
    init(diffusers config: JSONDocument) throws(DiffusionError) {
        self.init()
        try config.requireOff(Self.absent)
        inChannels = try config.int("in_channels", in: 1...64) ?? 4
        outChannels = try config.int("out_channels", in: 1...64) ?? 4
        (modelChannels, channelMultipliers) = try config.levels()
        normGroups = try config.normGroups(dividing: modelChannels)
        let levels = channelMultipliers.count

        attentionLevels = try config.attentionLevels("down_block_types", "CrossAttnDownBlock2D", "DownBlock2D", levels)
        let up = try config.attentionLevels("up_block_types", "CrossAttnUpBlock2D", "UpBlock2D", levels)
        guard Set(up.map { levels - 1 - $0 }) == attentionLevels else {
            throw config.wrong("up_block_types", "the mirror of down_block_types")
        }
        residualBlocks = try config.uniform("layers_per_block", in: 1...16, levels) ?? 2
        transformerDepth = try config.uniform("transformer_layers_per_block", in: 1...64, levels) ?? 1
        contextSize = try config.uniform("cross_attention_dim", in: 1...65536, levels) ?? 1280

        // In Stable Diffusion's files the size of a head is really the number of heads (diffusers issue 2011).
        let key = config["num_attention_heads"] == nil ? "attention_head_dim" : "num_attention_heads"
        let counts = try config.ints(key, in: 1...1024, count: levels) ?? Array(repeating: 8, count: levels)
        let channels = channelMultipliers.map { $0 * modelChannels }
        guard zip(channels, counts).allSatisfy({ $0 % $1 == 0 }) else {
            throw config.wrong(key, "numbers of heads that divide block_out_channels, \(channels)")
        }
        let sizes = Set(zip(channels, counts).map { $0 / $1 })
        heads =
            if Set(counts).count == 1, let count = counts.first {
                .count(count)
            } else if sizes.count == 1, let size = sizes.first {
                .channels(size)
            } else {
                .perLevel(counts)
            }
    }
}

extension AutoencoderConfiguration {
    private static let absent: [(key: String, off: [String])] = [
        ("act_fn", ["'silu'", "'swish'"]), ("in_channels", ["3"]), ("out_channels", ["3"]), ("shift_factor", []),
        ("latents_mean", []), ("latents_std", []), ("use_quant_conv", ["true"]), ("use_post_quant_conv", ["true"]),
        ("mid_block_add_attention", ["true"]),
    ]

    /// Reads `vae/config.json` of an `AutoencoderKL`.
    init(diffusers config: JSONDocument) throws(DiffusionError) {
        self.init()
        try config.requireOff(Self.absent)
        latentChannels = try config.int("latent_channels", in: 1...64) ?? 4
        (channels, channelMultipliers) = try config.levels()
        normGroups = try config.normGroups(dividing: channels)
        residualBlocks = try config.int("layers_per_block", in: 1...16) ?? 1
        let levels = channelMultipliers.count
        for (key, block) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
            guard try config.texts(key) ?? [] == Array(repeating: block, count: levels) else {
                throw config.wrong(key, "\(levels) of \(block)")
            }
        }
    }
}

extension TextEncoderConfiguration {
    /// Reads `text_encoder/config.json` of a `CLIPTextModel`.
    init(diffusers config: JSONDocument) throws(DiffusionError) {
        self.init(family: .clip)
        try config.requireOff([("layer_norm_eps", ["1e-05"])])
        switch try config.text("hidden_act") ?? "quick_gelu" {
        case "quick_gelu": activation = .quickGELU
        case "gelu": activation = .gelu
        default: throw config.wrong("hidden_act", "'quick_gelu' or 'gelu'")
        }
        width = try config.requiredInt("hidden_size", in: 1...65536)
        hiddenSize = try config.requiredInt("intermediate_size", in: 1...262_144)
        heads = try config.requiredInt("num_attention_heads", in: 1...1024)
        guard width % heads == 0 else {
            throw config.wrong("num_attention_heads", "a divisor of hidden_size, \(width)")
        }
        layers = try config.requiredInt("num_hidden_layers", in: 1...256)
        vocabularySize = try config.int("vocab_size", in: 3...10_000_000) ?? 49408
        contextLength = try config.int("max_position_embeddings", in: 2...65536) ?? 77
        skippedLayers = 0
    }
}

extension JSONDocument {
    /// `block_out_channels` as channels of the first level and multiples of them.
    fileprivate func levels() throws(DiffusionError) -> (Int, [Int]) {
        let expected = "1 to 8 multiples of the first, each from 1 to 65536"
        guard let channels = try ints("block_out_channels", in: 1...65536), let first = channels.first,
            channels.count <= 8, channels.allSatisfy({ $0 % first == 0 })
        else { throw wrong("block_out_channels", expected) }
        return (first, channels.map { $0 / first })
    }

    fileprivate func normGroups(dividing channels: Int) throws(DiffusionError) -> Int {
        let groups = try int("norm_num_groups", in: 1...65536) ?? 32
        guard channels % groups == 0 else { throw wrong("norm_num_groups", "a divisor of \(channels) channels") }
        return groups
    }

    /// The levels whose block is `attended`; all others must be `plain`.
    fileprivate func attentionLevels(
        _ key: String, _ attended: String, _ plain: String, _ levels: Int
    ) throws(DiffusionError) -> Set<Int> {
        let types = try texts(key) ?? []
        guard types.count == levels, types.allSatisfy({ $0 == attended || $0 == plain }) else {
            throw wrong(key, "\(levels) of \(attended) or \(plain)")
        }
        return Set(types.indices.filter { types[$0] == attended })
    }

    /// A number that may be given once or for each level, but must be the same everywhere.
    fileprivate func uniform(
        _ key: String, in range: ClosedRange<Int>, _ levels: Int
    ) throws(DiffusionError) -> Int? {
        guard let numbers = try ints(key, in: range, count: levels) else { return nil }
        guard Set(numbers).count == 1 else { throw wrong(key, "one number for all levels") }
        return numbers.first
    }
}
