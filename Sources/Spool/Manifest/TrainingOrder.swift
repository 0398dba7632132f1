/// What a manifest of kind `training` asks for: an adapter, trained on a data set.
public struct TrainingOrder: Sendable, Equatable, Codable {
    /// The data set: the name of its folder under `drop/datasets`.
    public var dataset: String
    /// What the adapter is called: its file is `NAME.safetensors`.
    public var name: String
    /// The settings that the manifest gives, a JSON object. Their names and ranges are the trainer's own.
    public var settings: String
    /// Steps in all, where the manifest gives them.
    public var steps: Int?

    static let defaultName = "adapter"
    /// Renders have 0 where nothing is said: a training takes what time they leave.
    static let defaultPriority = -10
    private static let suffix = ".safetensors"

    /// The adapter's file.
    var fileName: String { name + Self.suffix }

    /// From a document that followed ``JobManifest/trainingSchema(settings:)``.
    init(checked document: JSON) {
        dataset = document["dataset"]?.string ?? ""
        name = document["name"]?.string ?? Self.defaultName
        settings = document["settings"]?.text(pretty: false) ?? "{}"
        steps = document["settings"]?["steps"]?.integer
    }

    func contradictions(in document: JSON) -> [SchemaFault] {
        guard !DropName.isPlain(fileName) else { return [] }
        return [
            SchemaFault(
                path: "$.name", byte: document["name"]?.offset ?? 0, found: "a name of \(name.utf8.count) characters",
                expected: "at most \(64 - Self.suffix.utf8.count)")
        ]
    }
}

extension JobManifest {
    /// What is to be made.
    public enum Kind: Sendable, Equatable, Codable {
        /// Images.
        case render
        /// An adapter.
        case training(TrainingOrder)

        /// The word in manifests.
        static let names = (render: "render", training: "training")
    }

    /// The fields of a manifest of kind `training`.
    ///
    /// - Parameter settings: the trainer's settings; where it is not asked, any.
    public static func trainingSchema(settings: Schema = .anyObject) -> Schema {
        .object([
            .init("schema_version", .integer(1...1), default: .integer(1), "Version of this format."),
            .init("kind", .choice([Kind.names.training]), required: true, "An adapter is to be trained."),
            .init(
                "dataset", .string(pattern: .name), required: true,
                "The data set: the name of its folder under drop/datasets."),
            .init("model", .string(pattern: .name), "The configured model to train for; the default one when absent."),
            .init(
                "name", .string(pattern: .name), default: .string(TrainingOrder.defaultName),
                "Name of the adapter; its file is NAME.safetensors."),
            .init("settings", settings, "Settings of the run, by the names that `dreamcache train` has for them."),
            .init(
                "priority", .integer(-100...100), default: .integer(TrainingOrder.defaultPriority),
                "Higher runs first, and takes the place of lower between two steps."),
            .init(
                "idempotency_key", .string(length: 1...256),
                "Two manifests of one user with one key are one job, however often dropped."),
        ])
    }

    /// What it asks to be trained; nil where it asks for images.
    public var training: TrainingOrder? { if case .training(let order) = kind { order } else { nil } }

    /// The data set that must be there before the job can run.
    var neededDataset: String? { training?.dataset }

    /// What is shown, for people: the subjects, or the data set.
    public var subjectTitle: String { training?.dataset ?? subjects.map(\.name).joined(separator: ", ") }

    /// What is made, for people: the prompt of an image, or that an adapter is trained.
    func title(image index: Int) -> String {
        if let training { return "Training of the adapter '\(training.name)'" }
        let prompt = index / imagesPerPrompt
        return prompts.indices.contains(prompt) ? prompts[prompt] : prompts.last ?? ""
    }

    /// Whether a page is made of its set. A training brings its own.
    var isShownOnPage: Bool { training == nil }

    /// The file of a set that stands for it in lists of sets.
    var pictureName: String { training == nil ? fileName(image: 0) : AdapterReport.curvesFile }

    /// The folder, in the job's, that a renderer keeps its own state in; nil where a checkpoint is enough.
    var workFolder: String? { training == nil ? nil : Self.trainingFolder }
    static let trainingFolder = "training"
}
