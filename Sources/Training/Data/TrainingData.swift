import Bytes
import Diffusion
import TensorEngine

/// The samples of a run: which sample has which target, reference, caption, timestep and noise is a function of the seed and of the
/// sample's number alone.
public final class TrainingData {
    private struct Target {
        let object: Int, view: Int
    }

    /// SHA-256 over all pictures, captions and masks.
    public let digest: String
    let trained: [[CheckedView]]
    let validated: [[CheckedView]]
    private let prepared: PreparedData
    private let settings: TrainingSettings
    private let timesteps: Int
    private let targets: [Target]
    private let engine: Engine
    private var order: (epoch: Int, targets: [Int]) = (-1, [])

    init(
        _ dataset: Dataset, checked: [String: CheckedView], prepared: PreparedData, settings: TrainingSettings,
        timesteps: Int, engine: Engine
    ) {
        self.prepared = prepared
        self.settings = settings
        self.timesteps = timesteps
        self.engine = engine
        let objects = dataset.objects.map { object in object.views.compactMap { checked[$0.name] } }
        var count = Int((Double(objects.count) * settings.validationShare).rounded())
        if settings.validationShare > 0, objects.count > 1 { count = min(max(count, 1), objects.count - 1) }
        var random = SampleRandom(seed: settings.seed, .split)
        let chosen = Set(random.permutation(objects.count).prefix(objects.count > 1 ? count : 0))
        trained = objects.indices.filter { !chosen.contains($0) }.map { objects[$0] }
        validated = objects.indices.filter(chosen.contains).map { objects[$0] }
        targets = trained.enumerated().flatMap { object, views in
            views.indices.map { Target(object: object, view: $0) }
        }
        let lines = objects.flatMap { $0 }.flatMap { view in
            [view.view.name, view.facts.picture, view.facts.mask ?? "no mask", view.view.caption]
        }
        digest = sha256(lines.map { "\($0.utf8.count) \($0)\n" }.joined().utf8)
    }

    /// Targets that are trained on: so many samples are an epoch.
    public var targetCount: Int { targets.count }

    /// Sample `number` of the run.
    public func sample(_ number: Int) throws(TrainingError) -> TrainingSample {
        let (epoch, place) = number.quotientAndRemainder(dividingBy: targets.count)
        if order.epoch != epoch {
            var random = SampleRandom(seed: settings.seed, .order, epoch)
            order = (epoch, random.permutation(targets.count))
        }
        let target = targets[order.targets[place]]
        var random = SampleRandom(seed: settings.seed, .sample, number)
        let timestep = random.below(timesteps)
        let isUncaptioned = random.chance(settings.emptyCaptions)
        let isBlank = random.chance(settings.blankReferences)
        let views = trained[target.object]
        let reference = self.reference(of: target.view, among: views, &random)
        return try sample(
            views[target.view], timestep: timestep, caption: isUncaptioned ? "" : nil,
            memory: isBlank
                ? try prepared.blankMemory() : try prepared.memory(reference.view, variant: reference.variant),
            purpose: number)
    }

    /// The view that is the reference of a target, and which of its variants.
    private func reference(
        of target: Int, among views: [CheckedView], _ random: inout SampleRandom
    ) -> (view: CheckedView, variant: Int) {
        let place = random.below(max(1, views.count - 1))
        let variant = random.below(settings.referenceVariants)
        guard settings.referenceView == .other, views.count > 1 else { return (views[target], variant) }
        return (views[place < target ? place : place + 1], variant)
    }

    private func sample(
        _ view: CheckedView, timestep: Int, caption: String?, memory: [InjectionSite: Tensor], purpose number: Int
    ) throws(TrainingError) -> TrainingSample {
        let posterior = try prepared.target(view)
        var latent = posterior.mean
        if settings.latents == .sample {
            var random = SampleRandom(seed: settings.seed, .posterior, number)
            let noise = random.normals(latent.count)
            for i in latent.indices { latent[i] += posterior.deviation[i] * noise[i] }
        }
        var random = SampleRandom(seed: settings.seed, .noise, number)
        return TrainingSample(
            latent: latent, noise: random.normals(latent.count), height: posterior.side, width: posterior.side,
            timestep: timestep, text: try prepared.text(caption ?? view.view.caption), memory: memory)
    }

    // MARK: Validation

    /// The objects on which a run is judged: those that are not trained on, or all where none were kept.
    var shown: [[CheckedView]] { validated.isEmpty ? trained : validated }

    /// Sample `number` of a validation, the same each time, with timesteps spread evenly.
    func validationSample(_ number: Int) throws(TrainingError) -> TrainingSample {
        let objects = shown
        var random = SampleRandom(seed: settings.seed, .validation, number)
        let views = objects[number % objects.count]
        let target = random.below(views.count)
        let reference = self.reference(of: target, among: views, &random)
        // Neighbours in number are of different objects, and so are neighbours in time.
        let timestep = (2 * number + 1) * timesteps / (2 * settings.validationSamples)
        return try sample(
            views[target], timestep: min(timestep, timesteps - 1), caption: nil,
            memory: try prepared.memory(reference.view, variant: reference.variant), purpose: -1 - number)
    }
}
