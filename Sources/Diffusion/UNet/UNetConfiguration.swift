/// Geometry of a U-Net, in the terms of LDM's `unet_config`.
public struct UNetConfiguration: Sendable, Equatable {
    /// How a block's channels are divided among attention heads.
    public enum Heads: Sendable, Equatable {
        /// So many channels per head (Stable Diffusion 2: 64).
        case channels(Int)
        /// So many heads at every level (Stable Diffusion 1: 8).
        case count(Int)
        /// So many heads at each level.
        case perLevel([Int])

        func count(channels: Int, level: Int) -> Int {
            switch self {
            case .channels(let size): max(1, channels / max(1, size))
            case .count(let count): count
            case .perLevel(let counts): counts.indices.contains(level) ? counts[level] : 1
            }
        }
    }

    /// Channels of the latent that goes in, and of the prediction that comes out.
    public var inChannels = 4, outChannels = 4
    /// Channels of the first level.
    public var modelChannels = 320
    /// Channels of each level, as multiples of ``modelChannels``.
    public var channelMultipliers = [1, 2, 4, 4]
    /// Residual blocks per level in the encoder; the decoder has one more.
    public var residualBlocks = 2
    /// Levels with transformers.
    public var attentionLevels: Set<Int> = [0, 1, 2]
    /// Division into heads.
    public var heads = Heads.channels(64)
    /// Transformer blocks in each spatial transformer.
    public var transformerDepth = 1
    /// Channels of the text encoder's states.
    public var contextSize = 1024
    /// Groups of the group normalisations.
    public var normGroups = 32

    /// Stable Diffusion 2.1's geometry.
    public static let stableDiffusion2 = UNetConfiguration()
    /// Stable Diffusion 1.x's geometry.
    public static let stableDiffusion1 = UNetConfiguration(heads: .count(8), contextSize: 768)

    /// All fields have the values of Stable Diffusion 2.1 unless given.
    public init(heads: Heads = .channels(64), contextSize: Int = 1024) {
        self.heads = heads
        self.contextSize = contextSize
    }
}
