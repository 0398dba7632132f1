import Diffusion
import TensorEngine

/// The adapter of ``AdapterParameters`` as forward and backward compute it (DreamCache, section 3.2). Products read the
/// parameters as they were when it was made: after each step of the optimiser a new one is needed.
///
/// Golden: `train.grad.*`.
public final class TrainedAdapter {
    private struct Site {
        let norm: NormWeights
        let toQ, toKV, toOut: Weights
        /// The two halves of `linear_cat`, as ``DreamCache/Adapter`` has them.
        let catAttended, catMemory: Weights
    }

    private let engine: Engine
    private let parameters: AdapterParameters
    private let sites: [InjectionSite: Site]

    /// Products with the present values of `parameters`.
    public init(_ parameters: AdapterParameters, engine: Engine) throws(EngineError) {
        self.engine = engine
        self.parameters = parameters
        var sites: [InjectionSite: Site] = [:]
        for site in parameters.sites { sites[site] = try Self.site(site, parameters, engine) }
        self.sites = sites
    }

    private static func site(
        _ site: InjectionSite, _ parameters: AdapterParameters, _ engine: Engine
    ) throws(EngineError) -> Site {
        let (c, values) = (site.channels, parameters.values)
        func part(_ part: AdapterParameters.Part) throws(EngineError) -> Tensor {
            try parameters.part(part, of: site, in: values)
        }
        // Columns `first ..< first + inputs` of a matrix whose rows are `matrix.channels` long.
        func linear(_ matrix: Tensor, first: Int = 0, bias: Tensor? = nil) throws(EngineError) -> Weights {
            try engine.weights(
                .linear, inputs: c, outputs: matrix.rows, bias: bias.map(engine.floats)
            ) { buffer in
                matrix.withFloats { all in
                    for row in 0..<matrix.rows {
                        let from = row * matrix.channels + first
                        _ = UnsafeMutableBufferPointer(rebasing: buffer[row * c..<(row + 1) * c])
                            .update(fromContentsOf: all[from..<from + c])
                    }
                }
            }
        }
        let cat = try part(.cat)
        return Site(
            norm: NormWeights(weight: try part(.normWeight), bias: try part(.normBias)),
            toQ: try linear(try part(.toQ)), toKV: try linear(try parameters.keysValues(of: site, in: values)),
            toOut: try linear(try part(.toOut), bias: try part(.toOutBias)),
            catAttended: try linear(cat, bias: try part(.catBias)), catMemory: try linear(cat, first: c))
    }

    /// The mix of one sample, whose gradients are added to the parameters'.
    ///
    /// - Parameter memory: the features of the references at each site, `[1, tokens, channels]`, float32.
    public func mix(memory: [InjectionSite: Tensor]) -> TrainedMix {
        TrainedMix(sites: Set(sites.keys).intersection(memory.keys)) { x, attended, site throws(EngineError) in
            guard let weights = self.sites[site], let tokens = memory[site] else {
                throw .shapes(operation: "adapter at \(site.name)", found: [], expected: "a site with a memory")
            }
            return try self.forward(x, attended, tokens, site, weights)
        }
    }

    /// x + linear_cat([attended ; attn_mem(norm2_mem(x), memory)]). Kept are x with the statistics of its normalisation, the
    /// inputs of all products, and what attention keeps.
    private func forward(
        _ x: Tensor, _ attended: Tensor, _ memory: Tensor, _ site: InjectionSite, _ weights: Site
    ) throws(EngineError) -> MixedTokens {
        let (engine, c, type) = (engine, site.channels, engine.activationType)
        let keysValues = try engine.product(memory, weights.toKV, to: type)
        let (normed, keptNorm) = try engine.layerNormKept(x, weights.norm)
        let query = try engine.product(normed, weights.toQ, to: type)
        let (read, kept) = try engine.attentionKept(
            q: Columns(query), k: Columns(keysValues, 0, c), v: Columns(keysValues, c, c), heads: site.heads)
        let mapped = try engine.product(read, weights.toOut, to: type)
        let sum = try engine.product(attended, weights.catAttended, addedTo: x)
        try engine.product(mapped, weights.catMemory, accumulateInto: sum)

        return MixedTokens(sum: sum) { [parameters] gradient, needsInput throws(EngineError) in
            func part(_ part: AdapterParameters.Part) throws(EngineError) -> Tensor {
                try parameters.part(part, of: site, in: parameters.gradients)
            }
            let cat = try part(.cat)
            try engine.productGradient(byWeights: Columns(cat, 0, c), of: attended, gradient)
            try engine.productGradient(byWeights: Columns(cat, c, c), of: mapped, gradient)
            try engine.productGradient(byBias: try part(.catBias), gradient)
            let byMapped = try engine.productGradient(byInput: gradient, weights.catMemory)
            try engine.productGradient(byWeights: Columns(try part(.toOut)), of: read, byMapped)
            try engine.productGradient(byBias: try part(.toOutBias), byMapped)
            let byQuery = try engine.empty(x.shape)
            let byKeysValues = try engine.empty(keysValues.shape)
            try engine.attentionGradient(
                try engine.productGradient(byInput: byMapped, weights.toOut), of: kept, q: Columns(byQuery),
                keysValues: (Columns(byKeysValues, 0, c), Columns(byKeysValues, c, c)))
            let keysValuesSum = try parameters.keysValues(of: site, in: parameters.gradients)
            try engine.productGradient(byWeights: Columns(keysValuesSum), of: memory, byKeysValues)
            try engine.productGradient(byWeights: Columns(try part(.toQ)), of: normed, byQuery)
            let byNormed = try engine.productGradient(byInput: byQuery, weights.toQ)
            try engine.layerNormParameterGradient(
                byNormed, of: keptNorm, weight: try part(.normWeight), bias: try part(.normBias))
            guard needsInput else { return nil }
            let byX = try engine.layerNormGradient(byNormed, of: keptNorm)
            try engine.add(gradient, to: byX)
            return MixedTokens.Gradients(
                x: byX, attended: try engine.productGradient(byInput: gradient, weights.catAttended))
        }
    }
}
