import Checkpoint
import Diffusion
import Raster
import TensorEngine

/// The whole method: references to a cache, a cache and a prompt to an image. Belongs to one thread.
///
/// Here is the way from a request to an image; its other parts are loading (`PipelineLoading.swift`) and the making of caches
/// (`CacheMaking.swift`).
public final class Pipeline {
    /// What a piece of work is doing, how many steps of it are done, and of how many.
    public typealias Progress = (_ phase: String, _ step: Int, _ steps: Int) -> Void

    /// The base model.
    public let model: StableDiffusion
    /// The adapter, if one was given.
    public let adapter: Adapter?
    /// How the base itself reads caches where no adapter was given.
    public let selfReading: SelfReading
    /// SHA-256 of the base model's file.
    public let modelHash: String
    /// SHA-256 of the adapter's file.
    public let adapterHash: String?
    /// What caches are bound to: ``modelHash`` where the model runs as its files have it, else another hash that also depends
    /// on the LoRAs and the other changes.
    public let featureHash: String
    /// All that a picture's bytes depend on besides its request, as `name=value` entries in one line: the base model, what
    /// changes it (``featureHash``: EMA, clip skip, LoRAs with their weights), adapter, the files that describe the weights
    /// (yaml, configurations, tokenizer), prediction type, compute path, versions of what computes and this CPU's
    /// instruction sets. Equal identities and equal requests give equal pictures; it is compared whole.
    public let identity: String
    let trainingSchedule: TrainingSchedule
    /// Where the engine's weights are kept for the next start, if anywhere.
    var preparedWeights: PreparedWeights?
    /// The files that are mapped for as long as the pipeline lives.
    var weightFiles: Set<String> = []
    // What the last requests computed and the next may need again: keys and values of texts and caches, time embeddings,
    // posteriors of initial images by their pixels, and all that a denoiser prepared. A job has two prompts at a time.
    private var texts = Recent<TextKey, TextKeys>(capacity: 4)
    private var times = Recent<[Double], [TimeEmbedding]>(capacity: 2)
    private var subjects = Recent<[[String]], SubjectMemory>(capacity: 1)
    private var denoisers = Recent<DenoiserKey, Denoiser>(capacity: 1)
    var posteriors = Recent<String, Autoencoder.Posterior>(capacity: 1)

    private struct TextKey: Equatable {
        let prompt: String
        let reading: PromptReading
        let chunks: Int
    }

    private struct DenoiserKey: Equatable {
        let prompt: String, negativePrompt: String
        let reading: PromptReading
        let guidance: Guidance
        let timesteps: [Float]
        let groups: [SubjectGroup]
    }

    /// Subjects that steer equally.
    struct SubjectGroup: Equatable {
        let scale: ScaleSchedule
        /// What identifies their caches.
        var hashes: [String]
    }

    /// A pipeline of parts already made, such as those of a random model.
    ///
    /// - Parameter description: what tells the files that describe the weights from others.
    public init(
        model: StableDiffusion, adapter: Adapter?, selfReading: SelfReading = SelfReading(), modelHash: String,
        adapterHash: String?, featureHash: String? = nil, description: String = ""
    ) throws(DreamCacheError) {
        self.model = model
        self.adapter = adapter
        self.selfReading = selfReading
        self.modelHash = modelHash
        self.adapterHash = adapterHash
        self.featureHash = featureHash ?? modelHash
        do { trainingSchedule = try TrainingSchedule(model.configuration.schedule) } catch { throw .schedule(error) }
        let reader = adapter == nil ? selfReading.description : adapterHash ?? "unknown"
        identity = [
            "dreamcache=\(Self.numericsVersion)", "base=\(modelHash)", "features=\(self.featureHash)",
            "adapter=\(reader)", "description=\(description)",
            "prediction=\(model.configuration.schedule.predictionType.rawValue)",
            "compute=\(model.engine.numericalIdentity)",
        ].joined(separator: " ")
    }

    /// Counts changes of the method that change the bytes of a picture.
    private static let numericsVersion = 1
    /// How often the decoder half of the U-Net was evaluated while denoising, so far.
    public private(set) var evaluations = 0
    /// Who sees pictures while they are denoised.
    public var previews: PreviewSink?
    /// The map that makes previews, once it was made; the inner nil says that it could not be.
    var madePreviewMap: LatentPreview??
    /// What the last picture read of its caches, where its request asked for that; or why it is not known.
    public private(set) var attention: Result<AttentionReading, DreamCacheError>?

    /// The same, which is then forgotten: it may be large.
    public func takeAttention() -> Result<AttentionReading, DreamCacheError>? {
        defer { attention = nil }
        return attention
    }

    /// How the base itself reads caches, where no adapter was given.
    public var adapterName: String? { adapter == nil ? selfReading.description : nil }

    /// Side of the pictures the model was trained on, in pixels.
    public var imageSize: Int { model.configuration.imageSize }

    /// Checks a request against the model before any work: size, sampler, caches, adapter.
    /// - Throws: `DreamCacheError.request` or `.mismatch` naming the field.
    public func check(_ request: ImageRequest) throws(DreamCacheError) { _ = try checked(request) }

    /// What a request comes to: who steps, over a latent of which size, and the subjects by scale.
    struct Plan {
        var sampler: Sampler
        let height: Int, width: Int
        let groups: [(group: SubjectGroup, caches: [FeatureCache])]
    }

    private func checked(_ request: ImageRequest) throws(DreamCacheError) -> Plan {
        let (height, width) = (try latentSide("height", request.height), try latentSide("width", request.width))
        let plan = Plan(
            sampler: try sampler(request), height: height, width: width, groups: try groups(request))
        if let interval = request.guidance.interval, !(0...1).contains(interval.lowerBound) || interval.upperBound > 1 {
            throw .request(
                field: "guidance_interval", found: "\(interval.lowerBound) to \(interval.upperBound)",
                expected: "two fractions of the run, from 0 to 1")
        }
        for cache in request.caches { try cache.check(modelHash: featureHash, sites: model.unet.sites) }
        return plan
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
        try watched(progress, shouldStop) { monitor throws(DreamCacheError) in
            let (latent, height, width) = try denoised(request, resume: resume, checkpoint: checkpoint, monitor)
            try monitor.begin("decoding", 1, of: 1)
            let picture = try decode(latent, height: height, width: width)
            try checkMappings(request.caches)
            return picture
        }
    }

    /// Runs work whose every product reports progress and asks whether to stop.
    func watched<R, Failure>(
        _ progress: Progress, _ shouldStop: () -> Bool, _ body: (Monitor) throws(Failure) -> R
    ) throws(Failure) -> R {
        try Monitor.watching(progress, shouldStop) { monitor throws(Failure) in
            model.engine.interruption = { monitor.isInterrupted() }
            defer { model.engine.interruption = nil }
            return try body(monitor)
        }
    }

    /// Refuses what was computed from a file that could not be read to its end: the pipeline is then of no more use, unless it
    /// is one of `caches`.
    func checkMappings(_ caches: [FeatureCache] = []) throws(DreamCacheError) {
        let used = weightFiles.union(caches.map(\.path))
        do { try MappedFiles.check(used.contains) } catch {
            if caches.contains(where: { $0.path == error.path }) {
                throw .cache(path: error.path, field: error.place, found: error.found, expected: error.expected)
            }
            if error.path == preparedWeights?.path { throw .preparedWeights(path: error.path, found: error.found) }
            throw .diffusion(.checkpoint(error))
        }
    }

    /// The first half of ``generate(_:resume:progress:checkpoint:shouldStop:)``: the latent, `[channels, height, width]`.
    func denoised(
        _ request: ImageRequest, resume: [UInt8]? = nil,
        checkpoint: (_ step: Int, _ state: () -> [UInt8]) -> Void = { _, _ in }, _ monitor: Monitor = .none
    ) throws(DreamCacheError) -> (latent: [Float], height: Int, width: Int) {
        let plan = try checked(request)
        try monitor.begin("preparing")
        var sampler = plan.sampler
        let (height, width) = (plan.height, plan.width)
        let denoiser = try denoiser(for: request, plan)

        let count = model.configuration.autoencoder.latentChannels * height * width
        let recorder = request.attentionInterval.map {
            AttentionRecorder(model.unet.sites, latent: (height, width), interval: $0)
        }
        var generator: RandomGenerator
        var latent: [Float]
        var recorded: [DenoisingState.Input] = []
        if let state = resume.flatMap({ DenoisingState(decoding: $0, identity: identity, latentCount: count) }),
            state.isComplete(for: recorder), (try? sampler.restore(state.sampler, count: count)) != nil
        {
            (latent, generator, recorded) = (state.latent, state.generator, state.recorded)
        } else {
            generator = RandomGenerator(request.random, seed: request.seed)
            let image = try initialLatent(request, height: height, width: width, &generator)
            var noise = generator.randn(count: count)
            if image == nil { sketch(request, plan, in: &noise) }
            latent = sampler.initialSample(noise: noise, image: image)
            if let noiseSeed = request.noiseSeed { generator = RandomGenerator(request.random, seed: noiseSeed) }
        }

        let steps = sampler.timesteps.count
        attention = nil
        // Where the order of subjects changes on the way, the first one is recorded.
        denoiser.firstSubject?.recorder = recorder
        defer { denoiser.firstSubject?.recorder = nil }
        if previews != nil { _ = try previewMap() }
        model.engine.beginPhase()
        let before = denoiser.evaluations
        defer { evaluations += denoiser.evaluations - before }
        // The maps of the steps before a resumption are made again: they are a function of what the U-Net was given.
        for input in recorded {
            try monitor.begin("recording attention", input.step, of: steps)
            recorder?.begin(step: input.step)
            _ = try onEngine { () throws(EngineError) in
                try denoiser.predict(input.values, height: height, width: width, step: input.step)
            }
        }
        for step in sampler.state.position..<steps {
            func state() -> [UInt8] {
                DenoisingState(latent: latent, sampler: sampler.state, generator: generator, recorded: recorded)
                    .encoded(identity: identity)
            }
            do {
                try monitor.begin("denoising", step, of: steps)
                let input = sampler.scaledModelInput(latent, at: step)
                recorder?.begin(step: step)
                let prediction = try onEngine { () throws(EngineError) in
                    try denoiser.predict(input, height: height, width: width, step: step)
                }
                try checkMappings(request.caches)
                preview(input, prediction, timestep: sampler.timesteps[step], height: height, width: width)
                sampler.step(modelOutput: prediction, at: step, sample: &latent) { generator.randn(count: count) }
                if recorder?.records(step: step) == true { recorded.append(.init(step: step, values: input)) }
            } catch {
                // Stopped in the middle of a step, all that came before it is still to be kept.
                if case .stopped = error, step > 0 { checkpoint(step, state) }
                throw error
            }
            try DreamCacheError.checkFinite(latent, "the latent at step \(step + 1) of \(steps)")
            checkpoint(step + 1, state)
        }
        attention = recorder.map { reading($0, of: request, plan, steps: steps) }
        return (latent, height, width)
    }

    /// Latent to picture.
    func decode(_ latent: [Float], height: Int, width: Int) throws(DreamCacheError) -> Raster {
        let scale = model.configuration.latentScale
        let downscale = model.configuration.autoencoder.downscale
        let pixels = try onEngine { () throws(EngineError) in
            model.engine.trimMemory()
            model.engine.beginPhase()
            let pixels = try model.autoencoder.decode(latent.map { $0 / scale }, height: height, width: width)
            model.engine.trimMemory()
            return pixels
        }
        try DreamCacheError.checkFinite(pixels, "the decoded picture")
        return Raster(normalised: pixels, width: width * downscale, height: height * downscale)
    }

    /// A side of the latent, of a picture's side in pixels.
    private func latentSide(_ field: String, _ value: Int?) throws(DreamCacheError) -> Int {
        let downscale = model.configuration.autoencoder.downscale
        let value = value ?? imageSize
        guard (downscale...4096).contains(value), value % downscale == 0 else {
            throw .request(
                field: field, found: "\(value)", expected: "a multiple of \(downscale) from \(downscale) to 4096")
        }
        return value / downscale
    }

    private func sampler(_ request: ImageRequest) throws(DreamCacheError) -> Sampler {
        do {
            var schedule = model.configuration.schedule
            if let choice = request.scheduler { schedule = schedule.selecting(choice) }
            let strength = request.initialImage == nil ? 1 : request.strength
            return try Sampler(schedule, steps: request.steps, eta: request.eta, strength: strength)
        } catch { throw .schedule(error) }
    }

    private func denoiser(for request: ImageRequest, _ plan: Plan) throws(DreamCacheError) -> Denoiser {
        let (timesteps, groups) = (plan.sampler.timesteps, plan.groups)
        let key = DenoiserKey(
            prompt: request.prompt, negativePrompt: request.negativePrompt, reading: request.reading,
            guidance: request.guidance, timesteps: timesteps, groups: groups.map(\.group))
        return try denoisers.value(for: key) { () throws(DreamCacheError) in
            model.engine.beginPhase()
            let steps = try steps(request.guidance, groups, count: timesteps.count)
            let (prompt, negative) = try textKeys(of: request)
            let times = try timeEmbeddings(timesteps.map(Double.init))
            return try onEngine { () throws(EngineError) in
                try Denoiser(model, steps: steps, prompt: prompt, negative: negative, times: times)
            }
        }
    }

    /// What each evaluation computes. Where the scales of several subjects cross on the way, so does their order.
    private func steps(
        _ guidance: Guidance, _ groups: [(group: SubjectGroup, caches: [FeatureCache])], count: Int
    ) throws(DreamCacheError) -> [Denoiser.Step] {
        var memories: [[Int]: SubjectMemory] = [:]
        var steps: [Denoiser.Step] = []
        for index in 0..<count {
            let values = groups.map { $0.group.scale.value(at: index, of: count) }
            let order = order(of: groups, at: index, of: count)
            if memories[order] == nil { memories[order] = try subject(order.map { groups[$0] }) }
            let subject = memories[order]
            let branches = guidance.branches(
                scales: subject == nil ? [] : order.map { values[$0] },
                textScale: guidance.textScale(at: index, of: count))
            steps.append(Denoiser.Step(branches: branches, subject: subject))
        }
        return steps
    }

    /// The groups by falling scale at an evaluation.
    func order(
        of groups: [(group: SubjectGroup, caches: [FeatureCache])], at index: Int, of count: Int
    ) -> [Int] {
        let values = groups.map { $0.group.scale.value(at: index, of: count) }
        return groups.indices.sorted { (-values[$0], $0) < (-values[$1], $1) }
    }

    /// Keys and values of both prompts, of as many chunks.
    private func textKeys(of request: ImageRequest) throws(DreamCacheError) -> (prompt: TextKeys, negative: TextKeys) {
        let prompts = [request.prompt, request.negativePrompt]
        let chunks = prompts.map { model.chunkCount(of: $0, reading: request.reading) }.max() ?? 1
        return (
            try textKeys(of: request.prompt, request.reading, chunks: chunks),
            try textKeys(of: request.negativePrompt, request.reading, chunks: chunks)
        )
    }

    func textKeys(
        of prompt: String, _ reading: PromptReading = PromptReading(), chunks: Int = 1
    ) throws(DreamCacheError) -> TextKeys {
        let key = TextKey(prompt: prompt, reading: reading, chunks: chunks)
        return try texts.value(for: key) { () throws(DreamCacheError) in
            let states = try onModel { () throws(DiffusionError) in
                try model.encode(prompt: prompt, reading: reading, chunks: chunks)
            }
            return try onEngine { () throws(EngineError) in try model.unet.textKeys(states) }
        }
    }

    func timeEmbeddings(_ timesteps: [Double]) throws(DreamCacheError) -> [TimeEmbedding] {
        try times.value(for: timesteps) { () throws(DreamCacheError) in
            try onEngine { () throws(EngineError) in try model.unet.timeEmbeddings(timesteps) }
        }
    }

    /// The request's subjects by falling scale, those of one scale together in their order.
    private func groups(
        _ request: ImageRequest
    ) throws(DreamCacheError) -> [(group: SubjectGroup, caches: [FeatureCache])] {
        let scales =
            request.imageScales ?? Array(repeating: request.guidance.imageScale, count: request.caches.count)
        guard scales.count == request.caches.count, scales.allSatisfy(\.isValid) else {
            throw .request(
                field: "image_scale", found: "\(scales)",
                expected: "one finite number, or a schedule with 0 <= from <= to <= 1, for each of "
                    + "\(request.caches.count) subjects")
        }
        func rank(_ scale: ScaleSchedule) -> (Double, Double, Double, Double) {
            (scale.start, scale.end, scale.from, scale.to)
        }
        return Set(scales).sorted { rank($0) > rank($1) }.map { scale in
            let caches = zip(scales, request.caches).filter { $0.0 == scale }.map(\.1)
            return (SubjectGroup(scale: scale, hashes: caches.map(\.identity)), caches)
        }
    }

    private func subject(
        _ groups: [(group: SubjectGroup, caches: [FeatureCache])]
    ) throws(DreamCacheError) -> SubjectMemory? {
        if groups.isEmpty { return nil }
        return try subjects.value(for: groups.map(\.group.hashes)) { () throws(DreamCacheError) in
            let caches = groups.map(\.caches)
            let memory =
                if let adapter {
                    try SubjectMemory(groups: caches, adapter: adapter, engine: model.engine)
                } else {
                    try SubjectMemory(groups: caches, reading: selfReading, of: model.unet, engine: model.engine)
                }
            try checkMappings(groups.flatMap(\.caches))
            return memory
        }
    }
}
