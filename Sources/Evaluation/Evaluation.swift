import Raster

/// A picture and where it comes from.
public struct Picture {
    /// Its file's name.
    public let name: String
    /// Its pixels; of one with alpha, what is opaque is the subject.
    public let raster: Raster
    /// The prompt it was made from, if any.
    public let prompt: String?

    /// A picture.
    public init(name: String, raster: Raster, prompt: String? = nil) {
        self.name = name
        self.raster = raster
        self.prompt = prompt
    }
}

/// Which references a picture is compared with.
public enum ReferenceProtocol: String, CaseIterable, Sendable, Codable {
    /// All pictures with all photos, as DreamBooth reports it (Ruiz et al. 2023).
    case dreambooth
    /// All pictures with one photo, the first: DreamCache's authors keep one per subject.
    case paper
    /// All pictures with the one photo they were made from (DreamBench++, Peng et al. 2024).
    case source = "dreambench++"
    /// All pictures with all photos, both without their backgrounds.
    case masked
}

/// A subject's photos, and sets of pictures of it.
public struct EvaluatedSubject {
    /// A set under the name by which it is compared with others, such as `image_scale 0.4`.
    public struct PictureSet {
        /// Rows of the report that have the same name are one row.
        public let label: String
        /// The scale it was made at, where that is known.
        public let imageScale: Double?
        /// Its pictures.
        public let pictures: [Picture]

        /// A set.
        public init(label: String, imageScale: Double? = nil, pictures: [Picture]) {
            self.label = label
            self.imageScale = imageScale
            self.pictures = pictures
        }
    }

    /// The subject's name.
    public let name: String
    /// Its photos, in the order of their names.
    public let references: [Picture]
    /// The name of the photo that the sets were made from; the first when nil.
    public let source: String?
    /// What is judged.
    public let sets: [PictureSet]

    /// A subject.
    public init(name: String, references: [Picture], source: String? = nil, sets: [PictureSet]) {
        self.name = name
        self.references = references
        self.source = source
        self.sets = sets
    }
}

/// Scores sets of pictures against photos of their subjects.
public struct Evaluation {
    /// What is compared.
    public let measures: [Measure]
    /// With which photos.
    public let method: ReferenceProtocol
    /// Takes a picture's background away: what ``ReferenceProtocol/masked`` looks at.
    public let cutOut: (Raster) throws -> Raster
    private var report: Report
    private var groups: [String: [String: [[Double]]]] = [:]

    /// - Parameter cutOut: takes a picture's background away, for the masked protocol.
    public init(measures: [Measure], method: ReferenceProtocol, cutOut: @escaping (Raster) throws -> Raster = { $0 }) {
        self.measures = measures
        self.method = method
        self.cutOut = cutOut
        report = Report(
            method: method, measures: measures.map { Report.MeasureEntry(name: $0.name, description: $0.description) })
    }

    /// Name of the row of photographs: what a perfect set would score.
    public static let real = "real photographs"

    /// Judges one subject; its photos become part of the first row.
    ///
    /// - Throws: what the measures throw.
    public mutating func add(_ subject: EvaluatedSubject) throws {
        let references = subject.references
        guard !references.isEmpty else { return }
        let prepared = try references.map { try seen($0.raster, isReference: true) }
        let copies = references.map { CopyScore(reference: $0.raster) }
        let chosen: [Int] =
            switch method {
            case .dreambooth, .masked: Array(references.indices)
            case .paper: [0]
            case .source: [references.firstIndex { $0.name == subject.source } ?? 0]
            }
        let photos = EvaluatedSubject.PictureSet(label: Self.real, pictures: references)
        for set in [photos] + subject.sets {
            let isReal = set.label == Self.real
            var scores: [String: [Double]] = [:]
            var features: [[Features]] = []
            for (index, picture) in set.pictures.enumerated() {
                // A photo is no evidence for itself.
                let others = chosen.filter { !isReal || $0 != index }
                let own = try seen(picture.raster, isReference: false)
                features.append(own)
                var result: [String: Double] = [:]
                for (number, measure) in measures.enumerated() {
                    if !others.isEmpty {
                        let values = others.map { prepared[$0][number].found(in: own[number]) }
                        result["identity.\(measure.name)"] = values.reduce(0, +) / Double(values.count)
                    }
                    if let prompt = picture.prompt, let text = measure.text {
                        result["text.\(measure.name)"] = try text(prompt).found(in: own[number])
                    }
                }
                let nearest = references.indices.filter { !isReal || $0 != index }
                if let copy = nearest.map({ copies[$0](picture.raster) }).max() { result["copy"] = copy }
                for (name, value) in result { scores[name, default: []].append(value) }
                report.pictures.append(
                    Report.PictureEntry(
                        subject: subject.name, set: set.label, file: picture.name, prompt: picture.prompt,
                        scores: result))
            }
            for (number, measure) in measures.enumerated() {
                scores["diversity.\(measure.name)"] = Self.distances(features.map { $0[number] })
            }
            if !report.rows.contains(where: { $0.label == set.label }) {
                report.rows.append(Report.Row(label: set.label, imageScale: set.imageScale, scores: [:]))
            }
            for (name, values) in scores { groups[set.label, default: [:]][name, default: []].append(values) }
        }
    }

    /// What was found so far.
    public var result: Report {
        var report = report
        for index in report.rows.indices {
            let scores = groups[report.rows[index].label] ?? [:]
            report.rows[index].scores = scores.compactMapValues(Spread.init(groups:))
        }
        return report
    }

    private func seen(_ picture: Raster, isReference: Bool) throws -> [Features] {
        let picture = method == .masked ? try cutOut(picture) : picture
        return try measures.map { try isReference ? $0.reference(picture) : $0.features(picture) }
    }

    /// One less the likeness of each two.
    private static func distances(_ features: [Features]) -> [Double] {
        var distances: [Double] = []
        for (index, one) in features.enumerated() {
            for other in features[(index + 1)...] {
                distances.append(1 - (one.found(in: other) + other.found(in: one)) / 2)
            }
        }
        return distances
    }
}
