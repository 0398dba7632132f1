import TensorEngine

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

/// What can be done at the injection sites of one pass. Diffusion only offers the places; what happens there belongs to
/// whoever fills them.
public protocol InjectionTap: AnyObject {
    /// The tokens that enter a site's block, before its normalisation: `x [n, tokens, channels]`, float32, not to be changed
    /// and, since the block changes them, not to be kept.
    func record(_ x: Tensor, at site: InjectionSite) throws(EngineError)

    /// Whether ``mix(_:attended:at:)`` stands in for the plain self-attention residual at this site.
    func mixes(at site: InjectionSite) -> Bool

    /// Adds to `x` (in its memory) what self-attention contributes. `x [rows, tokens, channels]` float32 are the tokens
    /// inside the block, `attended` of the same shape is attn1(norm1(x)) in the type of products.
    func mix(_ x: Tensor, attended: Tensor, at site: InjectionSite) throws(EngineError)
}
