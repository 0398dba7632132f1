import Checkpoint
import Glibc
import TensorEngine

/// Geometry of an autoencoder, in the terms of LDM's `ddconfig`.
public struct AutoencoderConfiguration: Sendable, Equatable {
    /// Channels of the first level.
    public var channels = 128
    /// Channels of each level, as multiples of ``channels``.
    public var channelMultipliers = [1, 2, 4, 4]
    /// Residual blocks per level in the encoder; the decoder has one more.
    public var residualBlocks = 2
    /// Groups of the group normalisations.
    public var normGroups = 32
    /// Channels of the latent.
    public var latentChannels = 4

    /// Stable Diffusion's geometry.
    public static let stableDiffusion = AutoencoderConfiguration()

    /// Pixels of an image per pixel of its latent, along each side.
    public var downscale: Int { 1 << max(0, channelMultipliers.count - 1) }
}

/// The variational autoencoder between images and latents (LDM `AutoencoderKL`).
///
/// Golden: `vae.mean`, `vae.logvar`, `vae.decoded`.
public final class Autoencoder {
    /// Mean and logarithm of the variance of the posterior, each `[latentChannels, h, w]`.
    public struct Posterior: Sendable {
        /// Means.
        public let mean: [Float]
        /// Logarithms of the variances, between -30 and 20.
        public let logVariance: [Float]

        /// mean + exp(logVariance / 2) * noise.
        public func sample(_ noise: [Float]) -> [Float] {
            mean.indices.map { mean[$0] + exp(logVariance[$0] / 2) * noise[$0] }
        }
    }

    private struct Level {
        var blocks: [ResidualBlock]
        var resample: Weights?
    }
    private struct Middle {
        let first: ResidualBlock
        let attention: AttentionBlock
        let second: ResidualBlock

        init(_ scope: ParameterScope, channels: Int, groups: Int, engine: Engine) throws(EngineError) {
            first = try ResidualBlock(
                scope["block_1"], .autoencoder, inputs: channels, outputs: channels, groups: groups, engine: engine)
            attention = try AttentionBlock(scope["attn_1"], channels: channels, groups: groups, engine: engine)
            second = try ResidualBlock(
                scope["block_2"], .autoencoder, inputs: channels, outputs: channels, groups: groups, engine: engine)
        }

        func callAsFunction(_ x: Tensor) throws(EngineError) -> Tensor { try second(try attention(try first(x))) }
    }

    /// The geometry it was made with.
    public let configuration: AutoencoderConfiguration
    private let engine: Engine
    private let encoderIn, encoderOut, quantize: Weights
    private let encoderLevels: [Level]
    private let encoderMiddle: Middle
    private let encoderNorm: NormWeights
    private let decoderIn, decoderOut, unquantize: Weights
    private let decoderMiddle: Middle
    private let decoderLevels: [Level]
    private let decoderNorm: NormWeights

    /// Takes the parameters under `scope`, LDM's `first_stage_model.`.
    public init(
        _ scope: ParameterScope, _ configuration: AutoencoderConfiguration, engine: Engine
    ) throws(EngineError) {
        let layers = LayerMaker(engine: engine)
        self.engine = engine
        self.configuration = configuration
        let latent = configuration.latentChannels
        let groups = configuration.normGroups
        let levelChannels = configuration.channelMultipliers.map { $0 * configuration.channels }
        let top = levelChannels.last ?? configuration.channels
        var channels = configuration.channels
        func level(_ scope: ParameterScope, blocks: Int, outputs: Int) throws(EngineError) -> Level {
            var level = Level(blocks: [])
            for block in 0..<blocks {
                level.blocks.append(
                    try ResidualBlock(
                        scope["block"][block], .autoencoder, inputs: channels, outputs: outputs,
                        groups: groups, engine: engine))
                channels = outputs
            }
            return level
        }

        let encoder = scope["encoder"]
        encoderIn = try layers.convolution(encoder["conv_in"], inputs: 3, outputs: configuration.channels)
        var levels: [Level] = []
        for (index, outputs) in levelChannels.enumerated() {
            let scope = encoder["down"][index]
            var level = try level(scope, blocks: configuration.residualBlocks, outputs: outputs)
            if index + 1 < levelChannels.count {
                // Zeros below and right only.
                level.resample = try layers.convolution(
                    scope["downsample.conv"], inputs: channels, outputs: channels, stride: 2, padBegin: 0)
            }
            levels.append(level)
        }
        encoderLevels = levels
        encoderMiddle = try Middle(encoder["mid"], channels: top, groups: groups, engine: engine)
        encoderNorm = try layers.norm(encoder["norm_out"], channels: top)
        encoderOut = try layers.convolution(encoder["conv_out"], inputs: top, outputs: 2 * latent)
        quantize = try layers.linear(scope["quant_conv"], inputs: 2 * latent, outputs: 2 * latent)

        let decoder = scope["decoder"]
        unquantize = try layers.linear(scope["post_quant_conv"], inputs: latent, outputs: latent)
        decoderIn = try layers.convolution(decoder["conv_in"], inputs: latent, outputs: top)
        decoderMiddle = try Middle(decoder["mid"], channels: top, groups: groups, engine: engine)
        channels = top
        levels = []
        for (index, outputs) in levelChannels.enumerated().reversed() {
            let scope = decoder["up"][index]
            var level = try level(scope, blocks: configuration.residualBlocks + 1, outputs: outputs)
            if index > 0 {
                level.resample = try layers.convolution(scope["upsample.conv"], inputs: channels, outputs: channels)
            }
            levels.append(level)
        }
        decoderLevels = levels
        decoderNorm = try layers.norm(decoder["norm_out"], channels: channels)
        decoderOut = try layers.convolution(decoder["conv_out"], inputs: channels, outputs: 3)
    }

    /// The posterior of an image.
    ///
    /// - Parameter image: `[height, width, 3]`, -1 to 1, sides divisible by ``AutoencoderConfiguration/downscale``.
    public func encode(_ image: [Float], height: Int, width: Int) throws(EngineError) -> Posterior {
        var x = try engine.product(try engine.tensor(image, shape: [1, height, width, 3]), encoderIn)
        for level in encoderLevels {
            for block in level.blocks { x = try block(x) }
            if let resample = level.resample { x = try engine.product(x, resample) }
            // The next level's tensors have other sizes.
            engine.trimMemory()
        }
        x = try encoderMiddle(x)
        x = try engine.groupNorm(x, encoderNorm, groups: configuration.normGroups, epsilon: 1e-6, silu: true)
        let moments = try engine.product(try engine.product(x, encoderOut), quantize)
        let planes = channelsFirst(engine.floats(moments), channels: moments.channels)
        return Posterior(
            mean: Array(planes[..<(planes.count / 2)]),
            // LDM clamps the logarithm before it is used.
            logVariance: planes[(planes.count / 2)...].map { min(max($0, -30), 20) })
    }

    /// The image of a latent: `[latentChannels, h, w]` (not scaled) to `[height, width, 3]`, about -1 to 1.
    public func decode(_ latent: [Float], height h: Int, width w: Int) throws(EngineError) -> [Float] {
        let channels = configuration.latentChannels
        let input = try engine.tensor(channelsLast(latent, channels: channels), shape: [1, h, w, channels])
        var x = try engine.product(try engine.product(input, unquantize), decoderIn)
        x = try decoderMiddle(x)
        for level in decoderLevels {
            for block in level.blocks { x = try block(x) }
            if let resample = level.resample { x = try engine.product(ofUpsampled: x, resample) }
            engine.trimMemory()
        }
        x = try engine.groupNorm(x, decoderNorm, groups: configuration.normGroups, epsilon: 1e-6, silu: true)
        return engine.floats(try engine.product(x, decoderOut))
    }
}

/// LDM's `AttnBlock`: attention of one head over the pixels, added to its input.
private struct AttentionBlock {
    private let engine: Engine
    private let groups: Int
    private let norm: NormWeights
    private let q, k, v, out: Weights

    init(_ scope: ParameterScope, channels: Int, groups: Int, engine: Engine) throws(EngineError) {
        let layers = LayerMaker(engine: engine)
        self.engine = engine
        self.groups = groups
        norm = try layers.norm(scope["norm"], channels: channels)
        q = try layers.linear(scope["q"], inputs: channels, outputs: channels)
        k = try layers.linear(scope["k"], inputs: channels, outputs: channels)
        v = try layers.linear(scope["v"], inputs: channels, outputs: channels)
        out = try layers.linear(scope["proj_out"], inputs: channels, outputs: channels)
    }

    /// `x [n, h, w, channels]`, float32, is used up: the result lies in its memory.
    func callAsFunction(_ x: Tensor) throws(EngineError) -> Tensor {
        let tokens = [x.shape[0], x.shape[1] * x.shape[2], x.channels]
        let normed = try engine.groupNorm(x, norm, groups: groups, epsilon: 1e-6, silu: false).reshaped(tokens)
        let type = engine.activationType
        let attended = try engine.attention(
            q: Columns(try engine.product(normed, q, to: type)), k: Columns(try engine.product(normed, k, to: type)),
            v: Columns(try engine.product(normed, v, to: type)), heads: 1)
        try engine.product(attended, out, accumulateInto: x)
        return x
    }
}
