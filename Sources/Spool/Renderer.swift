/// What the spool asks of whatever makes the pictures.
///
/// Every method but `check` is called on one dedicated thread, the same for the life of the daemon, never two at once,
/// and may take minutes; `check` is called on the spool's own thread and must answer at once. Methods call `progress`
/// at every step, model loading included (the systemd watchdog is fed by it), and ask `shouldStop` as often; when that
/// says true they throw `RendererError.stopped` within a step.
public protocol Renderer: AnyObject, Sendable {
    /// Refuses a manifest this renderer can never carry out (an unknown model, a scheduler it lacks).
    ///
    /// - Throws: `.rejected` with the JSON path of the field.
    func check(_ manifest: JobManifest) throws(RendererError)

    /// What the author of a manifest should know although it is accepted: a prompt that is cut, for instance. Called after
    /// `check`, on the spool's own thread; empty where there is nothing to say.
    func notes(on manifest: JobManifest) -> [String]

    /// A string naming everything a cache depends on besides the references' bytes: base model hash, preprocessing,
    /// timestep, prompt, seed. Equal strings and equal references mean an equal `.dcache`.
    ///
    /// - Parameter model: a model's configured name, or nil for the default one.
    func cacheIdentity(
        model: String?, settings: CacheSettings, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) -> String

    /// Decodes and encodes references and writes a `.dcache` to `request.output`, and what it cut out of them into
    /// `request.cutOuts`, a folder it makes where there is something to put into it; the spool syncs and publishes both.
    func encode(
        _ request: EncodeRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError)

    /// Renders one image of a job to `request.output`.
    ///
    /// The bytes written must be a function of the request alone, resumed from a checkpoint or not.
    func render(
        _ request: RenderRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) -> RenderedImage

    /// Whether a `.dcache` is what it was when it was written; false for one that is damaged. Called before a cache that is
    /// there already is used, and cheap: a hash of some megabytes.
    func isSound(cache path: String) -> Bool

    /// Writes the contact sheet of a finished set to `request.output`.
    func makeGrid(
        _ request: GridRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError)
}

extension Renderer {
    /// Nothing to say.
    public func notes(on manifest: JobManifest) -> [String] { [] }
}

/// Why a renderer could not do what was asked. The case decides what becomes of the job.
public enum RendererError: Error, Sendable, Equatable {
    /// The request itself is at fault and would fail again: a damaged image, an unknown model, settings that drive the model
    /// to results that are no numbers. `field` is a JSON path of the manifest or a file's name. The job fails, or the
    /// references are rejected.
    case rejected(field: String?, message: String)
    /// The model a request names cannot be used: a file of it is missing, unreadable, damaged or misconfigured. It is the
    /// installation's fault. Consumes no attempt: jobs and references wait, and look again after a pause.
    case unavailable(message: String)
    /// What the pictures depend on is not what `RenderRequest.identity` names. Consumes no attempt; the set begins anew, or
    /// waits, as configured.
    case changed(message: String)
    /// It may work another time, or after something is made again, such as a damaged `.dcache`. Consumes an attempt; tried
    /// again after a pause.
    case transient(message: String)
    /// The machine, not the job: no space, memory, descriptors, processes or threads, an I/O error, the memory limit.
    /// Consumes no attempt.
    case environment(message: String)
    /// `shouldStop` said so. Consumes no attempt.
    case stopped
}

/// How far the current piece of work is.
public struct RenderProgress: Sendable, Equatable {
    /// What is being done, in a word or two: `loading`, `encoding`, `denoising`, `decoding`.
    public var phase: String
    /// Steps done of it.
    public var step: Int
    /// Steps in all; 0 when unknown.
    public var steps: Int

    /// Progress of a phase.
    public init(phase: String, step: Int, steps: Int) {
        self.phase = phase
        self.step = step
        self.steps = steps
    }
}

/// References to encode into one `.dcache`.
public struct EncodeRequest: Sendable, Equatable {
    /// The subject's name, for the cache's metadata.
    public let subject: String
    /// Absolute paths of the ingested copies, which nobody else can change, in the order that fixes their index; a
    /// mask `NAME_mask.png` stands beside its image and is not listed.
    public let references: [String]
    /// SHA-256 of each reference's bytes, lower-case hexadecimal, in the same order.
    public let digests: [String]
    /// The model's configured name, or nil for the default one.
    public let model: String?
    /// How to encode.
    public let settings: CacheSettings
    /// Absolute path of the file to write; it does not exist yet.
    public let output: String

    /// Absolute path of the folder for cut-outs; see ``CutOuts``.
    public var cutOuts: String { CutOuts.folder(beside: output) }

    /// A request.
    public init(
        subject: String, references: [String], digests: [String], model: String?, settings: CacheSettings,
        output: String
    ) {
        self.subject = subject
        self.references = references
        self.digests = digests
        self.model = model
        self.settings = settings
        self.output = output
    }
}

/// One subject's cache as a job uses it.
public struct CacheUse: Sendable, Equatable {
    /// The subject's name.
    public let subject: String
    /// The subject's own image guidance scale.
    public let imageScale: ImageScale
    /// Absolute path of the `.dcache`.
    public let path: String

    /// A use of a cache.
    public init(subject: String, imageScale: ImageScale, path: String) {
        self.subject = subject
        self.imageScale = imageScale
        self.path = path
    }
}

/// A picture to begin with (img2img); how much of it is replaced is in the manifest.
public struct InitialImage: Sendable, Equatable {
    /// Absolute path of the picture.
    public let path: String
    /// SHA-256 of its bytes, lower-case hexadecimal, for metadata.
    public let sha256: String

    /// A picture.
    public init(path: String, sha256: String) {
        self.path = path
        self.sha256 = sha256
    }
}

/// One image to render.
public struct RenderRequest: Sendable {
    /// The job's id, for logs and metadata; nil when there is no spool.
    public let job: String?
    /// The job's manifest.
    public let manifest: JobManifest
    /// Which image of it: index, prompt and seed.
    public let image: ImagePlan
    /// The subjects' caches, in the manifest's order.
    public let caches: [CacheUse]
    /// The picture of the manifest's `init_image`.
    public let initialImage: InitialImage?
    /// Absolute path of the file to write, in the manifest's output format; it does not exist yet.
    public let output: String
    /// What the pictures of the set made so far were made with, as `RenderedImage.identity` said; nil for the first.
    /// A renderer that would make this one with something else throws `.changed`.
    public let identity: String?
    /// Where to keep what is needed to go on with this image after an interruption.
    public let checkpoint: CheckpointSlot

    /// A request.
    public init(
        job: String?, manifest: JobManifest, image: ImagePlan, caches: [CacheUse],
        initialImage: InitialImage? = nil, output: String, identity: String? = nil, checkpoint: CheckpointSlot = .none
    ) {
        self.identity = identity
        self.job = job
        self.manifest = manifest
        self.image = image
        self.caches = caches
        self.initialImage = initialImage
        self.output = output
        self.checkpoint = checkpoint
    }
}

/// A place for one image's unfinished state. The bytes are the renderer's own; the spool adds their identity and CRC.
public struct CheckpointSlot: Sendable {
    /// The last state saved for this very image, or nil; one that is damaged or of another image counts as none.
    public let load: @Sendable () -> [UInt8]?
    /// Whether enough time has passed since the last save for the next to be worth its cost.
    public let isDue: @Sendable () -> Bool
    /// Keeps a state durably, with the number of steps done, in place of the one before. A failure to keep it is
    /// logged by the spool and costs nothing but the work since the last one.
    public let save: @Sendable (_ state: [UInt8], _ step: Int) -> Void

    /// A slot.
    public init(
        load: @escaping @Sendable () -> [UInt8]?, isDue: @escaping @Sendable () -> Bool,
        save: @escaping @Sendable (_ state: [UInt8], _ step: Int) -> Void
    ) {
        self.load = load
        self.isDue = isDue
        self.save = save
    }

    /// No place: nothing is ever due, nothing is kept.
    public static let none = CheckpointSlot(load: { nil }, isDue: { false }, save: { _, _ in })
}

/// What a renderer reports of an image it has written.
public struct RenderedImage: Sendable, Equatable {
    /// Time spent, in seconds, by part (`denoise`, `decode`, `write`), for `result.json`.
    public var seconds: [String: Double]
    /// Whatever else belongs into `result.json`: model hash, adapter hash, version.
    public var metadata: [String: String]
    /// All that the picture's bytes depend on besides the request: hashes of base, adapter and LoRAs, compute path,
    /// prediction type, version. Pictures of one set have one identity.
    public var identity: String?

    /// A report.
    public init(seconds: [String: Double] = [:], metadata: [String: String] = [:], identity: String? = nil) {
        self.identity = identity
        self.seconds = seconds
        self.metadata = metadata
    }
}

/// A contact sheet to make of a finished set.
public struct GridRequest: Sendable, Equatable {
    /// A reference that the sheet shows.
    public struct Reference: Sendable, Equatable {
        /// The subject's name.
        public let subject: String
        /// Absolute path of the picture; a mask may stand beside it.
        public let path: String
        /// Absolute path of its cut-out, which is shown in its place if it is there.
        public let cutOut: String?

        /// A reference.
        public init(subject: String, path: String, cutOut: String? = nil) {
            self.subject = subject
            self.path = path
            self.cutOut = cutOut
        }
    }

    /// The job's manifest.
    public let manifest: JobManifest
    /// References of its subjects, as far as they are at hand.
    public let references: [Reference]
    /// Absolute paths of the images, in order.
    public let images: [String]
    /// Absolute path of the file to write, in the manifest's output format.
    public let output: String

    /// A request.
    public init(manifest: JobManifest, references: [Reference] = [], images: [String], output: String) {
        self.manifest = manifest
        self.references = references
        self.images = images
        self.output = output
    }
}
