import Bytes
import Checkpoint
import Diffusion
import DreamCache
import Foundation
import Glibc
import Logging
import Raster
import Spool
import Synchronization
import TensorEngine

/// The only place where the spool and the method meet: carries out the spool's requests with a `Pipeline`.
///
/// All methods but `check` and `reload` run on one thread, the renderer's; the pipeline lives there and is made at its first
/// use. One model is in memory at a time.
public final class JobRunner: Renderer, @unchecked Sendable {
    // Unchecked: `settings` is behind a lock, the variables are touched by the renderer's thread alone.
    let settings: Mutex<Settings>
    let models: ModelShelf
    private var sheets = SheetMaker()
    private var pages = PageMaker()
    private var attention = AttentionMaker()
    /// The picture that the images of a job begin with, as it was decoded for the first of them.
    private var initialImage: (image: InitialImage, state: FileIdentity?, picture: Raster)?
    private var encoders = EncoderShelf()
    private let promptNotes = PromptNotes()

    /// A runner for the models of a configuration.
    public init(_ settings: Settings, logger: Logger = Logger(label: "renderer")) {
        self.settings = Mutex(settings)
        models = ModelShelf(logger: logger)
    }

    /// Takes over a new configuration from the next piece of work on.
    public func reload(_ settings: Settings) { self.settings.withLock { $0 = settings } }

    // MARK: Renderer

    /// Refuses unknown models and encoders.
    public func check(_ manifest: JobManifest) throws(RendererError) {
        _ = try model(named: manifest.model)
        try manifest.training.map { (order) throws(RendererError) in try check(order) }
        _ = try manifest.select?.criterion.encoderPath(in: settings.withLock { $0.encoders })
    }

    /// All that pictures of a model depend on besides their requests (``Pipeline/identity``); loads the model if need be.
    public func identity(
        model: String?, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) -> String {
        try pipeline(for: model, progress, shouldStop).identity
    }

    /// What is odd about the model in memory.
    public var modelWarnings: [String] { models.warnings }

    /// Prompts that are cut or read in chunks, and subjects that no adapter was trained for.
    public func notes(on manifest: JobManifest) -> [String] {
        guard let (name, files) = try? model(named: manifest.model) else { return [] }
        guard manifest.training == nil else { return [] }
        let notes = promptNotes.notes(on: manifest, of: files)
        if manifest.subjects.isEmpty || files.adapter != nil { return notes }
        return notes + ["adapter: model '\(name)' has none, so its own self-attention reads the subject (self)"]
    }

    /// The cache's identity: model, preprocessing, timestep, prompt and seed.
    public func cacheIdentity(
        model: String?, settings: CacheSettings, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) -> String {
        try pipeline(for: model, progress, shouldStop).cacheIdentity(options(settings))
    }

    /// Makes a `.dcache` of a subject's references.
    public func encode(
        _ request: EncodeRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) {
        let pipeline = try pipeline(for: request.model, progress, shouldStop)
        let (options, photos) = (options(request.settings), photos)
        try withModel { () throws(any Error) in
            var cutOuts = CutOutWriter(beside: request.output, background: options.background)
            let writer = try withoutActuallyEscaping(shouldStop) { shouldStop in
                try withoutActuallyEscaping(progress) { progress in
                    let references = request.references.enumerated().map { index, path in
                        Reference(name: URL(fileURLWithPath: path).lastPathComponent) {
                            let step = RenderProgress(
                                phase: "reading pictures", step: index, steps: request.references.count)
                            return try photos.photo(path, step, progress, shouldStop)
                        }
                    }
                    return try pipeline.makeCache(
                        of: references, subject: request.subject, options: options, report: { try cutOuts.add($0) },
                        progress: { progress(RenderProgress(phase: $0, step: $1, steps: $2)) }, shouldStop: shouldStop)
                }
            }
            try cutOuts.finish()
            try writer.write(toPath: request.output)
        }
    }

    /// Makes one image of a job.
    public func render(
        _ request: RenderRequest, checkpoint slot: CheckpointSlot, progress: (RenderProgress) -> Void,
        shouldStop: () -> Bool
    ) throws(RendererError) -> RenderedImage {
        let pipeline = try pipeline(for: request.manifest.model, progress, shouldStop)
        let (name, files) = try acceptedModel(named: request.manifest.model)
        let judge = try judge(for: request, pipeline, progress, shouldStop)
        let identity = pipeline.identity + (judge?.identity ?? "")
        if let expected = request.identity, expected != identity {
            throw .changed(
                message: "model '\(name)' is not what the first pictures of the set were made with: "
                    + "found \(identity), expected \(expected)")
        }
        let named = request.naming(files.schedule.sampler)
        return try withModel { () throws(any Error) in
            let preview = Latest()
            pipeline.previews =
                named.job == nil
                ? nil
                : PreviewSink(every: Self.previewInterval) { preview.bytes = try? $0.encodedPNG() }
            defer { pipeline.previews = nil }
            func shown(_ step: RenderProgress) {
                var step = step
                step.preview = preview.bytes
                progress(step)
            }
            let (request, tuning, slot) = try tuned(named, pipeline, slot, shown, shouldStop)
            let made =
                try judge.map { try choose(request, $0, pipeline, slot, shown, shouldStop) }
                ?? generate(request, pipeline, slot, shown, shouldStop)
            let begun = ContinuousClock.now
            for (path, image, plan) in made.pictures {
                var own = request
                own.image = plan
                let document = ImageDocument(
                    request: own, pipeline: pipeline, modelName: name, size: (image.width, image.height),
                    candidate: made.choice.flatMap { choice in choice.candidates.first { $0.seed == plan.seed } },
                    tuning: tuning)
                try write(image, document, as: request.manifest.output, to: path)
            }
            let written = begun.seconds(to: .now)
            models.keepWeights(
                of: pipeline, progress: { progress(RenderProgress(phase: $0, step: $1, steps: $2)) },
                shouldStop: shouldStop)
            var facts = [
                "model": name, "model_sha256": pipeline.modelHash, "compute": pipeline.model.engine.path.rawValue,
                "identity": identity,
            ]
            facts["adapter"] = pipeline.adapterName
            facts["adapter_sha256"] = pipeline.adapterHash
            facts["image_scale"] = tuning.map { JSON.number($0.imageScale).text(pretty: false) }
            facts.merge(pipeline.promptNotes(of: request), uniquingKeysWith: { first, _ in first })
            var report = RenderedImage(
                seconds: made.seconds.merging(["write": written]) { $1 }, metadata: facts, identity: identity,
                choice: made.choice, tuning: named.tuning == nil ? tuning : nil)
            if let wanted = request.attention, let picture = made.pictures.first {
                report.attention = try attention.report(
                    on: AttentionMaker.Picture(
                        reading: pipeline.takeAttention(), raster: picture.image, side: pipeline.imageSize,
                        fit: options(request.manifest.cache).fit, compute: pipeline.model.engine.path),
                    wanted, shouldStop: shouldStop
                ) { path throws(RendererError) in try photo(path, progress, shouldStop) }
            }
            return report
        }
    }

    /// Time between two looks at a picture in the making: as often as status is written by default.
    private static let previewInterval = Duration.seconds(2)

    /// Whether a `.dcache` is whole: its hash is the one it names.
    public func isSound(cache path: String) -> Bool { (try? FeatureCache.open(path)) != nil }

    /// The contact sheet of a set: its references, and its images with their prompts.
    public func makeGrid(
        _ request: GridRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) {
        let step = RenderProgress(phase: "contact sheet", step: 0, steps: request.references.count)
        let adapter = (try? model(named: request.manifest.model).files).map { files in
            files.adapter.map { URL(fileURLWithPath: $0).deletingPathExtension().lastPathComponent } ?? SelfReading.name
        }
        let sheet = try sheets.sheet(
            request, note: adapter.map { "adapter: \($0)" }, progress: progress, shouldStop: shouldStop
        ) {
            path throws(RendererError) in try photos.photo(path, step, progress, shouldStop)
        }
        let output = request.manifest.output
        do {
            let bytes =
                output.format == .png ? try sheet.encodedPNG() : try sheet.encodedJPEG(quality: output.quality)
            try Self.write(bytes, to: request.output)
        } catch { throw RendererError(error) }
    }

    /// The page of a set: its pictures, how they were made, and its references.
    public func makePage(
        _ request: PageRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) {
        let step = RenderProgress(phase: "page", step: 0, steps: request.references.count)
        let page = try pages.page(request, progress: progress, shouldStop: shouldStop) {
            path throws(RendererError) in try photos.photo(path, step, progress, shouldStop)
        }
        try Self.write(Array(page.utf8), to: request.output)
    }

    // MARK: Models

    func model(named name: String?) throws(RendererError) -> (name: String, files: ModelFiles) {
        try settings.withLock { settings throws(RendererError) in
            let known = settings.models.keys.sorted().joined(separator: ", ")
            guard let name = name ?? settings.defaultModel else {
                throw .rejected(
                    field: "$.model",
                    message: "no model is named and the configuration has no default; expected one of \(known)")
            }
            guard let files = settings.models[name] else {
                throw .rejected(
                    field: "$.model",
                    message:
                        "'\(name)' is not configured; expected \(known.isEmpty ? "a model in the configuration" : "one of \(known)")"
                )
            }
            return (name, files)
        }
    }

    /// The same for work that was accepted. A model that the configuration does not have, or not any more, is then no fault of photos
    /// or manifest: they wait until it has one.
    func acceptedModel(named name: String?) throws(RendererError) -> (name: String, files: ModelFiles) {
        do { return try model(named: name) } catch {
            guard case .rejected(_, let message) = error else { throw error }
            throw .unavailable(message: message)
        }
    }

    /// What chooses among the candidates of an image; nil where there is no choice.
    func judge(
        for request: RenderRequest, _ pipeline: Pipeline, _ progress: (RenderProgress) -> Void,
        _ shouldStop: () -> Bool
    ) throws(RendererError) -> CandidateJudge? {
        guard let criterion = request.manifest.select?.criterion else {
            encoders.clear()
            return nil
        }
        return try judge(criterion, request, pipeline, progress, shouldStop)
    }

    func judge(
        _ criterion: Selection.Criterion, _ request: RenderRequest, _ pipeline: Pipeline,
        _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws(RendererError) -> CandidateJudge {
        let settings = settings.withLock { $0 }
        let path = try criterion.encoderPath(in: settings.encoders)
        let encoder = try path.map { (path) throws(RendererError) in
            try encoders.encoder(path, compute: settings.compute, progress: progress, shouldStop: shouldStop)
        }
        let caches = try withModel { try request.caches.map { try FeatureCache.open($0.path) } }
        let (photos, step) = (photos, RenderProgress(phase: "reading pictures", step: 0, steps: 1))
        return try CandidateJudge(
            criterion, pipeline: pipeline, caches: caches, encoder: encoder, photos: request.photos,
            read: { try photos.photo($0, step, { _ in }, { false }) })
    }

    private func options(_ settings: CacheSettings) -> CacheOptions {
        var options = self.settings.withLock { $0.cache }
        if let mode = settings.mode.flatMap({ CacheOptions.Mode(rawValue: $0.rawValue) }) { options.mode = mode }
        if let fit = settings.fit.flatMap({ Raster.Fit(rawValue: $0.rawValue) }) { options.fit = fit }
        if let seed = settings.seed.flatMap(UInt64.init(exactly:)) { options.seed = seed }
        if let prompt = settings.prompt { options.prompt = prompt }
        if let background = settings.background.flatMap({ Background(rawValue: $0.rawValue) }) {
            options.background = background
        }
        if let tokens = settings.tokens.flatMap({ CacheOptions.Tokens(rawValue: $0.rawValue) }) {
            options.tokens = tokens
        }
        return options
    }

    private func pipeline(
        for name: String?, _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws(RendererError) -> Pipeline {
        let files = try acceptedModel(named: name).files
        return try models.pipeline(
            of: files, settings.withLock { $0 },
            progress: { progress(RenderProgress(phase: $0, step: $1, steps: $2)) }, shouldStop: shouldStop)
    }

    /// Runs work on the model in memory, which is given up where its error says that it is of no more use.
    func withModel<R>(_ work: () throws -> R) throws(RendererError) -> R {
        do { return try work() } catch {
            models.giveUp(after: error)
            throw RendererError(error)
        }
    }

    // MARK: Between the spool's terms and the method's

    func imageRequest(
        _ request: RenderRequest, _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws -> ImageRequest {
        let manifest = request.manifest
        var image = ImageRequest(prompt: request.image.prompt, seed: UInt64(clamping: request.image.seed))
        image.negativePrompt = manifest.negativePrompt
        image.guidance = Guidance(
            guidanceScale: manifest.guidanceScale, imageScale: ScaleSchedule(manifest.imageScale),
            interval: manifest.guidanceInterval)
        image.imageScales = request.caches.map { ScaleSchedule($0.imageScale) }
        image.reading = PromptReading(manifest)
        image.steps = manifest.inferenceSteps
        image.eta = manifest.eta
        image.scheduler = manifest.scheduler.map { SamplerChoice($0) }
        image.random = Diffusion.RandomSource(rawValue: manifest.random.rawValue) ?? .torchCPU
        image.noiseSeed = manifest.noiseSeed.map { UInt64(clamping: $0) }
        image.width = manifest.width
        image.height = manifest.height
        for cache in request.caches { image.caches.append(try FeatureCache.open(cache.path)) }
        if let initial = request.initialImage {
            image.initialImage = try picture(of: initial, progress, shouldStop)
            image.strength = manifest.initialImage?.strength ?? InitialImageUse.defaultStrength
        }
        return image
    }

    /// A person's photo, with its mask.
    private func photo(
        _ path: String, _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws(RendererError) -> Raster {
        try photos.photo(path, RenderProgress(phase: "reading pictures", step: 0, steps: 1), progress, shouldStop)
    }

    private var photos: PhotoReader { PhotoReader(limits: settings.withLock { $0.spool.references.raster }) }

    private func picture(
        of initial: InitialImage, _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws(RendererError) -> Raster {
        let state = FileIdentity(path: initial.path)
        if let known = initialImage, known.image == initial, known.state == state, state != nil {
            return known.picture
        }
        initialImage = nil
        let step = RenderProgress(phase: "reading pictures", step: 0, steps: 1)
        let picture = try photos.picture(initial.path) {
            progress(step)
            return shouldStop()
        }
        initialImage = (initial, state, picture)
        return picture
    }

    static func write(_ bytes: [UInt8], to path: String) throws(RendererError) {
        func failure(_ operation: String) -> RendererError { RendererError(errno: errno, "\(operation) \(path)") }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw failure("create") }
        do throws(FileError) { try writeAll(bytes, to: descriptor, path: path) } catch {
            close(descriptor)
            throw RendererError(errno: error.code, "write \(path)")
        }
        guard close(descriptor) == 0 else { throw failure("close") }
    }
}

/// The last preview; on the renderer's thread alone.
private final class Latest {
    var bytes: [UInt8]?
}

extension ContinuousClock.Instant {
    func seconds(to end: ContinuousClock.Instant) -> Double { (end - self) / .seconds(1) }
}
