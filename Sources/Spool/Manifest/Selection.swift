/// How the images of a set are chosen among candidates: `select` of a manifest.
public struct Selection: Sendable, Equatable, Codable {
    /// What a candidate is judged by.
    public enum Criterion: Sendable, Hashable, Codable {
        /// The base model's own features: how much of the subject is there.
        case subject
        /// A CLIP: how well the prompt is met.
        case text
        /// Both.
        case both
        /// A configured encoder: likeness to the photos.
        case encoder(String)

        /// As a manifest names it.
        public var name: String {
            switch self {
            case .subject: "subject"
            case .text: "text"
            case .both: "both"
            case .encoder(let name): name
            }
        }

        /// The criterion of that name.
        public init(named name: String) {
            self = [.subject, .text, .both].first { $0.name == name } ?? .encoder(name)
        }

        /// The configured encoder it needs.
        public var encoder: String? {
            switch self {
            case .subject: nil
            case .text, .both: Selection.textEncoder
            case .encoder(let name): name
            }
        }

        /// Whether it looks for the subjects.
        public var needsSubjects: Bool { self != .text }

        /// Whether it looks at the subjects' photos themselves.
        public var needsPhotos: Bool { if case .encoder = self { true } else { false } }
    }

    /// Candidates of each image.
    public var candidates: Int
    /// What they are judged by.
    public var criterion: Criterion
    /// Whether those that are not chosen are kept beside the set.
    public var keepsAll: Bool

    /// A way to choose.
    public init(candidates: Int, criterion: Criterion = .subject, keepsAll: Bool = false) {
        self.candidates = candidates
        self.criterion = criterion
        self.keepsAll = keepsAll
    }

    /// Names of criteria, which no encoder can have.
    public static let reservedNames = ["subject", "text", "both"]
    /// The configured encoder that compares pictures with prompts.
    public static let textEncoder = "clip"
    /// Most candidates of one image.
    public static let maximumCandidates = 16
    /// Most pixels of one image's candidates where all are kept: they are in memory together.
    public static let maximumKeptPixels = 1 << 26
    /// The folder in a set for candidates that were not chosen.
    public static let folder = "candidates"

    static let schema = Schema.object([
        .init("best_of", .integer(1...maximumCandidates), required: true, "Candidates of each image."),
        .init(
            "by", .string(pattern: .name), default: .string(Criterion.subject.name),
            "subject (the model's own features), text (the encoder clip), both, or a configured encoder: likeness to "
                + "the photos."),
        .init(
            "keep", .choice(["best", "all"]), default: .string("best"),
            "Whether the other candidates are kept too, in the set's folder candidates."),
    ])

    /// From a document that followed ``schema``.
    init(checked value: JSON) {
        self.init(
            candidates: value["best_of"]?.integer ?? 1,
            criterion: Criterion(named: value["by"]?.string ?? Criterion.subject.name),
            keepsAll: value["keep"]?.string == "all")
    }
}

extension JobManifest {
    /// How many of each image are made; 1 without a choice.
    var candidatesPerImage: Int { select?.candidates ?? 1 }

    /// The candidates of an image. The first is what the image is without a choice. Candidate c of image i has the job's seed
    /// + i + c * the number of images, so that no two of a job are the same.
    public func candidates(of image: ImagePlan) -> [ImagePlan] {
        (0..<candidatesPerImage).map {
            ImagePlan(index: image.index, prompt: image.prompt, seed: image.seed + $0 * imageCount)
        }
    }

    /// The name of the file, in ``Selection/folder``, of a candidate that was not chosen: `0000-1.png`.
    public func fileName(image index: Int, candidate: Int) -> String {
        let name = fileName(image: index)
        return name.dropLast(output.format.fileExtension.count + 1) + "-\(candidate)." + output.format.fileExtension
    }

    /// What a job waits for where it cannot be used: its model, with the encoder that it needs. Jobs that need the model alone
    /// are not held by a damaged encoder.
    var neededModel: String {
        (model ?? "") + (training == nil ? "" : " without its adapter")
            + (select?.criterion.encoder.map { " with \($0)" } ?? "")
            + (tunesImageScale ? " and a pilot" : "")
    }
}
