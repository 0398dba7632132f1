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
    /// - Parameter inspect: given the parameters of which it was made.
    /// - Throws: an adapter of another base is refused by name; otherwise one error lists all missing, unused and misshapen
    ///   tensors.
    public init(
        path: String, for model: StableDiffusion, engine: Engine,
        inspect: (ParameterStore) throws(CheckpointError) -> Void = { _ in }
    ) throws(DreamCacheError) {
        let file = try AdapterFile(path: path)
        try file.check(model)
        self.path = path
        let store = ParameterStore(file.checkpoint)
        sites = try Self.sites(store, model.unet, engine)
        do { try inspect(store) } catch { throw DreamCacheError(.checkpoint(error)) }
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
                    let name = "\(scope.prefix)linear_cat.weight, half \(index)"
                    return try engine.weights(.linear, inputs: c, outputs: c, bias: bias, name: name) { buffer in
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
    /// What is kept at the sites, by who reads it.
    private enum Kept {
        case adapter(Adapter, keysValues: [InjectionSite: Tensor], ends: [InjectionSite: [Int]])
        case base(SelfReading, [InjectionSite: SelfMemory])
    }

    private let engine: Engine
    private let kept: Kept
    private let groupCount: Int
    /// Who wants to know what is read; nil costs nothing.
    var recorder: AttentionRecorder?

    /// Keys and values of one or several subjects' caches; their tokens stand one after another.
    public convenience init(_ caches: [FeatureCache], adapter: Adapter, engine: Engine) throws(DreamCacheError) {
        try self.init(groups: [caches], adapter: adapter, engine: engine)
    }

    /// Keys and values of groups of caches, of which a branch of guidance may use the first few.
    public convenience init(
        groups: [[FeatureCache]], adapter: Adapter, engine: Engine
    ) throws(DreamCacheError) {
        try self.init(
            tokens: { site in groups.map { caches in caches.flatMap { $0.tokens(at: site) } } }, adapter: adapter,
            engine: engine)
    }

    /// - Parameter cached: the cached tokens at a site, `[tokens, channels]` a group.
    init(
        tokens cached: (InjectionSite) -> [[Float]], adapter: Adapter, engine: Engine
    ) throws(DreamCacheError) {
        self.engine = engine
        var ends: [InjectionSite: [Int]] = [:]
        var count = 0
        let keysValues = try onEngine { () throws(EngineError) in
            var keysValues: [InjectionSite: Tensor] = [:]
            for (site, weights) in adapter.sites {
                let groups = cached(site)
                let tokens = groups.flatMap { $0 }
                var end = 0
                count = groups.count
                ends[site] = groups.map { group in
                    end += group.count / site.channels
                    return end
                }
                let memory = try engine.tensor(tokens, shape: [1, tokens.count / site.channels, site.channels])
                keysValues[site] = try engine.product(memory, weights.toKV, to: engine.activationType)
            }
            return keysValues
        }
        kept = .adapter(adapter, keysValues: keysValues, ends: ends)
        groupCount = count
    }

    /// The same groups as the base itself reads them, without an adapter.
    public convenience init(
        groups: [[FeatureCache]], reading: SelfReading, of unet: UNet, engine: Engine
    ) throws(DreamCacheError) {
        try self.init(
            references: { site in groups.map { caches in caches.flatMap { $0.references(at: site) } } },
            reading: reading, of: unet, engine: engine)
    }

    /// - Parameter cached: the references of each group at a site.
    init(
        references cached: (InjectionSite) -> [[CachedTokens]], reading: SelfReading, of unet: UNet, engine: Engine
    ) throws(DreamCacheError) {
        self.engine = engine
        var count = 0
        let memories = try onEngine { () throws(EngineError) in
            var memories: [InjectionSite: SelfMemory] = [:]
            for site in unet.sites {
                let groups = cached(site)
                count = groups.count
                memories[site] = try SelfMemory(groups, at: site, of: unet, engine: engine)
            }
            return memories
        }
        kept = .base(reading, memories)
        groupCount = count
    }

    /// Nothing is recorded while generating.
    public func record(_ x: Tensor, at site: InjectionSite) {}

    /// At every site.
    public func mixes(at site: InjectionSite) -> Bool {
        switch kept {
        case .adapter(_, let keysValues, _): keysValues[site] != nil
        case .base(_, let memories): memories[site] != nil
        }
    }

    /// x += linear_cat([attended ; attn_mem(norm2_mem(x), memory)]), over the memory of all groups; of a base without an
    /// adapter at the beginning of a run.
    public func mix(_ x: Tensor, attention: SelfAttention, at site: InjectionSite) throws(EngineError) {
        try mix(x, attention: attention, at: site, groups: groupCount, evaluation: (0, 1))
    }

    /// The same over the memory of the first `groups` groups, at one evaluation of so many.
    func mix(
        _ x: Tensor, attention: SelfAttention, at site: InjectionSite, groups: Int, evaluation: (index: Int, count: Int)
    ) throws(EngineError) {
        guard (1...groupCount).contains(groups) else { return }
        switch kept {
        case .adapter(let adapter, let keysValues, let ends):
            guard let weights = adapter.sites[site], let all = keysValues[site], let ends = ends[site] else { return }
            try mix(
                x, attention, at: site, by: weights, memory: all, count: ends[groups - 1],
                recorder(of: groups, at: site))
        case .base(let reading, let memories):
            try memories[site]?.mix(
                x, attention: attention, groups: groups,
                weight: reading.weight.value(at: evaluation.index, of: evaluation.count),
                recorder: recorder(of: groups, at: site))
        }
    }

    private func mix(
        _ x: Tensor, _ attention: SelfAttention, at site: InjectionSite, by weights: Adapter.Site, memory all: Tensor,
        count: Int, _ recorder: AttentionRecorder?
    ) throws(EngineError) {
        let c = site.channels
        // One batch entry of tokens: its first tokens lie together.
        let memory = try all.reshaped([all.shape[1], 2 * c]).slice(0..<count).reshaped([1, count, 2 * c])
        let type = engine.activationType
        let query = try engine.product(try engine.layerNorm(x, weights.norm), weights.toQ, to: type)
        let read = try read(query, memory, at: site, recorder)
        let mem = try engine.product(read, weights.toOut, to: type)
        try engine.product(try attention.attended(), weights.catAttended, accumulateInto: x)
        try engine.product(mem, weights.catMemory, accumulateInto: x)
    }

    private func read(
        _ query: Tensor, _ memory: Tensor, at site: InjectionSite, _ recorder: AttentionRecorder?
    ) throws(EngineError) -> Tensor {
        let c = site.channels
        let (q, k, v) = (Columns(query), Columns(memory, 0, c), Columns(memory, c, c))
        guard let recorder else { return try engine.attention(q: q, k: k, v: v, heads: site.heads) }
        let (read, kept) = try engine.attentionKept(q: q, k: k, v: v, heads: site.heads)
        recorder.add(kept, at: site, engine: engine)
        return read
    }

    /// The recorder, where it wants to know what is read of so many groups at a site.
    private func recorder(of groups: Int, at site: InjectionSite) -> AttentionRecorder? {
        guard groups == groupCount, let recorder, recorder.wants(site) else { return nil }
        return recorder
    }
}

/// A subject's memory for a batch whose entries use different groups of it.
final class SubjectTap: InjectionTap {
    private let memory: SubjectMemory
    private let groups: [Int]
    /// The evaluation of the run that goes through it, of how many.
    var evaluation = (index: 0, count: 1)

    /// - Parameter groups: for each tapped entry of the batch, how many of the memory's groups it uses.
    init(_ memory: SubjectMemory, groups: [Int]) {
        self.memory = memory
        self.groups = groups
    }

    func record(_ x: Tensor, at site: InjectionSite) {}
    func mixes(at site: InjectionSite) -> Bool { memory.mixes(at: site) }

    func mix(_ x: Tensor, attention: SelfAttention, at site: InjectionSite) throws(EngineError) {
        var first = 0
        while first < groups.count {
            let end = groups[first...].firstIndex { $0 != groups[first] } ?? groups.count
            try memory.mix(
                try x.slice(first..<end), attention: try attention.slice(first..<end), at: site, groups: groups[first],
                evaluation: evaluation)
            first = end
        }
    }
}
