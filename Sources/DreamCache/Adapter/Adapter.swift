import Checkpoint
import Diffusion
import TensorEngine

/// The trained part of DreamCache: at each injection site an attention to the cached tokens and a map that joins it with
/// self-attention (DreamCache, section 3.2, "concatenation").
///
/// Golden: `eps.personal.*`.
public final class Adapter {
    struct Site {
        let norm: NormWeights
        let toQ, toKV, toOut: Weights
        /// The two halves of `linear_cat`: W [attn1 ; mem] = W_a attn1 + W_m mem, so nothing need be concatenated.
        let catAttended, catMemory: Weights
    }

    /// Where it was read from.
    public let path: String
    let sites: [InjectionSite: Site]

    /// Loads the authors' `.pt`, or a safetensors file with the same keys:
    /// `diffusion_model.<site>.transformer_blocks.0.{attn_mem.to_q,to_k,to_v,to_out.0,norm2_mem,linear_cat}`.
    ///
    /// - Throws: one error that lists all missing, unused and misshapen tensors: an adapter of another base is refused.
    public init(path: String, for unet: UNet, engine: Engine) throws(DreamCacheError) {
        let store: ParameterStore
        do { store = ParameterStore(try Checkpoint.open(path)) } catch { throw .diffusion(.checkpoint(error)) }
        self.path = path
        sites = try Self.sites(store, unet, engine)
    }

    /// Builds an adapter from parameters, or from a random store.
    public init(_ store: ParameterStore, for unet: UNet, engine: Engine) throws(DreamCacheError) {
        path = "parameters"
        sites = try Self.sites(store, unet, engine)
    }

    private static func sites(
        _ store: ParameterStore, _ unet: UNet, _ engine: Engine
    ) throws(DreamCacheError) -> [InjectionSite: Site] {
        let layers = LayerMaker(engine: engine)
        let made = try onEngine { () throws(EngineError) in
            var sites: [InjectionSite: Site] = [:]
            for site in unet.sites {
                let c = site.channels
                let scope = store.scoped("diffusion_model.\(site.name).transformer_blocks.0.")
                let attention = scope["attn_mem"]
                let cat = scope["linear_cat"].take("weight", shape: [c, 2 * c])
                let catBias = scope["linear_cat"].take("bias", shape: [c]).floats()
                func half(_ index: Int, bias: [Float]?) throws(EngineError) -> Weights {
                    try engine.weights(.linear, inputs: c, outputs: c, bias: bias) { buffer in
                        let all = cat.floats()
                        for row in 0..<c {
                            for column in 0..<c { buffer[row * c + column] = all[row * 2 * c + index * c + column] }
                        }
                    }
                }
                sites[site] = Site(
                    norm: try layers.norm(scope["norm2_mem"], channels: c),
                    toQ: try layers.linear(attention["to_q"], inputs: c, outputs: c, bias: false),
                    toKV: try layers.fused([attention["to_k"], attention["to_v"]], inputs: c, outputs: c),
                    toOut: try layers.linear(attention["to_out.0"], inputs: c, outputs: c),
                    catAttended: try half(0, bias: catBias), catMemory: try half(1, bias: nil))
            }
            return sites
        }
        do { try store.finish() } catch { throw .diffusion(.checkpoint(error)) }
        return made
    }
}

/// A subject as an adapter sees it: keys and values of its cached tokens at every site. They depend neither on the
/// timestep nor on the prompt, so they are computed once for all images of the subject.
public final class SubjectMemory: InjectionTap {
    private let engine: Engine
    private let adapter: Adapter
    private let keysValues: [InjectionSite: Tensor]

    /// Keys and values of one or several subjects' caches; their tokens stand one after another.
    public convenience init(_ caches: [FeatureCache], adapter: Adapter, engine: Engine) throws(DreamCacheError) {
        try self.init(tokens: { site in caches.flatMap { $0.tokens(at: site) } }, adapter: adapter, engine: engine)
    }

    /// - Parameter cached: the cached tokens at a site, `[tokens, channels]`.
    init(
        tokens cached: (InjectionSite) -> [Float], adapter: Adapter, engine: Engine
    ) throws(DreamCacheError) {
        self.engine = engine
        self.adapter = adapter
        keysValues = try onEngine { () throws(EngineError) in
            var keysValues: [InjectionSite: Tensor] = [:]
            for (site, weights) in adapter.sites {
                let tokens = cached(site)
                let memory = try engine.tensor(tokens, shape: [1, tokens.count / site.channels, site.channels])
                keysValues[site] = try engine.product(memory, weights.toKV, to: engine.activationType)
            }
            return keysValues
        }
    }

    /// Nothing is recorded while generating.
    public func record(_ x: Tensor, at site: InjectionSite) {}

    /// At every site.
    public func mixes(at site: InjectionSite) -> Bool { keysValues[site] != nil }

    /// x += linear_cat([attended ; attn_mem(norm2_mem(x), memory)]).
    public func mix(_ x: Tensor, attended: Tensor, at site: InjectionSite) throws(EngineError) {
        guard let weights = adapter.sites[site], let memory = keysValues[site] else { return }
        let c = site.channels
        let type = engine.activationType
        let query = try engine.product(try engine.layerNorm(x, weights.norm), weights.toQ, to: type)
        let read = try engine.attention(
            q: Columns(query), k: Columns(memory, 0, c), v: Columns(memory, c, c), heads: site.heads)
        let mem = try engine.product(read, weights.toOut, to: type)
        try engine.product(attended, weights.catAttended, accumulateInto: x)
        try engine.product(mem, weights.catMemory, accumulateInto: x)
    }
}
