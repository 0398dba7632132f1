/// The candidates of an image, and which was chosen.
public struct Choice: Sendable, Equatable, Codable {
    /// One of them.
    public struct Candidate: Sendable, Equatable, Codable {
        /// Its seed.
        public let seed: Int
        /// Its scores, by what gave them: `subject`, `text`, an encoder's name.
        public let scores: [String: Double]

        /// A candidate.
        public init(seed: Int, scores: [String: Double]) {
            self.seed = seed
            self.scores = scores
        }

        /// In a few words: `subject 0.931`.
        public var summary: String {
            scores.sorted { $0.key < $1.key }.map { "\($0.key) \(Choice.short($0.value))" }.joined(separator: ", ")
        }

        /// As documents write it.
        public var json: JSON {
            .object(["seed": .integer(seed), "scores": Choice.json(scores)])
        }

        init?(_ json: JSON) {
            guard let seed = json["seed"]?.integer, let scores = json["scores"]?.members else { return nil }
            self.seed = seed
            self.scores = Dictionary(scores.map { ($0.name, $0.value.number ?? 0) }, uniquingKeysWith: { $1 })
        }
    }

    /// The number of the one that was chosen.
    public let best: Int
    /// All of them, in the order in which they were made.
    public let candidates: [Candidate]

    /// A choice.
    ///
    /// - Parameter best: an index of `candidates`.
    public init(best: Int, candidates: [Candidate]) {
        self.best = best
        self.candidates = candidates
    }

    /// The candidate that was chosen.
    public var chosen: Candidate { candidates[best] }

    /// In a few words: `subject 0.931, best of 4`.
    public var summary: String { "\(chosen.summary), best of \(candidates.count)" }

    /// A score with three digits.
    static func short(_ score: Double) -> String {
        let thousandths = Int((abs(score) * 1000).rounded())
        let digits = String(thousandths % 1000)
        return (score < 0 ? "-" : "") + "\(thousandths / 1000)." + String(repeating: "0", count: 3 - digits.count)
            + digits
    }

    /// Scores as documents write them.
    public static func json(_ scores: [String: Double]) -> JSON {
        JSON(.object(scores.sorted { $0.key < $1.key }.map { .init($0.key, .number($0.value)) }))
    }
}
