import Bytes
import Diffusion
import DreamCache
import Evaluation
import Raster
import TensorEngine

/// What the pictures of a milestone came to.
public struct MilestoneResult: Sendable, Equatable {
    /// Steps made before it.
    public let step: Int
    /// How much of the subjects the base model finds again in the pictures (`subject_match` of `dreamcache evaluate`), the mean.
    public let match: Double
    /// How far the pictures repeat the references pixel by pixel, 0 to 1, the mean.
    public let copy: Double
}

/// Pictures of the same subjects, prompts and seeds at each milestone, on one sheet with their scores. The subjects are of the
/// objects kept for validation, where there are any.
struct Milestones {
    private struct Subject {
        let name: String, prompt: String
        let reference: Raster
        let cache: FeatureCache
        let features: Features
    }

    private static let mostSubjects = 4
    private static let denoisingSteps = 20

    private let subjects: [Subject]
    private let pipeline: Pipeline
    private let settings: TrainingSettings

    init(
        _ data: TrainingData, _ prepared: PreparedData, pipeline: Pipeline, settings: TrainingSettings
    ) throws(TrainingError) {
        (self.pipeline, self.settings) = (pipeline, settings)
        var subjects: [Subject] = []
        for views in data.shown.prefix(Self.mostSubjects) {
            let (reference, cache) = try prepared.reference(views[0])
            subjects.append(
                Subject(
                    name: views[0].view.name, prompt: views[views.count > 1 ? 1 : 0].view.caption,
                    reference: reference, cache: cache, features: try Self.features(of: reference, pipeline)))
        }
        self.subjects = subjects
    }

    /// Draws the pictures with the averaged adapter, and writes `milestones/STEP.png` and the adapter beside it.
    func draw(
        _ trainer: Trainer, binding: RunBinding, in folder: RunFolder, progress: (_ done: Int, _ of: Int) -> Void,
        shouldStop: () -> Bool
    ) throws(TrainingError) -> MilestoneResult {
        let place = folder.file(TrainingRun.milestones)
        try makeFolder(place)
        let path = "\(place)/adapter.safetensors"
        try AdapterResult(trainer, binding: binding).write(to: path)
        let personal = try onMethod { () throws(DreamCacheError) in
            try Pipeline(
                model: pipeline.model,
                adapter: try Adapter(path: path, for: pipeline.model, engine: pipeline.model.engine),
                modelHash: pipeline.modelHash, adapterHash: nil, featureHash: pipeline.featureHash)
        }
        var drawn: [(picture: Raster, match: Double, copy: Double)] = []
        for (index, subject) in subjects.enumerated() {
            progress(index, subjects.count)
            var request = ImageRequest(prompt: subject.prompt, seed: UInt64(settings.seed) &+ UInt64(index))
            request.steps = Self.denoisingSteps
            request.guidance = Guidance(imageScale: ScaleSchedule(settings.milestoneImageScale))
            request.caches = [subject.cache]
            let picture = try onMethod { () throws(DreamCacheError) in
                try personal.generate(request, shouldStop: shouldStop)
            }
            let seen = try Self.features(of: picture, pipeline)
            drawn.append(
                (picture, subject.features.found(in: seen), CopyScore(reference: subject.reference)(picture)))
        }
        progress(subjects.count, subjects.count)
        // What only drew is not needed for the next steps.
        pipeline.model.engine.trimMemory()
        try write(drawn, to: "\(place)/\(Self.fileName(step: trainer.step))")
        let count = Double(max(1, drawn.count))
        return MilestoneResult(
            step: trainer.step, match: drawn.reduce(0) { $0 + $1.match } / count,
            copy: drawn.reduce(0) { $0 + $1.copy } / count)
    }

    /// With as many digits as keep files of a run in order.
    static func fileName(step: Int) -> String {
        let digits = "\(step)"
        return String(repeating: "0", count: max(0, 8 - digits.count)) + digits + ".png"
    }

    private func write(
        _ drawn: [(picture: Raster, match: Double, copy: Double)], to path: String
    ) throws(TrainingError) {
        let side = pipeline.imageSize
        let captions = zip(subjects, drawn).map { subject, made in
            "\(subject.prompt): \(Self.text(made.match))" + (made.copy >= CopyScore.copied ? ", a copy" : "")
        }
        guard
            var sheet = ContactSheet(
                references: subjects.map(\.name), pictures: captions, size: (side, side), columns: 1)
        else { return }
        for (index, subject) in subjects.enumerated() { sheet.draw(reference: subject.reference, at: index) }
        for (index, made) in drawn.enumerated() { sheet.draw(picture: made.picture, at: index) }
        let png = try onPictures { () throws(RasterError) in try sheet.raster.encodedPNG(path: path) }
        try onFiles { () throws(FileError) in try AtomicFile.write(png, to: path) }
    }

    private static func text(_ score: Double) -> String { "\((score * 1000).rounded() / 1000)" }

    private static func features(of picture: Raster, _ pipeline: Pipeline) throws(TrainingError) -> Features {
        let seen = try onMethod { () throws(DreamCacheError) in try pipeline.matchTokens(of: picture) }
        return Features(rows: seen.tokens, width: seen.width, foreground: seen.foreground)
    }
}
