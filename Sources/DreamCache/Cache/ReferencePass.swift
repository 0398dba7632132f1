import Diffusion
import TensorEngine

/// One pass of a reference through the denoiser, almost without noise, recording what enters the injection sites
/// (DreamCache, section 3.1).
///
/// Golden: `cache.mean.*`, `cache.sample.*`, `cache.official.*`.
public struct ReferencePass {
    /// Index of the timestep: the least noise but one.
    public static let timestep = 1

    private let model: StableDiffusion
    private let schedule: TrainingSchedule

    init(_ model: StableDiffusion, _ schedule: TrainingSchedule) {
        self.model = model
        self.schedule = schedule
    }

    /// Everything the pass computes, for comparison with the golden data.
    struct Result {
        var latent: [Float]
        var noisy: [Float]
        var features: [InjectionSite: [Float]]
    }

    /// - Parameters:
    ///   - pixels: `[side, side, 3]`, -1 to 1.
    ///   - text: keys and values of the prompt, of one entry.
    ///   - time: the embedding of ``timestep``.
    func callAsFunction(
        pixels: [Float], side: Int, text: TextKeys, time: TimeEmbedding, options: CacheOptions
    ) throws(DreamCacheError) -> Result {
        try onEngine { () throws(EngineError) in
            let posterior = try model.autoencoder.encode(pixels, height: side, width: side)
            // The authors draw both from one generator, and the first also where it is not used.
            var generator = TorchGenerator(seed: options.seed)
            let posteriorNoise = generator.randn(count: posterior.mean.count)
            let noise = generator.randn(count: posterior.mean.count)
            let scale = model.configuration.latentScale
            let latent: [Float]
            switch options.mode {
            case .paper: latent = posterior.mean.map { $0 * scale }
            case .official: latent = posterior.sample(posteriorNoise).map { $0 * scale }
            }
            let noisy = schedule.noised(latent, with: noise, at: Self.timestep)

            let latentSide = side / model.configuration.autoencoder.downscale
            let x = try model.latentTensor(noisy, height: latentSide, width: latentSide)
            let recorder = Recorder(engine: model.engine)
            let features = try model.unet.encode(x, time: time, text: text)
            _ = try model.unet.decode(features, time: time, text: text, tap: recorder)
            return Result(latent: latent, noisy: noisy, features: recorder.features)
        }
    }

    /// Keeps a copy of what enters each site.
    private final class Recorder: InjectionTap {
        let engine: Engine
        var features: [InjectionSite: [Float]] = [:]

        init(engine: Engine) { self.engine = engine }

        func record(_ x: Tensor, at site: InjectionSite) { features[site] = engine.floats(x) }
        func mixes(at site: InjectionSite) -> Bool { false }
        func mix(_ x: Tensor, attention: SelfAttention, at site: InjectionSite) {}
    }
}
