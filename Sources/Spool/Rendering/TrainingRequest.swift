/// A training to carry out, or to go on with.
public struct TrainingRequest: Sendable, Equatable, Codable {
    /// The job's id.
    public let job: String
    /// A configured model's name, or nil for the default one.
    public let model: String?
    /// What is asked for.
    public let order: TrainingOrder
    /// Absolute path of the data set: a folder per object.
    public let dataset: String
    /// Absolute path of the run's folder, which outlives the daemon: its state, and all it keeps for itself.
    public let folder: String
    /// Absolute path of the adapter to write; nothing is there yet.
    public let output: String

    /// A request.
    public init(
        job: String, model: String?, order: TrainingOrder, dataset: String, folder: String, output: String
    ) {
        (self.job, self.model, self.order) = (job, model, order)
        (self.dataset, self.folder, self.output) = (dataset, folder, output)
    }
}

/// What a renderer reports of an adapter it has trained.
public struct AdapterReport: Sendable, Equatable {
    /// A file of the run's folder that is to go into the set.
    public struct File: Sendable, Equatable {
        /// Its path in the run's folder, and its name in the set, which is a plain one.
        public let path: String, name: String

        /// A file.
        public init(path: String, name: String) { (self.path, self.name) = (path, name) }
    }

    /// What belongs into `result.json`: steps, losses, scores.
    public var metadata: [String: String]
    /// What shows how the run went.
    public var files: [File]

    /// The name, in the set, of the picture of the losses.
    public static let curvesFile = "losses.png"

    /// A report.
    public init(metadata: [String: String] = [:], files: [File] = []) {
        (self.metadata, self.files) = (metadata, files)
    }
}
