import Checkpoint
import Diffusion
import DreamCache
import TensorEngine

/// The parameters that a run begins with.
enum AdapterStart {
    /// Attention to the cache begins as the block's own self-attention would read those tokens (`SelfAdapter`): copying need not
    /// be learnt from nothing.
    ///
    /// - Parameters:
    ///   - base: the base's parameters, LDM's names.
    ///   - features: what some references left at each site, `[1, tokens, channels]` each.
    ///   - weight: the share of the effect that the cache is given.
    static func selfAttention(
        _ parameters: AdapterParameters, base: ParameterStore, unet: UNet, features: [[InjectionSite: Tensor]],
        weight: Double
    ) throws(TrainingError) {
        // Exact on every CPU, whatever the run computes on.
        let engine = try onEngine { () throws(EngineError) in try Engine(path: .openBLAS) }
        let sample = features.map { $0.mapValues { tensor in tensor.withFloats { Array($0) } } }
        let made = try onMethod { () throws(DreamCacheError) in
            try SelfAdapter.parameters(of: base, unet, sample: sample, weight: weight, engine: engine)
        }
        let tensors = Dictionary(made.map { ($0.name, $0.values) }) { first, _ in first }
        parameters.values.withFloats { all in
            for entry in parameters.entries {
                guard let values = tensors[entry.key], values.count == entry.range.count else { continue }
                _ = UnsafeMutableBufferPointer(rebasing: all[entry.range]).update(fromContentsOf: values)
            }
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
            let c = site.channels
            let zeros = [Float](repeating: 0, count: c)
            try set(.normWeight, zeros.map { $0 + 1 })
            try set(.normBias, zeros)
            try set(.toOutBias, zeros)
            // [I | 0]
            var cat = [Float](repeating: 0, count: 2 * c * c)
            for row in 0..<c { cat[row * 2 * c + row] = 1 }
            try set(.cat, cat)
            try set(.catBias, zeros)
        }
    }
}
