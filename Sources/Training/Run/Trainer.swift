import Checkpoint
import Diffusion
import DreamCache
import TensorEngine

/// What a step came to.
public struct TrainingStep: Sendable, Equatable {
    /// Its number, 1 for the first.
    public let step: Int
    /// Mean of the samples' losses, weighted as the settings say.
    public let loss: Double
    /// Mean of the samples' squared errors.
    public let error: Double
    /// Of this step.
    public let learningRate: Double
    /// Euclidean norm of the gradients before they were shortened.
    public let gradientNorm: Double
}

/// Trains an adapter, a step at a time. All that decides about the next steps is ``parameters``, ``average``, ``optimiser``,
/// ``step`` and ``history``, which a state on disk holds (`TrainingState.swift`). Belongs to one thread, as its engine does.
///
/// Golden: `train.losses`.
public final class Trainer {
    /// Over so many steps losses are averaged before they are compared.
    public static let window = 32

    /// How it trains.
    public let settings: TrainingSettings
    /// The adapter.
    public let parameters: AdapterParameters
    /// Running means of the parameters: the result.
    public let average: AdapterParameters
    let pass: TrainingPass
    var optimiser: AdamW
    /// Steps made so far.
    public internal(set) var step = 0
    var history = LossHistory()

    /// The model that is trained for.
    public var model: StableDiffusion { pass.model }

    /// - Parameter start: the adapter's tensors at the beginning.
    /// - Throws: `TrainingError.model` where they do not fit the model.
    public init(
        _ model: StableDiffusion, start: ParameterStore, settings: TrainingSettings
    ) throws(TrainingError) {
        let engine = model.engine
        self.settings = settings
        let schedule: TrainingSchedule
        do { schedule = try TrainingSchedule(model.configuration.schedule) } catch { throw .model(.schedule(error)) }
        pass = TrainingPass(model, schedule, keeping: settings.keeping)
        let parameters = try onMethod { () throws(DreamCacheError) in
            try AdapterParameters(start, for: model.unet, engine: engine)
        }
        self.parameters = parameters
        let values = try onEngine { () throws(EngineError) in try engine.copy(parameters.values) }
        average = AdapterParameters(parameters, values: values)
        optimiser = try onEngine { () throws(EngineError) in try AdamW(parameters, engine: engine) }
        (optimiser.beta1, optimiser.beta2) = (settings.beta1, settings.beta2)
        optimiser.weightDecay = settings.weightDecay
    }

    /// The parameters were set: their mean begins with them.
    func beginAverage() {
        parameters.values.withFloats { values in average.values.withFloats { _ = $0.update(fromContentsOf: values) } }
    }

    /// The next step of the optimiser. Where it throws, all that decides about the next steps is as before, but for a jump of
    /// the loss.
    ///
    /// - Parameter sample: gives a sample by its number; each step takes the next ``TrainingSettings/batchSize``.
    /// - Throws: `TrainingError.diverged` where loss or gradients are no numbers, or the loss has jumped.
    public func advance(
        _ sample: (_ number: Int) throws(TrainingError) -> TrainingSample
    ) throws(TrainingError) -> TrainingStep {
        let engine = model.engine
        parameters.clearGradients()
        let adapter = try onEngine { () throws(EngineError) in try TrainedAdapter(parameters, engine: engine) }
        let share = 1 / Double(settings.batchSize)
        var (loss, error) = (0.0, 0.0)
        for number in step * settings.batchSize..<(step + 1) * settings.batchSize {
            let sample = try sample(number)
            let weight = lossWeight(at: sample.timestep)
            let own = try onEngine { () throws(EngineError) in
                try pass(sample, adapter: adapter, weight: share * weight)
            }
            loss += share * weight * own
            error += share * own
        }
        let rate = settings.rate(at: step)
        let norm = try onEngine { () throws(EngineError) in try engine.norm(parameters.gradients) }
        guard loss.isFinite, norm.isFinite else {
            throw .diverged(
                step: step + 1, found: "loss \(loss) and gradients of norm \(norm)", expected: "finite numbers")
        }
        try onEngine { () throws(EngineError) in try update(rate: rate, norm: norm) }
        step += 1
        history.add(loss)
        if settings.jumpFactor > 0, history.rise > settings.jumpFactor {
            throw .diverged(
                step: step, found: "a mean loss of \(history.mean ?? 0) over \(Self.window) steps",
                expected: "at most \(settings.jumpFactor) times the least there was, \(history.lowest)")
        }
        return TrainingStep(step: step, loss: loss, error: error, learningRate: rate, gradientNorm: norm)
    }

    /// Moves the parameters along the gradients, and their means after them.
    private func update(rate: Double, norm: Double) throws(EngineError) {
        let engine = model.engine
        if settings.clipNorm > 0, norm > settings.clipNorm {
            // torch.nn.utils.clip_grad_norm_
            try engine.scale(parameters.gradients, by: Float(settings.clipNorm / (norm + 1e-6)))
        }
        try optimiser.step(parameters, learningRate: rate, engine: engine)
        try engine.approach(
            parameters.values, mean: average.values, share: Float(settings.averageShare(after: optimiser.steps)))
    }

    func lossWeight(at timestep: Int) -> Double {
        settings.lossWeight(
            alphaCumprod: pass.schedule.alphasCumprod[timestep],
            prediction: model.configuration.schedule.predictionType)
    }

    /// Whether the run is well enough for its state to take the place of the last one: half of the way to a jump is too far.
    public var isWell: Bool {
        settings.jumpFactor <= 1 || history.rise <= 1 + (settings.jumpFactor - 1) / 2
    }
}
