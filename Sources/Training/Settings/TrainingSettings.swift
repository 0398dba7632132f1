import Diffusion

/// The parameters of a training run: a property for each of ``SettingFields``, which has their names in files, defaults, ranges
/// and meanings.
@dynamicMemberLookup
public struct TrainingSettings: Sendable, Equatable {
    /// How the learning rate goes on after the warm-up.
    public enum Decay: String, CaseIterable, Sendable {
        /// It stays.
        case constant
        /// Half a cosine, down to `final_rate_share` at the last step.
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

    private var values: [String: SettingValue]

    /// All have their defaults.
    public init() {
        values = Dictionary(uniqueKeysWithValues: SettingFields.all.map { ($0.name, $0.initial) })
    }

    /// Each field of ``SettingFields`` by its name there.
    public subscript<Value>(dynamicMember field: KeyPath<SettingFields, SettingField<Value>>) -> Value {
        get {
            let field = SettingFields.named[keyPath: field]
            return field.value(self[field]) ?? field.initialValue
        }
        set {
            let field = SettingFields.named[keyPath: field]
            values[field.name] = field.stored(newValue)
        }
    }

    /// The value of a field.
    subscript(field: any AnySettingField) -> SettingValue {
        get { values[field.name] ?? field.initial }
        set { values[field.name] = newValue }
    }

    /// The learning rate of a step, the first being 0.
    func rate(at step: Int) -> Double {
        if step < self.warmupSteps { return self.learningRate * Double(step + 1) / Double(self.warmupSteps) }
        guard self.decay == .cosine else { return self.learningRate }
        let share = min(1, Double(step - self.warmupSteps + 1) / Double(max(1, self.steps - self.warmupSteps)))
        return self.learningRate * (self.finalRateShare + (1 - self.finalRateShare) * halfCosine(share))
    }

    /// The share of the way to the parameters that their running mean goes after a step, the first being 1. The mean has a
    /// short memory at first: parameters of the first steps are worth little.
    func averageShare(after step: Int) -> Double {
        self.averageDecay == 0 ? 1 : 1 - min(self.averageDecay, Double(step) / Double(step + 10))
    }

    /// The weight of the loss at a timestep.
    func lossWeight(alphaCumprod: Double, prediction: PredictionType) -> Double {
        // At zero terminal SNR the ratio is 0 at the end; its reciprocal must stay a number.
        let snr = max(alphaCumprod / max(1 - alphaCumprod, 1e-12), 1e-8)
        var weight = 1.0
        if self.minSNRGamma > 0 {
            // Equal weights of the noiseless sample's error, in terms of what is predicted.
            let clamped = min(snr, self.minSNRGamma)
            switch prediction {
            case .epsilon: weight = clamped / snr
            case .vPrediction: weight = clamped / (snr + 1)
            case .sample: weight = clamped
            }
        }
        if self.noiseEmphasis > 0 { weight *= power(1 + 1 / snr, self.noiseEmphasis) }
        return weight
    }
}
