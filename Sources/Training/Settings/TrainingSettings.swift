import Diffusion

/// The parameters of a training run. ``SettingField`` names each for files, with its range and meaning.
///
/// Source of the defaults: DreamCache, section 4.1, where nothing else is said.
public struct TrainingSettings: Sendable, Equatable {
    /// How the learning rate goes on after the warm-up.
    public enum Decay: String, CaseIterable, Sendable {
        /// It stays.
        case constant
        /// Half a cosine, down to ``TrainingSettings/finalRateShare`` at the last step.
        case cosine
    }

    /// Which view of an object is the reference.
    public enum ReferenceView: String, CaseIterable, Sendable {
        /// Another than the target, where the object has several: copying is no use.
        case other
        /// The target's own, as the authors have it.
        case same
    }

    /// What of the posterior is the latent of a target.
    public enum LatentChoice: String, CaseIterable, Sendable {
        /// A sample, another one each time, as Stable Diffusion was trained.
        case sample
        /// The mean.
        case mean
    }

    // Length.

    /// Steps of the optimiser in all.
    public var steps = 10_000
    /// Samples a step. They are computed one after another, and their gradients are added up.
    public var batchSize = 8
    /// What all random numbers depend on.
    public var seed = 0

    // Start.

    /// `self`, `random`, or the path of an adapter.
    public var start = "self"
    /// Of a start from `self`: the weight of attention to the cache, beside 1 minus it for self-attention.
    public var selfWeight = 0.5

    // Optimiser.

    /// The learning rate after the warm-up.
    public var learningRate = 1e-5
    /// Steps in which the rate rises to that.
    public var warmupSteps = 100
    /// How it goes on.
    public var decay = Decay.constant
    /// Of ``Decay/cosine``: the last rate as a share of the greatest.
    public var finalRateShare = 0.0
    /// Of AdamW.
    public var weightDecay = 0.01
    /// Of AdamW.
    public var beta1 = 0.9
    /// Of AdamW.
    public var beta2 = 0.999
    /// The greatest Euclidean norm of a step's gradients; longer ones are shortened to it. 0 is no limit.
    public var clipNorm = 1.0
    /// Decay of the running mean of the parameters, which is the result. 0 is no mean: the last parameters are.
    public var averageDecay = 0.999

    // Loss.

    /// Min-SNR weighting (Hang et al. 2023): the gamma of it; 0 is none.
    public var minSNRGamma = 0.0
    /// More weight where there is more noise: the loss times (1 + 1 / SNR) to this power.
    public var noiseEmphasis = 0.0
    /// Share of the samples that have no caption.
    public var emptyCaptions = 0.07

    // References.

    /// Which view is the reference.
    public var referenceView = ReferenceView.other
    /// Share of the samples whose reference is left blank, all white.
    public var blankReferences = 0.0
    /// How many differently augmented references of each view are prepared.
    public var referenceVariants = 2
    /// The least share of a reference's area that the square around its subject covers.
    public var leastSubjectArea = 0.7
    /// Share of the references that are flipped.
    public var flips = 0.5
    /// Share of the references whose colours are changed.
    public var jitters = 0.1
    /// By how much brightness, contrast and saturation change at most.
    public var jitterStrength = 0.2
    /// Share of the references of which a rectangle is erased to white.
    public var erasures = 0.4
    /// The least share of the area that is erased.
    public var leastErasure = 0.02
    /// The greatest.
    public var greatestErasure = 0.25

    // Targets.

    /// What of the posterior is taken.
    public var latents = LatentChoice.sample
    /// The least side of a picture, in pixels; 0 is half of the model's.
    public var minimumSide = 0

    // The run.

    /// What is kept for the way back; the results are the same.
    public var keeping = KeptForBackward.everything
    /// Seconds between two savings of the state.
    public var saveSeconds = 180.0
    /// The run stops where the mean loss of ``Trainer/window`` steps has risen to so many times the least there was; 0 is never.
    public var jumpFactor = 3.0
    /// Steps between two validations; 0 is none.
    public var validationSteps = 500
    /// Share of the objects that are kept for validation and never trained on, at least one.
    public var validationShare = 0.02
    /// Samples of a validation.
    public var validationSamples = 32

    /// All as above.
    public init() {}

    /// The learning rate of a step, the first being 0.
    public func learningRate(at step: Int) -> Double {
        if step < warmupSteps { return learningRate * Double(step + 1) / Double(warmupSteps) }
        guard decay == .cosine else { return learningRate }
        let share = min(1, Double(step - warmupSteps + 1) / Double(max(1, steps - warmupSteps)))
        return learningRate * (finalRateShare + (1 - finalRateShare) * halfCosine(share))
    }

    /// The share of the way to the parameters that their running mean goes after a step, the first being 1. The mean has a
    /// short memory at first: parameters of the first steps are worth little.
    func averageShare(after step: Int) -> Double {
        averageDecay == 0 ? 1 : 1 - min(averageDecay, Double(step) / Double(step + 10))
    }

    /// The weight of the loss at a timestep.
    func lossWeight(alphaCumprod: Double, prediction: PredictionType) -> Double {
        // At zero terminal SNR the ratio is 0 at the end; its reciprocal must stay a number.
        let snr = max(alphaCumprod / max(1 - alphaCumprod, 1e-12), 1e-8)
        var weight = 1.0
        if minSNRGamma > 0 {
            // Equal weights of the noiseless sample's error, in terms of what is predicted.
            let clamped = min(snr, minSNRGamma)
            switch prediction {
            case .epsilon: weight = clamped / snr
            case .vPrediction: weight = clamped / (snr + 1)
            case .sample: weight = clamped
            }
        }
        if noiseEmphasis > 0 { weight *= power(1 + 1 / snr, noiseEmphasis) }
        return weight
    }
}
