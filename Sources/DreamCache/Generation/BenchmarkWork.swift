import Diffusion
import Raster
import TensorEngine

/// What the denoiser is evaluated on when it is measured, or compared with another implementation.
public struct BenchmarkInput: Sendable {
    /// The latent, `[channels, h, w]` of the model's own size.
    public var latent: [Float]
    /// The timestep.
    public var timestep: Double
    /// States of the prompt, `[tokens, width]` of the text encoder.
    public var prompt: [Float]
    /// States of the negative prompt, likewise.
    public var negative: [Float]
    /// Cached tokens of one reference by the name of the site, `[tokens, channels]`.
    public var cache: [String: [Float]]

    /// All of it.
    public init(latent: [Float], timestep: Double, prompt: [Float], negative: [Float], cache: [String: [Float]]) {
        self.latent = latent
        self.timestep = timestep
        self.prompt = prompt
        self.negative = negative
        self.cache = cache
    }
}

/// The pieces of the method as a benchmark times them, with everything that is computed once already computed. Each
/// returns a prediction, `[channels, h, w]`.
public struct BenchmarkWork {
    /// One evaluation of the U-Net under the prompt, without a cache.
    public let plainEvaluation: () throws -> [Float]
    /// One evaluation under the prompt with the cache of one reference.
    public let personalEvaluation: () throws -> [Float]
    /// One step of three-branch guidance at the default scales.
    public let guidedStep: () throws -> [Float]
}

extension Pipeline {
    /// Prepares the evaluations.
    /// - Throws: `DreamCacheError` where a part of `input` has not the model's size.
    public func benchmarkWork(_ input: BenchmarkInput) throws(DreamCacheError) -> BenchmarkWork {
        let (model, engine) = (model, model.engine)
        let side = model.configuration.latentSize
        func check(_ field: String, _ values: [Float], _ shape: [Int]) throws(DreamCacheError) {
            guard values.count == shape.reduce(1, *) else {
                throw .request(field: field, found: "\(values.count) values", expected: "\(shape)")
            }
        }
        let textShape = [model.configuration.text.contextLength, model.configuration.unet.contextSize]
        try check("latent", input.latent, [model.configuration.unet.inChannels, side, side])
        try check("prompt", input.prompt, textShape)
        try check("negative", input.negative, textShape)
        for site in model.unet.sites {
            let shape = [(side >> site.level) * (side >> site.level), site.channels]
            try check("cache of \(site.name)", input.cache[site.name] ?? [], shape)
        }

        let memory =
            if let adapter {
                try SubjectMemory(tokens: { [input.cache[$0.name] ?? []] }, adapter: adapter, engine: engine)
            } else {
                try SubjectMemory(
                    references: { [[CachedTokens(tokens: input.cache[$0.name] ?? [], foreground: nil)]] },
                    reading: selfReading, of: model.unet, engine: engine)
            }
        return try onEngine { () throws(EngineError) in
            let prompt = try model.unet.textKeys(try engine.tensor(input.prompt, shape: [1] + textShape))
            let negative = try model.unet.textKeys(try engine.tensor(input.negative, shape: [1] + textShape))
            let times = try model.unet.timeEmbeddings([input.timestep])
            func step(_ guidance: Guidance, _ subject: SubjectMemory?) throws(EngineError) -> () throws -> [Float] {
                let denoiser = try Denoiser(
                    model, subject: subject, scales: [guidance.imageScale.start], prompt: prompt, negative: negative,
                    guidance: guidance, times: times)
                return { try denoiser.predict(input.latent, height: side, width: side, step: 0) }
            }
            // Guidance whose other weights are zero leaves one evaluation, under the prompt.
            let single = Guidance(guidanceScale: 1, imageScale: 1)
            return BenchmarkWork(
                plainEvaluation: try step(single, nil), personalEvaluation: try step(single, memory),
                guidedStep: try step(Guidance(), memory))
        }
    }

    /// One reference through autoencoder and U-Net, as a benchmark times it.
    ///
    /// - Parameters:
    ///   - pixels: a picture of the model's own size, `[side, side, 3]`.
    ///   - context: states of the prompt it runs under, `[tokens, width]`.
    public func benchmarkReferencePass(pixels: [Float], context: [Float]) throws(DreamCacheError) -> () throws -> Void {
        let side = imageSize
        let pass = ReferencePass(model, trainingSchedule)
        let width = model.configuration.unet.contextSize
        let (text, time) = try onEngine { () throws(EngineError) in
            let states = try model.engine.tensor(context, shape: [1, context.count / max(1, width), width])
            return (
                try model.unet.textKeys(states), try model.unet.timeEmbeddings([Double(ReferencePass.timestep)])[0]
            )
        }
        return { _ = try pass(pixels: pixels, side: side, text: text, time: time, options: CacheOptions()) }
    }

    /// One look at a step, as the daemon takes it: the map is fitted here, and the work makes a PNG of the latent's size.
    public func benchmarkPreview(_ input: BenchmarkInput) throws(DreamCacheError) -> () throws -> Void {
        guard let map = try previewMap() else {
            throw .request(field: "preview", found: "an autoencoder that no map fits", expected: "another")
        }
        let side = model.configuration.latentSize
        return {
            _ = try self.look(
                map, input.latent, input.latent, timestep: Float(input.timestep), height: side, width: side)?
                .encodedPNG()
        }
    }
}
