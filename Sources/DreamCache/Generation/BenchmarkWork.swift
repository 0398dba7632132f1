import Diffusion
import TensorEngine

/// The pieces of the method as a benchmark times them, with everything that is computed once already computed.
public struct BenchmarkWork {
    /// One reference through autoencoder and U-Net.
    public let referencePass: () throws -> Void
    /// One evaluation of the U-Net without a cache.
    public let plainEvaluation: () throws -> Void
    /// One evaluation with the cache of one reference.
    public let personalEvaluation: () throws -> Void
    /// One step of three-branch guidance.
    public let guidedStep: () throws -> Void
}

extension Pipeline {
    /// Prepares the pieces.
    ///
    /// - Parameters:
    ///   - noise: a latent, `[channels, h, w]` of the model's own size.
    ///   - pixels: a picture of the model's own size, `[side, side, 3]`.
    public func benchmarkWork(noise: [Float], pixels: [Float]) throws -> BenchmarkWork {
        guard let adapter else {
            throw DreamCacheError.request(field: "adapter", found: "none", expected: "an adapter to measure")
        }
        let (model, engine) = (model, model.engine)
        let side = imageSize
        let latentSide = model.configuration.latentSize
        let pass = ReferencePass(model, trainingSchedule)
        let context = try model.encode(prompt: "")
        let features = try pass(pixels: pixels, side: side, context: context, options: CacheOptions()).features
        let memory = try SubjectMemory(tokens: { [features[$0] ?? []] }, adapter: adapter, engine: engine)
        func denoiser(_ guidance: Guidance, _ subject: SubjectMemory?) throws -> Denoiser {
            try Denoiser(
                model, subject: subject, scales: [guidance.imageScale], prompt: context, negative: context,
                guidance: guidance, timesteps: [501])
        }
        func step(_ denoiser: Denoiser) -> () throws -> Void {
            { _ = try denoiser.predict(noise, height: latentSide, width: latentSide, step: 0) }
        }
        // Guidance whose other weights are zero leaves one evaluation.
        let single = Guidance(guidanceScale: 1, imageScale: 1)
        return BenchmarkWork(
            referencePass: { _ = try pass(pixels: pixels, side: side, context: context, options: CacheOptions()) },
            plainEvaluation: step(try denoiser(single, nil)),
            personalEvaluation: step(try denoiser(single, memory)),
            guidedStep: step(try denoiser(Guidance(), memory)))
    }
}
