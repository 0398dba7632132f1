import Checkpoint
import TensorEngine

/// Keys and values of the text for every transformer block of a U-Net; made once per prompt, used at every step.
public struct TextKeys {
    /// One `[n, tokens, 2 * channels]` per block, in the blocks' order: keys, then values.
    var blocks: [Tensor]
    /// Entries of the batch.
    var count: Int { blocks.first?.shape[0] ?? 1 }
}

/// LDM's `SpatialTransformer`: normalise, map to tokens, transformer blocks, map back, add.
///
/// Golden: `eps.plain.*`, `eps.personal.*`.
struct SpatialTransformer {
    /// The injection site this is, if it is one.
    let site: InjectionSite?
    private let engine: Engine
    private let groups: Int
    private let norm: NormWeights
    private let projIn: Weights
    private let projOut: Weights
    private let blocks: [TransformerBlock]

    init(
        _ scope: ParameterScope, channels: Int, heads: Int, contextSize: Int, depth: Int, groups: Int,
        site: InjectionSite?, engine: Engine
    ) throws(EngineError) {
        let layers = LayerMaker(engine: engine)
        self.engine = engine
        self.site = site
        self.groups = groups
        norm = try layers.norm(scope["norm"], channels: channels)
        projIn = try layers.linear(scope["proj_in"], inputs: channels, outputs: channels)
        projOut = try layers.linear(scope["proj_out"], inputs: channels, outputs: channels)
        var blocks: [TransformerBlock] = []
        for index in 0..<depth {
            blocks.append(
                try TransformerBlock(
                    scope["transformer_blocks"][index], channels: channels, heads: heads, contextSize: contextSize,
                    engine: engine))
        }
        self.blocks = blocks
    }

    /// Keys and values of `context [n, tokens, contextSize]`, one tensor per block.
    func textKeys(_ context: Tensor) throws(EngineError) -> [Tensor] {
        var keys: [Tensor] = []
        for block in blocks { keys.append(try block.textKeys(context)) }
        return keys
    }

    /// What the first block's self-attention takes of tokens that enter here, `x [n, tokens, c]`, float32: queries, keys and values
    /// side by side, `[n, tokens, 3c]`. Each entry is normalised over its own tokens, as a picture is.
    func selfQKV(_ x: Tensor) throws(EngineError) -> Tensor {
        let (n, tokens, c) = (x.shape[0], x.shape[1], x.shape[2])
        let normed = try engine.groupNorm(
            try x.reshaped([n, tokens, 1, c]), norm, groups: groups, epsilon: 1e-6, silu: false)
        return try blocks[0].selfQKV(try engine.product(try normed.reshaped([n, tokens, c]), projIn))
    }

    /// `x [n, h, w, c]`, float32, is used up: the result lies in its memory. The first `tappedRows` of n go through `tap`. Where
    /// one picture is given several texts, it is computed once up to the block that reads them first, and becomes as many
    /// pictures there.
    func callAsFunction(
        _ x: Tensor, text: ArraySlice<Tensor>, tap: (any InjectionTap)?, tappedRows: Int
    ) throws(EngineError) -> Tensor {
        let (n, h, w, c) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
        if let site, let tap { try tap.record(try x.reshaped([n, h * w, c]), at: site) }
        let normed = try engine.groupNorm(x, norm, groups: groups, epsilon: 1e-6, silu: false)
        var tokens = try engine.product(try normed.reshaped([n, h * w, c]), projIn)
        for (block, keys) in zip(blocks, text) {
            try block.attendToItself(tokens, site: site, tap: tap, tappedRows: tappedRows)
            tokens = try engine.repeated(tokens, count: keys.shape[0])
            try block.attendToText(tokens, text: keys)
            try block.feedForward(tokens)
        }
        let sum = try engine.repeated(x, count: tokens.shape[0])
        try engine.product(tokens, projOut, accumulateInto: sum)
        return sum
    }

    /// The same in training, for one text. Kept are x with the statistics of its normalisation, and what the blocks keep.
    ///
    /// - Parameter isLowest: whether nothing below this site's mix is trained. Backward then ends there, and what it returns says
    ///   nothing.
    func forward(
        _ x: Tensor, text: ArraySlice<Tensor>, mix: TrainedMix, isLowest: Bool
    ) throws(EngineError) -> Differentiable {
        let (n, h, w, c) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
        let (normed, kept) = try engine.groupNormKept(x, norm, groups: groups, epsilon: 1e-6, silu: false)
        var tokens = try engine.product(try normed.reshaped([n, h * w, c]), projIn)
        var steps: [Backward] = []
        for (index, (block, keys)) in zip(blocks, text).enumerated() {
            let first = try block.attendToItselfKept(tokens, site: site, mix: mix, isLowest: isLowest && index == 0)
            let second = try block.attendToTextKept(first.result, keys)
            let third = try block.feedForwardKept(second.result)
            steps += [first.backward, second.backward, third.backward]
            tokens = third.result
        }
        let sum = try engine.product(try tokens.reshaped(x.shape), projOut, addedTo: x)
        return Differentiable(sum) { [engine, projIn, projOut] gradient throws(EngineError) in
            var inner = try engine.productGradient(byInput: try gradient.reshaped([n, h * w, c]), projOut)
            while let step = steps.popLast() { inner = try step(inner) }
            if isLowest { return gradient }
            let dx = try engine.groupNormGradient(
                try engine.productGradient(byInput: inner, projIn).reshaped(x.shape), of: kept)
            try engine.add(gradient, to: dx)
            return dx
        }
    }
}

/// LDM's `BasicTransformerBlock`: self-attention, attention to the text, feed-forward, each added to its input.
struct TransformerBlock {
    private let engine: Engine
    private let channels: Int
    private let heads: Int
    private let norm1, norm2, norm3: NormWeights
    private let selfQKV, selfOut: Weights
    private let textQ, textKV, textOut: Weights
    private let feedIn, feedOut: Weights
    private static let feedForwardRows = 1024

    init(_ scope: ParameterScope, channels c: Int, heads: Int, contextSize: Int, engine: Engine) throws(EngineError) {
        let layers = LayerMaker(engine: engine)
        self.engine = engine
        self.heads = heads
        channels = c
        norm1 = try layers.norm(scope["norm1"], channels: c)
        norm2 = try layers.norm(scope["norm2"], channels: c)
        norm3 = try layers.norm(scope["norm3"], channels: c)
        let (attn1, attn2) = (scope["attn1"], scope["attn2"])
        selfQKV = try layers.fused([attn1["to_q"], attn1["to_k"], attn1["to_v"]], inputs: c, outputs: c)
        selfOut = try layers.linear(attn1["to_out.0"], inputs: c, outputs: c)
        textQ = try layers.linear(attn2["to_q"], inputs: c, outputs: c, bias: false)
        textKV = try layers.fused([attn2["to_k"], attn2["to_v"]], inputs: contextSize, outputs: c)
        textOut = try layers.linear(attn2["to_out.0"], inputs: c, outputs: c)
        feedIn = try layers.linear(scope["ff.net.0.proj"], inputs: c, outputs: 8 * c)
        feedOut = try layers.linear(scope["ff.net.2"], inputs: 4 * c, outputs: c)
    }

    func textKeys(_ context: Tensor) throws(EngineError) -> Tensor {
        try engine.product(context, textKV, to: engine.activationType)
    }

    // Each changes `x [n, tokens, c]` in its memory.

    func attendToItself(
        _ x: Tensor, site: InjectionSite?, tap: (any InjectionTap)?, tappedRows: Int
    ) throws(EngineError) {
        let qkv = try selfQKV(x)
        let (q, k, v) = (
            Columns(qkv, 0, channels), Columns(qkv, channels, channels), Columns(qkv, 2 * channels, channels)
        )
        let attended = try engine.attention(q: q, k: k, v: v, heads: heads)
        guard let site, let tap, tappedRows > 0, tap.mixes(at: site) else {
            try engine.product(attended, selfOut, accumulateInto: x)
            return
        }
        let whole = SelfAttention(qkv: qkv, read: attended, channels: channels, output: selfOut, engine: engine)
        try tap.mix(try x.slice(0..<tappedRows), attention: try whole.slice(0..<tappedRows), at: site)
        if tappedRows < x.shape[0] {
            let plain = tappedRows..<x.shape[0]
            try engine.product(try attended.slice(plain), selfOut, accumulateInto: try x.slice(plain))
        }
    }

    /// What self-attention takes of `x [n, tokens, c]`: queries, keys and values side by side.
    func selfQKV(_ x: Tensor) throws(EngineError) -> Tensor {
        try engine.product(try engine.layerNorm(x, norm1), selfQKV, to: engine.activationType)
    }

    func attendToText(_ x: Tensor, text: Tensor) throws(EngineError) {
        let query = try engine.product(try engine.layerNorm(x, norm2), textQ, to: engine.activationType)
        let read = try engine.attention(
            q: Columns(query), k: Columns(text, 0, channels), v: Columns(text, channels, channels), heads: heads)
        try engine.product(read, textOut, accumulateInto: x)
    }

    func feedForward(_ x: Tensor) throws(EngineError) {
        let rows = try x.reshaped([x.rows, channels])
        // What lies between is eight times as wide: a whole batch of it would leave the cache, and be most of the peak memory.
        for first in stride(from: 0, to: x.rows, by: Self.feedForwardRows) {
            let part = try rows.slice(first..<min(first + Self.feedForwardRows, x.rows))
            let hidden = try engine.geglu(
                try engine.product(try engine.layerNorm(part, norm3), feedIn, to: engine.activationType))
            try engine.product(hidden, feedOut, accumulateInto: part)
        }
    }
}

// MARK: Training

extension TransformerBlock {
    // Each leaves `x [n, tokens, c]` as it is, and returns the sum with the way back.

    /// Kept are x with the statistics of its normalisation; q, k, v and what attention keeps.
    func attendToItselfKept(
        _ x: Tensor, site: InjectionSite?, mix: TrainedMix, isLowest: Bool
    ) throws(EngineError) -> Differentiable {
        let (normed, keptNorm) = try engine.layerNormKept(x, norm1)
        let qkv = try engine.product(normed, selfQKV, to: engine.activationType)
        let (attended, kept) = try engine.attentionKept(
            q: Columns(qkv, 0, channels), k: Columns(qkv, channels, channels), v: Columns(qkv, 2 * channels, channels),
            heads: heads)
        // Of the gradient by what was attended to, and of that by x past the attention, the gradient by x.
        let back = {
            [engine, channels, selfQKV, selfOut] (gradient: Tensor, past: Tensor) throws(EngineError) -> Tensor in
            let inner = try engine.empty(x.shape.dropLast() + [3 * channels])
            try engine.attentionGradient(
                try engine.productGradient(byInput: gradient, selfOut), of: kept, q: Columns(inner, 0, channels),
                keysValues: (Columns(inner, channels, channels), Columns(inner, 2 * channels, channels)))
            let dx = try engine.layerNormGradient(try engine.productGradient(byInput: inner, selfQKV), of: keptNorm)
            try engine.add(past, to: dx)
            return dx
        }
        guard let site, mix.sites.contains(site) else {
            let sum = try engine.product(attended, selfOut, addedTo: x)
            return Differentiable(sum) { gradient throws(EngineError) in try back(gradient, gradient) }
        }
        let mapped = try engine.product(attended, selfOut, to: engine.activationType)
        let mixed = try mix.forward(x, mapped, site)
        return Differentiable(mixed.sum) { gradient throws(EngineError) in
            guard let inner = try mixed.backward(gradient, !isLowest) else { return gradient }
            return try back(inner.attended, inner.x)
        }
    }

    /// Kept are x with the statistics of its normalisation, and what attention keeps. The text is not trained.
    func attendToTextKept(_ x: Tensor, _ text: Tensor) throws(EngineError) -> Differentiable {
        let (normed, keptNorm) = try engine.layerNormKept(x, norm2)
        let query = try engine.product(normed, textQ, to: engine.activationType)
        let (read, kept) = try engine.attentionKept(
            q: Columns(query), k: Columns(text, 0, channels), v: Columns(text, channels, channels), heads: heads)
        let sum = try engine.product(read, textOut, addedTo: x)
        return Differentiable(sum) { [engine, textQ, textOut] gradient throws(EngineError) in
            let inner = try engine.empty(x.shape)
            try engine.attentionGradient(
                try engine.productGradient(byInput: gradient, textOut), of: kept, q: Columns(inner))
            let dx = try engine.layerNormGradient(try engine.productGradient(byInput: inner, textQ), of: keptNorm)
            try engine.add(gradient, to: dx)
            return dx
        }
    }

    /// Kept are x with the statistics of its normalisation, and GEGLU's input, which is eight times as wide.
    func feedForwardKept(_ x: Tensor) throws(EngineError) -> Differentiable {
        let (normed, keptNorm) = try engine.layerNormKept(x, norm3)
        let wide = try engine.product(normed, feedIn, to: engine.activationType)
        let sum = try engine.product(try engine.geglu(wide), feedOut, addedTo: x)
        return Differentiable(sum) { [engine, feedIn, feedOut] gradient throws(EngineError) in
            let inner = try engine.gegluGradient(try engine.productGradient(byInput: gradient, feedOut), of: wide)
            let dx = try engine.layerNormGradient(try engine.productGradient(byInput: inner, feedIn), of: keptNorm)
            try engine.add(gradient, to: dx)
            return dx
        }
    }
}
