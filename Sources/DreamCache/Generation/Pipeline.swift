import Checkpoint
import Diffusion
import Raster
import TensorEngine

/// The files of a model.
public struct ModelFiles: Sendable, Hashable {
    /// Base model: an LDM checkpoint.
    public var checkpoint: String
    /// Its LDM yaml, if it does not lie beside it.
    public var yaml: String?
    /// The adapter; without one the model makes caches and plain images.
    public var adapter: String?

    /// Paths of the files.
    public init(checkpoint: String, yaml: String? = nil, adapter: String? = nil) {
        self.checkpoint = checkpoint
        self.yaml = yaml
        self.adapter = adapter
    }
}

/// The whole method: references to a cache, a cache and a prompt to an image. Belongs to one thread.
public final class Pipeline {
    /// What a piece of work is doing, how many steps of it are done, and of how many.
    public typealias Progress = (_ phase: String, _ step: Int, _ steps: Int) -> Void

    /// The base model.
    public let model: StableDiffusion
    /// The adapter, if one was given.
    public let adapter: Adapter?
    /// SHA-256 of the base model's file.
    public let modelHash: String
    /// SHA-256 of the adapter's file.
    public let adapterHash: String?
    let trainingSchedule: TrainingSchedule
    // What the last request computed and the next may need again: keys and values of its caches, states of its prompts,
    // and all that its denoiser prepared.
    private var lastSubject: (hashes: [String], memory: SubjectMemory)?
    private var lastDenoiser: (key: DenoiserKey, denoiser: Denoiser)?

    private struct DenoiserKey: Equatable {
        let prompt: String, negativePrompt: String
        let guidance: Guidance
        let timesteps: [Float]
        let caches: [String]
    }

    /// Loads a model.
    ///
    /// - Parameters:
    ///   - files: where it is.
    ///   - path: who computes.
    ///   - modelHash: the SHA-256 of the base model's file where the caller knows it; it is computed otherwise.
    /// - Throws: `DreamCacheError` listing what does not fit.
    public convenience init(
        files: ModelFiles, path: ComputePath, modelHash: String? = nil
    ) throws(DreamCacheError) {
        let engine = try onEngine { () throws(EngineError) in try Engine(path: path) }
        let model = try onModel { () throws(DiffusionError) in
            try StableDiffusion.load(checkpoint: files.checkpoint, yaml: files.yaml, engine: engine)
        }
        var adapter: Adapter?
        var adapterHash: String?
        if let path = files.adapter {
            adapter = try Adapter(path: path, for: model.unet, engine: engine)
            adapterHash = try sha256(ofFile: path)
        }
        let hash = if let modelHash { modelHash } else { try sha256(ofFile: files.checkpoint) }
        try self.init(model: model, adapter: adapter, modelHash: hash, adapterHash: adapterHash)
    }

    /// A pipeline of parts already made, such as those of a random model.
    public init(
        model: StableDiffusion, adapter: Adapter?, modelHash: String, adapterHash: String?
    ) throws(DreamCacheError) {
        self.model = model
        self.adapter = adapter
        self.modelHash = modelHash
        self.adapterHash = adapterHash
        do { trainingSchedule = try TrainingSchedule(model.configuration.schedule) } catch { throw .schedule(error) }
    }

    /// Side of the pictures the model was trained on, in pixels.
    public var imageSize: Int { model.configuration.imageSize }

    /// All that a cache made with these options depends on besides the pixels.
    public func cacheIdentity(_ options: CacheOptions) -> String {
        options.identity(modelHash: modelHash, imageSize: imageSize)
    }

    // MARK: References to a cache

    /// Encodes references, already composited onto white, into a `.dcache`.
    ///
    /// - Returns: what writes the file: `write(to:path:)`.
    public func makeCache(
        of references: [Raster], subject: String, options: CacheOptions, progress: Progress = { _, _, _ in },
        shouldStop: () -> Bool = { false }
    ) throws(DreamCacheError) -> SafetensorsWriter {
        guard !references.isEmpty else {
            throw .request(field: "references", found: "no pictures", expected: "at least one")
        }
        let context = try onModel { () throws(DiffusionError) in
            try model.encode(prompt: options.effectivePrompt)
        }
        let pass = ReferencePass(model, trainingSchedule)
        var features: [[InjectionSite: [Float]]] = []
        var hashes: [String] = []
        for (index, reference) in references.enumerated() {
            if shouldStop() { throw .stopped }
            progress("encoding", index, references.count)
            let picture = reference.fitted(toSquare: imageSize, mode: options.fit)
            hashes.append(picture.pixelHash)
            features.append(
                try pass(pixels: picture.normalised, side: imageSize, context: context, options: options).features)
        }
        progress("encoding", references.count, references.count)
        return try FeatureCache.writer(
            features: features,
            metadata: [
                .formatVersion: "1", .subject: subject, .baseModel: modelHash, .cacheMode: options.mode.rawValue,
                .timestep: String(ReferencePass.timestep), .prompt: options.effectivePrompt,
                .seed: String(options.seed), .preprocessing: options.preprocessing(imageSize),
                .references: hashes.joined(separator: ","), .creator: "DreamCache for Linux \(Version.current)",
            ], type: options.elementType)
    }

    // MARK: A cache and a prompt to an image

    /// Checks a request against the model before any work: size, sampler, caches, adapter.
    /// - Throws: `DreamCacheError.request` or `.mismatch` naming the field.
    public func check(_ request: ImageRequest) throws(DreamCacheError) {
        _ = try plan(request)
        for cache in request.caches { try cache.check(modelHash: modelHash, sites: model.unet.sites) }
        if !request.caches.isEmpty, adapter == nil {
            throw .request(
                field: "subject", found: "a subject, but no adapter is configured for this model",
                expected: "an adapter")
        }
    }

    /// Generates one image.
    ///
    /// - Parameters:
    ///   - resume: a state from an earlier `checkpoint` call for this very request.
    ///   - checkpoint: called after every step with a closure that makes the state; not calling it costs nothing.
    ///   - shouldStop: asked before every step; true ends the work with `DreamCacheError.stopped`.
    /// - Returns: RGB. Its pixels are a function of request and model alone, resumed or not.
    public func generate(
        _ request: ImageRequest, resume: [UInt8]? = nil, progress: Progress = { _, _, _ in },
        checkpoint: (_ step: Int, _ state: () -> [UInt8]) -> Void = { _, _ in }, shouldStop: () -> Bool = { false }
    ) throws(DreamCacheError) -> Raster {
        try check(request)
        var (sampler, height, width) = try plan(request)
        let denoiser = try denoiser(for: request, timesteps: sampler.timesteps)

        let count = model.configuration.autoencoder.latentChannels * height * width
        var generator = TorchGenerator(seed: request.seed)
        var latent = sampler.initialSample(noise: generator.randn(count: count))
        if let noiseSeed = request.noiseSeed { generator = TorchGenerator(seed: noiseSeed) }
        if let state = resume.flatMap({ DenoisingState(decoding: $0, latentCount: count) }),
            (try? sampler.restore(state.sampler, count: count)) != nil
        {
            latent = state.latent
            generator = state.generator
        }

        let steps = sampler.timesteps.count
        for step in sampler.state.position..<steps {
            if shouldStop() { throw .stopped }
            progress("denoising", step, steps)
            let input = sampler.scaledModelInput(latent, at: step)
            let prediction = try onEngine { () throws(EngineError) in
                try denoiser.predict(input, height: height, width: width, step: step)
            }
            sampler.step(modelOutput: prediction, at: step, sample: &latent) { generator.randn(count: count) }
            checkpoint(step + 1) {
                DenoisingState(latent: latent, sampler: sampler.state, generator: generator).encoded()
            }
        }
        if shouldStop() { throw .stopped }
        progress("decoding", steps, steps)
        return try decode(latent, height: height, width: width)
    }

    /// Latent to picture.
    func decode(_ latent: [Float], height: Int, width: Int) throws(DreamCacheError) -> Raster {
        let scale = model.configuration.latentScale
        let downscale = model.configuration.autoencoder.downscale
        let pixels = try onEngine { () throws(EngineError) in
            let pixels = try model.autoencoder.decode(latent.map { $0 / scale }, height: height, width: width)
            model.engine.trimMemory()
            return pixels
        }
        return Raster(normalised: pixels, width: width * downscale, height: height * downscale)
    }

    private func plan(_ request: ImageRequest) throws(DreamCacheError) -> (Sampler, height: Int, width: Int) {
        let downscale = model.configuration.autoencoder.downscale
        // The U-Net halves a latent at each level but the last.
        let multiple = downscale << (model.configuration.unet.channelMultipliers.count - 1)
        func side(_ field: String, _ value: Int?) throws(DreamCacheError) -> Int {
            let value = value ?? imageSize
            guard (multiple...4096).contains(value), value % multiple == 0 else {
                throw .request(
                    field: field, found: "\(value)", expected: "a multiple of \(multiple) from \(multiple) to 4096")
            }
            return value / downscale
        }
        let (height, width) = (try side("height", request.height), try side("width", request.width))
        do {
            var schedule = model.configuration.schedule
            if let name = request.scheduler { schedule = try schedule.selecting(name) }
            return (try Sampler(schedule, steps: request.steps, eta: request.eta), height, width)
        } catch { throw .schedule(error) }
    }

    private func denoiser(for request: ImageRequest, timesteps: [Float]) throws(DreamCacheError) -> Denoiser {
        let hashes = request.caches.map { $0[.data] ?? $0.path }
        let key = DenoiserKey(
            prompt: request.prompt, negativePrompt: request.negativePrompt, guidance: request.guidance,
            timesteps: timesteps, caches: hashes)
        if let last = lastDenoiser, last.key == key { return last.denoiser }
        let subject = try subject(request.caches, hashes)
        let (prompt, negative) = try onModel { () throws(DiffusionError) in
            (try model.encode(prompt: request.prompt), try model.encode(prompt: request.negativePrompt))
        }
        let denoiser = try onEngine { () throws(EngineError) in
            try Denoiser(
                model, subject: subject, prompt: prompt, negative: negative, guidance: request.guidance,
                timesteps: timesteps.map(Double.init))
        }
        lastDenoiser = (key, denoiser)
        return denoiser
    }

    private func subject(_ caches: [FeatureCache], _ hashes: [String]) throws(DreamCacheError) -> SubjectMemory? {
        guard let adapter, !caches.isEmpty else { return nil }
        if let last = lastSubject, last.hashes == hashes { return last.memory }
        let memory = try SubjectMemory(caches, adapter: adapter, engine: model.engine)
        lastSubject = (hashes, memory)
        return memory
    }
}
