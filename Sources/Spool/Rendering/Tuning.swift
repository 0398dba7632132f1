/// What a pilot has chosen for a job whose `image_scale` is `auto`.
public struct Tuning: Sendable, Equatable, Codable {
    /// One scale that was tried.
    public struct Trial: Sendable, Equatable, Codable {
        /// The scale.
        public let imageScale: Double
        /// The means of its pictures' scores, by what gave them: `subject`, and `text` where a CLIP is configured.
        public let scores: [String: Double]

        /// A trial.
        public init(imageScale: Double, scores: [String: Double]) {
            self.imageScale = imageScale
            self.scores = scores
        }
    }

    /// The scale that was chosen.
    public let imageScale: Double
    /// What was tried, by rising scale.
    public let trials: [Trial]
    /// Pictures that were made, and steps of each.
    public let pictures: Int, steps: Int
    /// Evaluations of the U-Net that the pilot cost, scores included.
    public let evaluations: Int
    /// Time that it took, in seconds.
    public let seconds: Double

    /// A choice.
    public init(
        imageScale: Double, trials: [Trial], pictures: Int, steps: Int, evaluations: Int, seconds: Double
    ) {
        self.imageScale = imageScale
        self.trials = trials
        self.pictures = pictures
        self.steps = steps
        self.evaluations = evaluations
        self.seconds = seconds
    }

    /// All of it but the time, which no picture may depend on.
    public var json: JSON {
        .object([
            "image_scale": .number(imageScale),
            "trials": .array(
                trials.map {
                    .object(["image_scale": .number($0.imageScale), "scores": Choice.json($0.scores)])
                }),
            "pictures": .integer(pictures), "steps": .integer(steps), "evaluations": .integer(evaluations),
        ])
    }

    /// All of it, as records and `result.json` write it.
    public var record: JSON {
        JSON(.object((json.members ?? []) + [JSON.Member("seconds", .number(seconds))]))
    }

    init?(_ json: JSON) {
        guard let scale = json["image_scale"]?.number, let entries = json["trials"]?.array,
            let pictures = json["pictures"]?.integer, let steps = json["steps"]?.integer,
            let evaluations = json["evaluations"]?.integer, let seconds = json["seconds"]?.number
        else { return nil }
        let trials = entries.compactMap { entry -> Trial? in
            guard let scale = entry["image_scale"]?.number, let scores = entry["scores"]?.members else { return nil }
            return Trial(
                imageScale: scale,
                scores: Dictionary(scores.map { ($0.name, $0.value.number ?? 0) }, uniquingKeysWith: { $1 }))
        }
        guard trials.count == entries.count else { return nil }
        self.init(
            imageScale: scale, trials: trials, pictures: pictures, steps: steps, evaluations: evaluations,
            seconds: seconds)
    }

    /// In a sentence.
    public var summary: String {
        let scale = JSON.number(imageScale).text(pretty: false)
        return "image_scale \(scale) was chosen by a pilot of \(pictures) pictures (\(evaluations) evaluations)"
    }
}
