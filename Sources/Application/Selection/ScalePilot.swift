import DreamCache
import Foundation
import Spool

/// A short run at several scales, for jobs whose `image_scale` is `auto`: few steps, one or two of the job's own prompts, each
/// with the seed of its first image, so that the scales are compared on the same noise.
struct ScalePilot {
    /// The scales that are tried, a factor of two apart. The first is the plain model's scene with the subject's keys, and what
    /// the others are measured by.
    static let scales = [0, 0.25, 0.5, 1, 2, 4, 8]
    /// Most prompts of a job that are tried.
    static let maximumPrompts = 2
    /// Most steps of a picture.
    static let maximumSteps = 8
    /// How much of what the subject's score gains over the first scale is enough.
    static let share = 0.9
    /// How much less the text's score may be than that of the best scale: about what methods differ by.
    static let textMargin = 0.02

    /// How far a pilot is: what a checkpoint holds. A picture that is not finished is begun again.
    struct State: Codable {
        /// Of what makes and what judges the pictures.
        let identity: String
        /// Scores of the pictures so far: all prompts of the first scale, then of the next.
        var scores: [[String: Double]] = []
        var evaluations = 0
        var seconds = 0.0
    }

    let pipeline: Pipeline
    let judge: CandidateJudge
    /// What is made, but for prompt, seed, scales and steps.
    let request: ImageRequest
    /// Of each cache, whether the job leaves its scale open.
    let isOpen: [Bool]
    /// The first images of the prompts that are tried.
    let plans: [ImagePlan]

    /// The images that a job's pilot tries.
    static func plans(of manifest: JobManifest, seed: Int) -> [ImagePlan] {
        let count = min(maximumPrompts, manifest.prompts.count)
        return (0..<count).map { index in
            manifest.plan(image: index * manifest.prompts.count / count * manifest.imagesPerPrompt, seed: seed)
        }
    }

    /// Tries all scales that `state` has not, and chooses one.
    ///
    /// - Parameter keep: given the state after each picture.
    func run(
        from kept: State?, keep: (State) -> Void, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws -> Tuning {
        let identity = pipeline.identity + judge.identity
        var state = kept.flatMap { $0.identity == identity ? $0 : nil } ?? State(identity: identity)
        let count = Self.scales.count * plans.count
        let steps = min(request.steps, Self.maximumSteps)
        while state.scores.count < count {
            let number = state.scores.count
            func report() { progress(RenderProgress(phase: "pilot", step: number, steps: count)) }
            report()
            let begun = ContinuousClock.now
            let before = pipeline.evaluations
            let plan = plans[number % plans.count]
            var trial = request
            trial.prompt = plan.prompt
            trial.seed = UInt64(clamping: plan.seed)
            trial.steps = steps
            let scale = ScaleSchedule(Self.scales[number / plans.count])
            trial.imageScales = zip(isOpen, request.imageScales ?? []).map { $0 ? scale : $1 }
            let picture = try pipeline.generate(trial, progress: { _, _, _ in report() }, shouldStop: shouldStop)
            let scores = try judge.scores(
                of: picture, prompt: plan.prompt, progress: { _ in report() }, shouldStop: shouldStop)
            state.scores.append(scores)
            state.evaluations += pipeline.evaluations - before + 1
            state.seconds += begun.seconds(to: .now)
            keep(state)
        }
        let trials = Self.scales.enumerated().map { index, scale in
            Tuning.Trial(
                imageScale: scale, scores: Self.means(state.scores[index * plans.count..<(index + 1) * plans.count]))
        }
        return Tuning(
            imageScale: Self.choice(trials), trials: trials, pictures: count, steps: steps,
            evaluations: state.evaluations, seconds: state.seconds)
    }

    /// The smallest scale that is enough. More of the subject's score is not better without end: at large scales it still
    /// grows a little, while pictures come to repeat the photo. Where texts are scored too, a scale that loses the prompt does
    /// not count.
    static func choice(_ trials: [Tuning.Trial]) -> Double {
        let bestText = trials.compactMap { $0.scores["text"] }.max()
        let kept = trials.filter { trial in
            guard let bestText, let text = trial.scores["text"] else { return true }
            return text >= bestText - textMargin
        }
        func subject(_ trial: Tuning.Trial) -> Double { trial.scores["subject"] ?? 0 }
        guard let first = trials.first, let best = kept.map(subject).max() else { return 0 }
        let enough = subject(first) + share * max(0, best - subject(first))
        return (kept.first { subject($0) >= enough } ?? kept[0]).imageScale
    }

    private static func means(_ scores: ArraySlice<[String: Double]>) -> [String: Double] {
        let names = Set(scores.flatMap(\.keys))
        return Dictionary(
            uniqueKeysWithValues: names.map { name in
                let mean = scores.reduce(0) { $0 + ($1[name] ?? 0) } / Double(scores.count)
                return (name, (mean * 1e6).rounded() / 1e6)
            })
    }
}

/// The checkpoint of a job's first image whose scale is chosen first: the pilot's state, then the scale, then the image's own.
/// Belongs to the renderer's thread.
final class TunedState: @unchecked Sendable {
    // Unchecked: the renderer's thread alone touches it.
    private struct Document: Codable {
        let identity: String
        var pilot: ScalePilot.State?
        var tuning: Tuning?
        var image: Data?
        /// How often it was kept.
        var step = 0
    }

    private var document: Document
    private let outer: CheckpointSlot

    /// What is kept of this image by this model, or the beginning.
    init(_ slot: CheckpointSlot, identity: String) {
        outer = slot
        let kept = slot.load().flatMap { try? PropertyListDecoder().decode(Document.self, from: Data($0)) }
        document = kept.flatMap { $0.identity == identity ? $0 : nil } ?? Document(identity: identity)
    }

    /// How far the pilot is.
    var pilot: ScalePilot.State? { document.pilot }
    /// What it has chosen.
    var tuning: Tuning? { document.tuning }

    /// The place for the image's own state.
    var slot: CheckpointSlot {
        CheckpointSlot(
            load: { self.document.image.map { [UInt8]($0) } }, isDue: outer.isDue,
            save: { state, _ in
                self.document.image = Data(state)
                self.save()
            })
    }

    /// The pilot is further.
    func keep(_ pilot: ScalePilot.State) {
        document.pilot = pilot
        save()
    }

    /// The pilot is done.
    func keep(_ tuning: Tuning) {
        guard document.tuning == nil else { return }
        (document.pilot, document.tuning) = (nil, tuning)
        save()
    }

    private func save() {
        document.step += 1
        let encoder = PropertyListEncoder()
        encoder.outputFormat = .binary
        guard let bytes = try? encoder.encode(document) else { return }
        outer.save([UInt8](bytes), document.step)
    }
}
