import Checkpoint
import Diffusion
import DreamCache
import TensorEngine

/// The parameters that a run begins with.
enum AdapterStart {
    /// What the layers of a base say that stand before and in a site's self-attention.
    private struct Layers {
        let normWeight, projection, norm1Weight, norm1Bias: [Float]
        let toQ, toK, toV, toOut, toOutBias: [Float]

        init(_ store: ParameterStore, _ site: InjectionSite) {
            let c = site.channels
            let scope = store.scoped("model.diffusion_model.\(site.name).")
            let block = scope["transformer_blocks"][0]
            normWeight = scope["norm"].take("weight", shape: [c]).floats()
            projection = scope["proj_in"].take("weight", shape: [c, c], orShape: [c, c, 1, 1]).floats()
            norm1Weight = block["norm1"].take("weight", shape: [c]).floats()
            norm1Bias = block["norm1"].take("bias", shape: [c]).floats()
            let attention = block["attn1"]
            (toQ, toK, toV, toOut) = (
                attention["to_q"].take("weight", shape: [c, c]).floats(),
                attention["to_k"].take("weight", shape: [c, c]).floats(),
                attention["to_v"].take("weight", shape: [c, c]).floats(),
                attention["to_out.0"].take("weight", shape: [c, c]).floats()
            )
            toOutBias = attention["to_out.0"].take("bias", shape: [c]).floats()
        }
    }

    /// Attention to the cache begins as the block's own self-attention would read those tokens, and `weight` of its effect is given
    /// to it: copying need not be learnt from nothing.
    ///
    /// The cache holds what enters the block's normalisation and proj_in; both become part of keys and values. What a constant
    /// adds to all keys cancels in the softmax, so that channels are divided by their deviation alone.
    ///
    /// - Parameters:
    ///   - base: the base's parameters, LDM's names.
    ///   - features: what some references left at each site, `[1, tokens, channels]` each.
    static func selfAttention(
        _ parameters: AdapterParameters, base: ParameterStore, features: [[InjectionSite: Tensor]], weight: Double
    ) throws(EngineError) {
        // Exact on every CPU, whatever the run computes on.
        let engine = try Engine(path: .openBLAS)
        for site in parameters.sites {
            let (c, layers) = (site.channels, Layers(base, site))
            let tokens = features.compactMap { $0[site] }.flatMap { tensor in tensor.withFloats { Array($0) } }
            let deviations = deviations(tokens, channels: c).map { max($0, 1e-3) }
            // proj_in of the normalised tokens, [c, c].
            var into = layers.projection
            for i in into.indices { into[i] *= layers.normWeight[i % c] / deviations[i % c] }
            // norm1 makes each token's channels vary by one.
            let scale = try spread(of: tokens, into, channels: c, engine)
            for i in into.indices { into[i] *= layers.norm1Weight[i / c] / scale }

            func set(_ part: AdapterParameters.Part, _ values: [Float]) throws(EngineError) {
                try parameters.part(part, of: site, in: parameters.values).withFloats { place in
                    _ = place.update(fromContentsOf: values)
                }
            }
            try set(.normWeight, layers.norm1Weight)
            try set(.normBias, layers.norm1Bias)
            try set(.toQ, layers.toQ)
            try set(.toK, try product(layers.toK, into, size: c, engine))
            try set(.toV, try product(layers.toV, into, size: c, engine))
            try set(.toOut, layers.toOut)
            try set(.toOutBias, layers.toOutBias)
            try set(.cat, shares(attended: Float(1 - weight), memory: Float(weight), channels: c))
            try set(.catBias, [Float](repeating: 0, count: c))
        }
    }

    /// Attention to the cache is random, and has no effect yet: the model begins as the base.
    static func random(_ parameters: AdapterParameters) throws(EngineError) {
        for site in parameters.sites {
            func set(_ part: AdapterParameters.Part, _ values: [Float]) throws(EngineError) {
                try parameters.part(part, of: site, in: parameters.values).withFloats { place in
                    _ = place.update(fromContentsOf: values)
                }
            }
            let zeros = [Float](repeating: 0, count: site.channels)
            try set(.normWeight, zeros.map { $0 + 1 })
            try set(.normBias, zeros)
            try set(.toOutBias, zeros)
            try set(.cat, shares(attended: 1, memory: 0, channels: site.channels))
            try set(.catBias, zeros)
        }
    }

    /// `[attended I | memory I]`, `[c, 2c]`.
    private static func shares(attended: Float, memory: Float, channels c: Int) -> [Float] {
        var matrix = [Float](repeating: 0, count: 2 * c * c)
        for row in 0..<c {
            matrix[row * 2 * c + row] = attended
            matrix[row * 2 * c + c + row] = memory
        }
        return matrix
    }

    /// Standard deviation of each channel of `[tokens, channels]`.
    private static func deviations(_ tokens: [Float], channels c: Int) -> [Float] {
        let count = Double(max(tokens.count / c, 2))
        var (sums, squares) = ([Double](repeating: 0, count: c), [Double](repeating: 0, count: c))
        for (i, value) in tokens.enumerated() { sums[i % c] += Double(value) }
        for (i, value) in tokens.enumerated() {
            let difference = Double(value) - sums[i % c] / count
            squares[i % c] += difference * difference
        }
        return squares.map { Float(($0 / (count - 1)).squareRoot()) }
    }

    /// The mean over tokens of the deviation of `matrix` times the token; of at most ``sampledTokens`` tokens.
    private static func spread(
        of tokens: [Float], _ matrix: [Float], channels c: Int, _ engine: Engine
    ) throws(EngineError) -> Float {
        let rows = tokens.count / c
        let step = max(1, rows / sampledTokens)
        let chosen = stride(from: 0, to: rows, by: step).flatMap { tokens[$0 * c..<($0 + 1) * c] }
        guard !chosen.isEmpty else { return 1 }
        let mapped = engine.floats(
            try engine.product(
                try engine.tensor(chosen, shape: [chosen.count / c, c]), try weights(matrix, size: c, engine)))
        var sum = 0.0
        for row in 0..<mapped.count / c {
            let values = mapped[row * c..<(row + 1) * c].map(Double.init)
            let mean = values.reduce(0, +) / Double(c)
            sum += (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(max(c - 1, 1))).squareRoot()
        }
        return Float(max(sum / Double(mapped.count / c), 1e-6))
    }

    private static let sampledTokens = 4096

    /// `a b` of two square matrices.
    private static func product(
        _ a: [Float], _ b: [Float], size c: Int, _ engine: Engine
    ) throws(EngineError) -> [Float] {
        var turned = b
        for row in 0..<c {
            for column in 0..<c { turned[column * c + row] = b[row * c + column] }
        }
        return engine.floats(
            try engine.product(try engine.tensor(a, shape: [c, c]), try weights(turned, size: c, engine)))
    }

    private static func weights(_ matrix: [Float], size c: Int, _ engine: Engine) throws(EngineError) -> Weights {
        try engine.weights(.linear, inputs: c, outputs: c, bias: nil) { _ = $0.update(fromContentsOf: matrix) }
    }
}
