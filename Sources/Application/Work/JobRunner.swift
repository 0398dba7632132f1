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
/// All methods but `check` run on one thread, the renderer's; the pipeline lives there and is made at its first use. One
/// model is in memory at a time.
public final class JobRunner: Renderer, @unchecked Sendable {
    // Unchecked: `settings` is behind a lock, the variables are touched by the renderer's thread alone.
    private let settings: Mutex<Settings>
    private let logger: Logger
    private var loaded: (name: String, files: ModelFiles, compute: ComputePath, pipeline: Pipeline)?
    private var keepsWeights = true
    private var hashes: (folder: String?, known: WeightHashes)?
    private let promptNotes = PromptNotes()

    /// A runner for the models of a configuration.
    public init(_ settings: Settings, logger: Logger = Logger(label: "renderer")) {
        self.settings = Mutex(settings)
        self.logger = logger
    }

    /// Takes over a new configuration from the next piece of work on.
    public func reload(_ settings: Settings) { self.settings.withLock { $0 = settings } }

    // MARK: Renderer

    /// Refuses unknown models.
    public func check(_ manifest: JobManifest) throws(RendererError) {
        _ = try model(named: manifest.model)
    }

    /// What is odd about the model in memory.
    public var modelWarnings: [String] { loaded?.pipeline.model.warnings ?? [] }

    /// Prompts that are cut or read in chunks.
    public func notes(on manifest: JobManifest) -> [String] {
        guard let files = try? model(named: manifest.model).files else { return [] }
        return promptNotes.notes(on: manifest, of: files)
    }

    /// The cache's identity: model, preprocessing, timestep, prompt and seed.
    public func cacheIdentity(model: String?, settings: CacheSettings) throws(RendererError) -> String {
        try pipeline(for: model).cacheIdentity(options(settings))
    }

    /// Makes a `.dcache` of a subject's references.
    public func encode(
        _ request: EncodeRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) {
        let references = try decode(request.references, shouldStop)
        progress(RenderProgress(phase: "loading", step: 0, steps: 0))
        let pipeline = try pipeline(for: request.model)
        do {
            let writer = try pipeline.makeCache(
                of: references, subject: request.subject, options: options(request.settings),
                progress: { progress(RenderProgress(phase: $0, step: $1, steps: $2)) }, shouldStop: shouldStop)
            try writer.write(toPath: request.output)
        } catch { throw Self.rendererError(error) }
    }

    /// Makes one image of a job.
    public func render(
        _ request: RenderRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) -> RenderedImage {
        progress(RenderProgress(phase: "loading", step: 0, steps: request.manifest.inferenceSteps))
        let pipeline = try pipeline(for: request.manifest.model)
        let request = request.naming(try model(named: request.manifest.model).files.schedule.sampler)
        let clock = ContinuousClock()
        let start = clock.now
        var decodeStart: ContinuousClock.Instant?
        do {
            let image = try pipeline.generate(
                try imageRequest(request, shouldStop),
                resume: request.checkpoint.load(),
                progress: { phase, step, steps in
                    if phase == "decoding" { decodeStart = clock.now }
                    progress(RenderProgress(phase: phase, step: step, steps: steps))
                },
                checkpoint: { step, state in
                    if request.checkpoint.isDue() { request.checkpoint.save(state(), step) }
                }, shouldStop: shouldStop)
            let end = clock.now
            let name = try model(named: request.manifest.model).name
            let document = ImageDocument(
                request: request, pipeline: pipeline, modelName: name, size: (image.width, image.height))
            let output = request.manifest.output
            let metadata = document.metadata(output.metadata)
            let bytes =
                output.format == .png
                ? try image.encodedPNG(metadata: metadata)
                : try image.encodedJPEG(quality: output.quality, metadata: metadata)
            try Self.write(bytes, to: request.output)
            let written = clock.now
            keepWeights(
                of: pipeline, progress: { progress(RenderProgress(phase: $0, step: $1, steps: $2)) },
                shouldStop: shouldStop)
            let decoding = decodeStart ?? end
            var facts = [
                "model": name, "model_sha256": pipeline.modelHash, "compute": pipeline.model.engine.path.rawValue,
            ]
            facts["adapter_sha256"] = pipeline.adapterHash
            facts.merge(pipeline.promptNotes(of: request), uniquingKeysWith: { first, _ in first })
            return RenderedImage(
                seconds: [
                    "denoise": start.seconds(to: decoding), "decode": decoding.seconds(to: end),
                    "write": end.seconds(to: written),
                ], metadata: facts)
        } catch { throw Self.rendererError(error) }
    }

    /// The contact sheet of a set: its references, and its images with their prompts.
    public func makeGrid(_ request: GridRequest) throws(RendererError) {
        do {
            let images = try request.images.map { path throws(RasterError) in try Raster.decode(path: path) }
            let references = try decode(request.references.map(\.path)) { false }
            let prompts = request.manifest.images(seed: 0).map(\.prompt)
            guard
                let sheet = ContactSheet(
                    references: zip(references, request.references).map { .init($0, caption: $1.subject) },
                    pictures: zip(images, prompts).map { .init($0, caption: $1) })
            else { throw RendererError.transient(message: "a contact sheet of no pictures cannot be made") }
            let grid = sheet.rendered()
            let output = request.manifest.output
            try Self.write(
                output.format == .png ? try grid.encodedPNG() : try grid.encodedJPEG(quality: output.quality),
                to: request.output)
        } catch { throw Self.rendererError(error) }
    }

    // MARK: Models

    private func model(named name: String?) throws(RendererError) -> (name: String, files: ModelFiles) {
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

    private func options(_ settings: CacheSettings) -> CacheOptions {
        var options = self.settings.withLock { $0.cache }
        if let mode = settings.mode.flatMap({ CacheOptions.Mode(rawValue: $0.rawValue) }) { options.mode = mode }
        if let fit = settings.fit.flatMap({ Raster.Fit(rawValue: $0.rawValue) }) { options.fit = fit }
        if let seed = settings.seed.flatMap(UInt64.init(exactly:)) { options.seed = seed }
        if let prompt = settings.prompt { options.prompt = prompt }
        if let tokens = settings.tokens.flatMap({ CacheOptions.Tokens(rawValue: $0.rawValue) }) {
            options.tokens = tokens
        }
        return options
    }

    /// The pipeline of a model, loaded if it is not the one in memory.
    func pipeline(for name: String?) throws(RendererError) -> Pipeline {
        let (name, files) = try model(named: name)
        let (compute, threads, folder) = settings.withLock { ($0.compute, $0.threads, $0.preparedWeights) }
        if let loaded, loaded.files == files, loaded.compute == compute { return loaded.pipeline }
        loaded = nil
        // The number of threads belongs to the thread that calls, so it is set here and not at start-up.
        Engine.threadCount = threads > 0 ? threads : ProcessInfo.processInfo.activeProcessorCount
        do {
            if let folder {
                try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            }
            let identity = try files.weightFiles().compactMap(WeightHashes.FileIdentity.init)
            var known = hashes.flatMap { $0.folder == folder ? $0.known : nil } ?? WeightHashes(folder: folder)
            let pipeline = try Pipeline(
                files: files, path: compute, modelHash: known[identity], weightsFolder: folder)
            known.remember(identity, pipeline.modelHash)
            for warning in pipeline.model.warnings {
                logger.warning("model loaded with a warning", metadata: ["model": "\(name)", "warning": "\(warning)"])
            }
            hashes = (folder, known)
            loaded = (name, files, compute, pipeline)
            keepsWeights = true
            return pipeline
        } catch { throw Self.rendererError(error) }
    }

    /// Prepares the model's next start; where that fails, this one's work is as good as ever, and it is not tried again.
    private func keepWeights(of pipeline: Pipeline, progress: Pipeline.Progress, shouldStop: () -> Bool) {
        guard keepsWeights else { return }
        do {
            guard let kept = try pipeline.keepWeights(progress: progress, shouldStop: shouldStop) else { return }
            logger.info("weights prepared", metadata: ["file": "\(kept.path)", "megabytes": "\(kept.bytes >> 20)"])
        } catch DreamCacheError.stopped {
            return
        } catch {
            keepsWeights = false
            logger.warning("weights not prepared; the next start converts them again", metadata: ["error": "\(error)"])
        }
    }

    // MARK: Between the spool's terms and the method's

    private func imageRequest(_ request: RenderRequest, _ shouldStop: () -> Bool) throws -> ImageRequest {
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
        image.scheduler = manifest.scheduler?.rawValue
        image.random = Diffusion.RandomSource(rawValue: manifest.random.rawValue) ?? .torchCPU
        image.noiseSeed = manifest.noiseSeed.map { UInt64(clamping: $0) }
        image.width = manifest.width
        image.height = manifest.height
        for cache in request.caches { image.caches.append(try FeatureCache.open(cache.path)) }
        if let initial = request.initialImage {
            image.initialImage = try ConfinedDecoder.decode(path: initial.path, shouldStop: shouldStop)
            image.strength = manifest.initialImage?.strength ?? InitialImageUse.defaultStrength
        }
        return image
    }

    private func decode(_ paths: [String], _ shouldStop: () -> Bool) throws(RendererError) -> [Raster] {
        do {
            return try paths.map { path in
                var picture = try ConfinedDecoder.decode(path: path, shouldStop: shouldStop)
                let url = URL(fileURLWithPath: path)
                let mask = url.deletingLastPathComponent().appendingPathComponent(
                    Raster.maskName(for: url.lastPathComponent)
                ).path
                if FileManager.default.fileExists(atPath: mask) {
                    let mask = (path: mask, raster: try ConfinedDecoder.decode(path: mask, shouldStop: shouldStop))
                    picture = try picture.masked(by: mask.raster, path: mask.path)
                }
                return picture
            }
        } catch { throw Self.rendererError(error) }
    }

    private static func write(_ bytes: [UInt8], to path: String) throws(RendererError) {
        func failure(_ operation: String) -> RendererError { systemError(errno, "\(operation) \(path)") }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw failure("create") }
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let error = failure("write")
                close(descriptor)
                throw error
            }
            done += count
        }
        guard close(descriptor) == 0 else { throw failure("close") }
    }

    private static func systemError(_ code: Int32, _ operation: String) -> RendererError {
        let message = "\(operation): \(String(cString: strerror(code)))"
        let machine: Set<Int32> = [ENOSPC, EDQUOT, EIO, EROFS, EMFILE, ENFILE, ENOMEM]
        return machine.contains(code) ? .environment(message: message) : .transient(message: message)
    }

    /// Whose fault an error is, which decides what becomes of the job.
    static func rendererError(_ error: any Error) -> RendererError {
        switch error {
        case let error as RendererError: error
        case DreamCacheError.stopped: .stopped
        case DreamCacheError.request(let field, _, _): .rejected(field: "$.\(field)", message: "\(error)")
        case DreamCacheError.schedule(let schedule): .rejected(field: "$.\(schedule.field)", message: "\(error)")
        case DreamCacheError.raster(let error): rendererError(error)
        case DreamCacheError.diffusion(.checkpoint(let error)): rendererError(error)
        case DreamCacheError.diffusion(.engine(.outOfMemory)): .environment(message: "\(error)")
        case DreamCacheError.diffusion, DreamCacheError.mismatch: .unavailable(message: "\(error)")
        case let error as CheckpointError:
            switch error.cause {
            case .system(let code) where code != ENOENT && code != EACCES: systemError(code, error.path)
            default: .unavailable(message: "\(error)")
            }
        case let error as RasterError:
            if case .system(let code) = error.cause { systemError(code, error.path) } else { rejected(error) }
        default: .transient(message: "\(error)")
        }
    }

    /// A picture at fault, named without its folders, which are the daemon's own.
    private static func rejected(_ error: RasterError) -> RendererError {
        let name = URL(fileURLWithPath: error.path).lastPathComponent
        let clean = RasterError(
            path: name, cause: error.cause, place: error.place, found: error.found, expected: error.expected)
        // The field says the name already.
        return .rejected(field: name, message: String("\(clean)".dropFirst(name.count + 2)))
    }
}

extension ContinuousClock.Instant {
    fileprivate func seconds(to end: ContinuousClock.Instant) -> Double { (end - self) / .seconds(1) }
}
