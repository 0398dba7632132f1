import TensorEngine

/// A site's attention to its own tokens, of the entries that go through a tap: what it read, and how it reads.
public struct SelfAttention {
    /// Queries, keys and values, `[rows, tokens, 3 * channels]` in the type of products.
    let qkv: Tensor
    /// What the heads read, side by side, `[rows, tokens, channels]` in the type of products.
    public let read: Tensor
    let channels: Int
    let output: Weights
    let engine: Engine

    /// What the tokens ask for.
    public var queries: Columns { Columns(qkv, 0, channels) }

    /// attn1(norm1(x)): what was read through the block's output map, in the type of products.
    public func attended() throws(EngineError) -> Tensor {
        try engine.product(read, output, to: engine.activationType)
    }

    /// Adds to `x` what heads read, `[rows, tokens, channels]`, through the block's output map.
    public func add(_ read: Tensor, to x: Tensor) throws(EngineError) {
        try engine.product(read, output, accumulateInto: x)
    }

    /// Some of its entries.
    public func slice(_ entries: Range<Int>) throws(EngineError) -> SelfAttention {
        SelfAttention(
            qkv: try qkv.slice(entries), read: try read.slice(entries), channels: channels, output: output,
            engine: engine)
    }
}

/// A transformer block of the U-Net at which features of a reference are recorded, and at which an adapter mixes them in.
///
/// The rule (DreamCache, section 3.1, and the authors' code): number the transformer blocks of the whole U-Net from 0,
/// encoder first; the middle block and the decoder's blocks with an even number are sites.
public struct InjectionSite: Hashable, Sendable {
    /// LDM's path of the block: `middle_block.1`, `output_blocks.4.1`. Caches and adapters name sites by it.
    public let name: String
    /// Channels of its tokens.
    public let channels: Int
    /// Attention heads of its transformer block.
    public let heads: Int
    /// How many times the latent is halved there, rounding up: a latent of h x w has ceil(h / 2^level) * ceil(w / 2^level)
    /// tokens.
    public let level: Int
}

/// What stands in for the self-attention residual at the sites that are trained. As with ``InjectionTap``, what happens there
/// belongs to whoever fills them.
public struct TrainedMix {
    /// Where it stands in.
    public let sites: Set<InjectionSite>
    /// Of tokens `x [n, tokens, channels]` (float32, not to be changed) and `attended` (in the type of products) the sum that
    /// takes their place.
    public let forward: (_ x: Tensor, _ attended: Tensor, InjectionSite) throws(EngineError) -> MixedTokens

    /// A mix at `sites`.
    public init(
        sites: Set<InjectionSite>,
        forward: @escaping (_ x: Tensor, _ attended: Tensor, InjectionSite) throws(EngineError) -> MixedTokens
    ) {
        self.sites = sites
        self.forward = forward
    }
}

/// The result of a ``TrainedMix`` and its way back.
public struct MixedTokens {
    /// Gradients by the tokens and by what they attended to, float32.
    public struct Gradients {
        let x: Tensor
        let attended: Tensor

        /// Both, of the shapes of what they are gradients by.
        public init(x: Tensor, attended: Tensor) {
            self.x = x
            self.attended = attended
        }
    }

    let sum: Tensor
    let backward: (_ gradient: Tensor, _ needsInput: Bool) throws(EngineError) -> Gradients?

    /// - Parameters:
    ///   - sum: of the tokens' shape, float32.
    ///   - backward: takes the gradient by that sum and adds up the gradients of what is trained. It may return nil where
    ///     `needsInput` is false: below the lowest site nothing is trained.
    public init(
        sum: Tensor, backward: @escaping (_ gradient: Tensor, _ needsInput: Bool) throws(EngineError) -> Gradients?
    ) {
        self.sum = sum
        self.backward = backward
    }
}

/// What can be done at the injection sites of one pass. Diffusion only offers the places; what happens there belongs to
/// whoever fills them.
public protocol InjectionTap: AnyObject {
    /// The tokens that enter a site's block, before its normalisation: `x [n, tokens, channels]`, float32, not to be changed
    /// and, since the block changes them, not to be kept.
    func record(_ x: Tensor, at site: InjectionSite) throws(EngineError)

    /// Whether ``mix(_:attention:at:)`` stands in for the plain self-attention residual at this site.
    func mixes(at site: InjectionSite) -> Bool

    /// Adds to `x` (in its memory) what self-attention contributes. `x [rows, tokens, channels]` float32 are the tokens
    /// inside the block, `attention` is what the block's self-attention read of norm1(x).
    func mix(_ x: Tensor, attention: SelfAttention, at site: InjectionSite) throws(EngineError)
}
