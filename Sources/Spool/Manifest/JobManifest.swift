/// A job as its author wrote it, with every default filled in.
///
/// The document is JSON; `JobManifest.schema` describes it once for the parser, the JSON Schema and the defaults. Its coding
/// is another form, for requests that the program writes for itself: it keeps every field and checks none of their ranges.
public struct JobManifest: Sendable, Equatable, Codable {
    /// Version of the document's format; 1 today.
    public var schemaVersion: Int
    /// What is to be made. Where that is no images, the fields of images are empty.
    public var kind: Kind
    /// The subjects to show, in order; empty only where the caller supplies the cache itself.
    public var subjects: [SubjectUse]
    /// The picture the images begin with; nil means noise.
    public var initialImage: InitialImageUse?
    /// One set of images per prompt.
    public var prompts: [String]
    /// What to steer away from.
    public var negativePrompt: String
    /// What becomes of prompts longer than the text encoder reads at once.
    public var promptMode: PromptMode
    /// Whether brackets in prompts mean something.
    public var promptSyntax: PromptSyntax
    /// Weight of the text guidance.
    public var guidanceScale: Double
    /// The part of the run in which it holds, as fractions of the steps; nil is the whole run.
    public var guidanceInterval: ClosedRange<Double>?
    /// Weight of the image guidance for subjects that have none of their own.
    public var imageScale: ImageScale
    /// Whether that weight is chosen by a pilot: `image_scale` is `auto`.
    public var tunesImageScale: Bool
    /// Denoising steps per image.
    public var inferenceSteps: Int
    /// Images per prompt.
    public var imagesPerPrompt: Int
    /// Seed of the first image; nil lets the spool choose one when it accepts the job.
    public var seed: Int?
    /// Seed of a generator of its own for the step noise; nil continues the latent's generator.
    public var noiseSeed: Int?
    /// Whose random numbers the seeds give.
    public var random: RandomSource
    /// Share of fresh noise in each step (DDIM's eta), 0 to 1.
    public var eta: Double
    /// The sampler; nil means the model's configured one, or DDIM.
    public var scheduler: Scheduler?
    /// Width in pixels, a multiple of 8; nil means the model's own.
    public var width: Int?
    /// Height in pixels, a multiple of 8; nil means the model's own.
    public var height: Int?
    /// Name of a configured model; nil means the default one.
    public var model: String?
    /// How the subjects' caches are made.
    public var cache: CacheSettings
    /// How images are chosen among candidates; nil makes one of each.
    public var select: Selection?
    /// What the set's files are like.
    public var output: OutputSettings
    /// -100 to 100; higher runs first.
    public var priority: Int
    /// Two manifests of one user with one key are one job.
    public var idempotencyKey: String?
}

/// A subject in a job.
public struct SubjectUse: Sendable, Equatable, Codable {
    /// Name of the subject: that of its folder under `drop/references`.
    public var name: String
    /// Its own image guidance scale; nil means the job's.
    public var imageScale: ImageScale?
    /// Names of the reference files to use; nil means all.
    public var references: [String]?

    /// A use of a subject.
    public init(name: String, imageScale: ImageScale? = nil, references: [String]? = nil) {
        self.name = name
        self.imageScale = imageScale
        self.references = references
    }
}

/// A picture to begin with instead of noise (img2img), as a job names it.
public struct InitialImageUse: Sendable, Equatable, Codable {
    /// The subject whose first picture it is, in the order of file names: a picture comes into the spool like any
    /// reference, and no manifest ever names a path.
    public var subject: String
    /// How much of it is replaced, above 0 to 1, as diffusers means it: at 0.8 the last four fifths of the steps are run.
    public var strength: Double

    /// The strength of a manifest that gives none; diffusers' own.
    public static let defaultStrength = 0.8

    /// A use of a picture.
    public init(subject: String, strength: Double = defaultStrength) {
        self.subject = subject
        self.strength = strength
    }
}

/// How references become a cache.
public struct CacheSettings: Sendable, Equatable, Codable {
    /// Whether the paper's or the authors' script's way is followed.
    public enum Mode: String, Sendable, CaseIterable, Codable {
        /// The posterior's mean, under an empty prompt.
        case paper
        /// A sample of the posterior, under the negative prompt.
        case official
    }

    /// How an image that is not square becomes one.
    public enum Fit: String, Sendable, CaseIterable, Codable {
        /// Padded with white.
        case pad
        /// Squashed.
        case squash
    }

    /// Which tokens of a reference are kept.
    public enum Tokens: String, Sendable, CaseIterable, Codable {
        /// All.
        case all
        /// Those that show the subject, by alpha or mask.
        case foreground
    }

    /// What becomes of a photo's background.
    public enum Background: String, Sendable, CaseIterable, Codable {
        /// Cut out where the photo needs it.
        case auto
        /// Kept.
        case keep
        /// Cut out.
        case remove
    }

    /// The mode; nil means the configured one.
    public var mode: Mode?
    /// Seed of the generator each reference's noise is drawn from; nil means the configured one.
    public var seed: Int?
    /// The prompt the reference pass runs under; nil means the mode's own.
    public var prompt: String?
    /// The fit; nil means the configured one.
    public var fit: Fit?
    /// The tokens; nil means the configured ones.
    public var tokens: Tokens?
    /// The background; nil means the configured one.
    public var background: Background?

    /// Settings; what is nil is left to the configuration.
    public init(
        mode: Mode? = nil, seed: Int? = nil, prompt: String? = nil, fit: Fit? = nil, tokens: Tokens? = nil,
        background: Background? = nil
    ) {
        self.mode = mode
        self.seed = seed
        self.prompt = prompt
        self.fit = fit
        self.tokens = tokens
        self.background = background
    }
}

/// What the files of a set are like.
public struct OutputSettings: Sendable, Equatable, Codable {
    /// File format of the images.
    public enum Format: String, Sendable, CaseIterable, Codable {
        /// Lossless.
        case png
        /// Lossy, with `quality`.
        case jpeg

        /// The file name's extension, without the dot.
        public var fileExtension: String { self == .png ? "png" : "jpg" }
    }

    /// How much an image tells of how it was made.
    public enum Metadata: String, Sendable, CaseIterable, Codable {
        /// Everything.
        case full
        /// That it was made by an algorithm, and no more.
        case minimal
        /// Nothing.
        case none
    }

    /// The format.
    public var format: Format
    /// JPEG quality, 1 to 100.
    public var quality: Int
    /// What is written into the images.
    public var metadata: Metadata
    /// Whether a contact sheet `grid.png` (or `.jpg`) is added.
    public var grid: Bool
    /// Whether it is shown beside each picture what it read of its references.
    public var attention: Bool

    /// Settings.
    public init(
        format: Format = .png, quality: Int = 95, metadata: Metadata = .full, grid: Bool = false,
        attention: Bool = false
    ) {
        self.format = format
        self.quality = quality
        self.metadata = metadata
        self.grid = grid
        self.attention = attention
    }
}

/// A generator of random numbers.
public enum RandomSource: String, Sendable, CaseIterable, Codable {
    /// torch's on a CPU.
    case torchCPU = "torch-cpu"
    /// Philox, torch's on a GPU.
    case philox
}

/// One image of a job.
public struct ImagePlan: Sendable, Equatable, Codable {
    /// Position in the set, from 0; also the number in the file's name.
    public let index: Int
    /// Its prompt.
    public let prompt: String
    /// Its seed: the job's plus `index`.
    public let seed: Int

    /// A plan.
    public init(index: Int, prompt: String, seed: Int) {
        self.index = index
        self.prompt = prompt
        self.seed = seed
    }
}

extension JobManifest {
    /// The subjects that must be there before the job can run: those it shows, then the one it begins with.
    var neededSubjects: [String] {
        let shown = subjects.map(\.name)
        guard let initial = initialImage?.subject, !shown.contains(initial) else { return shown }
        return shown + [initial]
    }

    /// Number of images in the set; an adapter counts as one.
    public var imageCount: Int { training == nil ? prompts.count * imagesPerPrompt : 1 }

    /// The images of the set: all of the first prompt, then all of the second, and so on; image i has seed `seed` + i.
    public func images(seed: Int) -> [ImagePlan] { (0..<imageCount).map { plan(image: $0, seed: seed) } }

    /// One of them.
    public func plan(image index: Int, seed: Int) -> ImagePlan {
        ImagePlan(index: index, prompt: prompts[index / imagesPerPrompt], seed: seed + index)
    }

    /// The name of an image's file in the set: `0000.png`; or of the adapter's.
    public func fileName(image index: Int) -> String {
        if let training { return training.fileName }
        let digits = String(index)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits + "." + output.format.fileExtension
    }

    /// The name of the contact sheet's file.
    public var gridFileName: String { "grid." + output.format.fileExtension }
}
