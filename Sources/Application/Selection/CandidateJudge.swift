import DreamCache
import Evaluation
import Raster
import Spool
import Vision

/// Gives candidates their scores, by what a manifest asks for.
struct CandidateJudge {
    private let criterion: Selection.Criterion
    private let pipeline: Pipeline
    private let caches: [FeatureCache]
    private let encoder: LoadedEncoder?
    private let photos: [GridRequest.Reference]
    private let read: (String) throws -> Raster

    /// - Parameters:
    ///   - caches: of the subjects that are looked for.
    ///   - encoder: the one that `criterion` needs.
    ///   - photos: of the subjects, where `criterion` needs them.
    ///   - read: reads a photo.
    /// - Throws: `RendererError.rejected` where there is nothing to judge by.
    init(
        _ criterion: Selection.Criterion, pipeline: Pipeline, caches: [FeatureCache], encoder: LoadedEncoder?,
        photos: [GridRequest.Reference], read: @escaping (String) throws -> Raster
    ) throws(RendererError) {
        guard !criterion.needsSubjects || !caches.isEmpty, !criterion.needsPhotos || !photos.isEmpty else {
            throw .rejected(
                field: "$.select.by",
                message: "found \(criterion.name) without photos, expected photos of a subject, or text")
        }
        if criterion == .text || criterion == .both, encoder?.encoder.readsText != true {
            throw .unavailable(
                message: "encoders.\(Selection.textEncoder): found \(encoder?.encoder.name ?? "none"), expected a CLIP")
        }
        self.criterion = criterion
        self.pipeline = pipeline
        self.caches = caches
        self.encoder = encoder
        self.photos = photos
        self.read = read
    }

    /// What the scores depend on besides the pipeline; empty where that is all.
    var identity: String { encoder.map { " \(criterion.name)=\($0.identity)" } ?? "" }

    /// The scores of a candidate, by what gave them. What is no number is the fault of what judges.
    func scores(
        of picture: Raster, prompt: String, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws -> [String: Double] {
        var scores: [String: Double] = [:]
        if criterion == .subject || criterion == .both {
            do { scores["subject"] = try subject(picture, progress, shouldStop) } catch DreamCacheError.notFinite(
                let what, let found)
            {
                throw RendererError.unavailable(message: "the score 'subject': \(what) is not finite (\(found))")
            }
        }
        if criterion == .text || criterion == .both { scores["text"] = try encoder?.text(prompt, picture) }
        if criterion.needsPhotos { scores[criterion.name] = try likeness(picture) }
        for (name, score) in scores where !score.isFinite {
            throw RendererError.unavailable(message: "the score '\(name)': found \(score), expected a number")
        }
        // A millionth is more than any of them means.
        return scores.mapValues { ($0 * 1e6).rounded() / 1e6 }
    }

    /// The mean, over the subjects, of how much of each is found.
    private func subject(
        _ picture: Raster, _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws -> Double {
        guard let site = pipeline.matchSite else { return 0 }
        var seen: [(options: CacheOptions, features: Features)] = []
        var sum = 0.0
        for cache in caches {
            let options = cache.options
            if !seen.contains(where: { $0.options == options }) {
                let tokens = try pipeline.matchTokens(
                    of: picture, options: options,
                    progress: { progress(RenderProgress(phase: $0, step: $1, steps: $2)) }, shouldStop: shouldStop)
                seen.append((options, Features(tokens)))
            }
            guard let own = seen.first(where: { $0.options == options })?.features else { continue }
            let found = cache.matchTokens(at: site).map { Features($0).found(in: own) }
            sum += found.reduce(0, +) / Double(max(found.count, 1))
        }
        return sum / Double(max(caches.count, 1))
    }

    /// The mean, over the subjects, of the likeness to their photos.
    private func likeness(_ picture: Raster) throws -> Double {
        let subjects = Dictionary(grouping: photos, by: \.subject).sorted { $0.key < $1.key }
        let found = try subjects.map { _, photos in
            try encoder?.likeness(of: picture, to: photos.map(\.path), read: read) ?? 0
        }
        return found.reduce(0, +) / Double(max(found.count, 1))
    }
}

extension Selection.Criterion {
    /// Where the encoder lies that it needs; nil where it needs none.
    ///
    /// - Parameter encoders: paths of those that are configured, by name.
    /// - Throws: `.rejected` where the one that it needs is not configured.
    func encoderPath(in encoders: [String: String]) throws(RendererError) -> String? {
        guard let name = encoder else { return nil }
        if let path = encoders[name] { return path }
        let known = encoders.keys.sorted().joined(separator: ", ")
        let configured = known.isEmpty ? "none is configured" : "configured: \(known)"
        let need =
            needsPhotos
            ? "expected \(Selection.reservedNames.joined(separator: ", ")), or a configured encoder"
            : "which needs a CLIP; expected an encoder named \(Selection.textEncoder) in the configuration"
        throw .rejected(field: "$.select.by", message: "found '\(self.name)', \(need) (\(configured))")
    }
}

extension Features {
    /// What the base model sees in a picture.
    init(_ tokens: MatchTokens) {
        self.init(rows: tokens.tokens, width: tokens.width, foreground: tokens.foreground)
    }
}

extension Choice {
    /// The best of some candidates: that of the greatest score. Of several scores each counts alike: what is added is how many
    /// standard deviations of the candidates it is above their mean. Of equal ones the first is chosen.
    init(_ candidates: [Candidate]) {
        var totals = [Double](repeating: 0, count: candidates.count)
        for name in Set(candidates.flatMap(\.scores.keys)).sorted() {
            let values = candidates.map { $0.scores[name] ?? 0 }
            let mean = values.reduce(0, +) / Double(values.count)
            let deviation = (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)).squareRoot()
            guard deviation > 0 else { continue }
            for index in totals.indices { totals[index] += (values[index] - mean) / deviation }
        }
        var best = 0
        for index in totals.indices where totals[index] > totals[best] { best = index }
        self.init(best: best, candidates: candidates)
    }
}
