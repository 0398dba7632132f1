import Diffusion

/// A parameter of a run as files and people name it.
struct SettingField: Sendable {
    typealias Path<Value> = any (WritableKeyPath<TrainingSettings, Value> & Sendable)

    /// What kind of value it has, and where that is.
    enum Kind: Sendable {
        case integer(Path<Int>, ClosedRange<Int>)
        case number(Path<Double>, ClosedRange<Double>)
        case text(Path<String>, expected: String)
        case choice(
            [String], get: @Sendable (TrainingSettings) -> String,
            set: @Sendable (inout TrainingSettings, String) -> Void)
    }

    let name: String
    let kind: Kind
    let meaning: String
    /// Whether the adapter of a run depends on it.
    var decides = true

    private static func choice<Value: RawRepresentable & CaseIterable & Sendable>(
        _ name: String, _ path: Path<Value>, _ meaning: String, decides: Bool = true
    ) -> SettingField where Value.RawValue == String {
        let kind = Kind.choice(Value.allCases.map(\.rawValue), get: { $0[keyPath: path].rawValue }) { settings, text in
            if let value = Value(rawValue: text) { settings[keyPath: path] = value }
        }
        return SettingField(name: name, kind: kind, meaning: meaning, decides: decides)
    }
    private static func share(_ name: String, _ path: Path<Double>, _ meaning: String) -> SettingField {
        SettingField(name: name, kind: .number(path, 0...1), meaning: meaning)
    }
    private static func number(
        _ name: String, _ path: Path<Double>, _ range: ClosedRange<Double>, _ meaning: String, decides: Bool = true
    ) -> SettingField { SettingField(name: name, kind: .number(path, range), meaning: meaning, decides: decides) }
    private static func integer(
        _ name: String, _ path: Path<Int>, _ range: ClosedRange<Int>, _ meaning: String, decides: Bool = true
    ) -> SettingField { SettingField(name: name, kind: .integer(path, range), meaning: meaning, decides: decides) }

    /// All of them, in the order in which they are printed.
    static let all: [SettingField] = [
        integer("steps", \.steps, 1...100_000_000, "Steps of the optimiser in all."),
        integer("batch_size", \.batchSize, 1...65_536, "Samples a step; they are computed one after another."),
        integer("seed", \.seed, 0...Int.max, "What all random numbers depend on."),
        SettingField(
            name: "start", kind: .text(\.start, expected: "self, random or the path of an adapter"),
            meaning: "self (the base's own self-attention), random, or the path of an adapter."),
        share("self_weight", \.selfWeight, "Of a start from self: the weight of attention to the cache."),
        number("learning_rate", \.learningRate, 0...1, "Learning rate after the warm-up."),
        integer("warmup_steps", \.warmupSteps, 0...100_000_000, "Steps in which the learning rate rises."),
        choice("decay", \.decay, "How the learning rate goes on: constant, or a half cosine to the last step."),
        share("final_rate_share", \.finalRateShare, "Of a cosine: the last learning rate as a share of the greatest."),
        number("weight_decay", \.weightDecay, 0...1, "Of AdamW."),
        number("beta1", \.beta1, 0...0.999999, "Of AdamW."),
        number("beta2", \.beta2, 0...0.999999, "Of AdamW."),
        number("clip_norm", \.clipNorm, 0...1e9, "Greatest Euclidean norm of a step's gradients; 0 is no limit."),
        number(
            "average_decay", \.averageDecay, 0...0.999999,
            "Decay of the parameters' running mean (EMA), which is the result; 0 is no mean."),
        number("min_snr_gamma", \.minSNRGamma, 0...1e6, "Gamma of min-SNR weighting (Hang et al. 2023); 0 is none."),
        number("noise_emphasis", \.noiseEmphasis, 0...1, "The loss is multiplied by (1 + 1 / SNR) to this power."),
        share("empty_captions", \.emptyCaptions, "Share of samples without a caption."),
        choice("reference_view", \.referenceView, "other: a view of the object that is not the target; or same."),
        share("blank_references", \.blankReferences, "Share of samples whose reference is left blank."),
        integer(
            "reference_variants", \.referenceVariants, 1...1000,
            "Augmented references of each view; what they leave in the U-Net is kept on disk."),
        number(
            "least_subject_area", \.leastSubjectArea, 0.01...1,
            "Least share of a reference that the square around its subject covers."),
        share("flips", \.flips, "Share of references that are flipped."),
        share("jitters", \.jitters, "Share of references whose colours are changed."),
        share("jitter_strength", \.jitterStrength, "Greatest change of brightness, contrast and saturation."),
        share("erasures", \.erasures, "Share of references that are partly erased."),
        share("least_erasure", \.leastErasure, "Least share of the area that is erased."),
        share("greatest_erasure", \.greatestErasure, "Greatest share of the area that is erased."),
        choice("latents", \.latents, "What of a target's posterior is taken: a sample, or the mean."),
        integer(
            "minimum_side", \.minimumSide, 0...65_536, "Least side of a picture in pixels; 0 is half of the model's."),
        choice(
            "keeping", \.keeping, "What is kept for the way back: everything, or inputs (less memory).", decides: false),
        number("save_seconds", \.saveSeconds, 0...86_400, "Seconds between two savings of the state.", decides: false),
        number(
            "jump_factor", \.jumpFactor, 0...1e9,
            "The run stops where the mean loss rises to so many times its least; 0 is never.", decides: false),
        integer(
            "validation_steps", \.validationSteps, 0...100_000_000, "Steps between two validations; 0 is none.",
            decides: false),
        share("validation_share", \.validationShare, "Share of the objects that are kept for validation."),
        integer("validation_samples", \.validationSamples, 1...65_536, "Samples of a validation.", decides: false),
    ]

    /// The value as text.
    func text(_ settings: TrainingSettings) -> String {
        switch kind {
        case .integer(let path, _): "\(settings[keyPath: path])"
        case .number(let path, _): "\(settings[keyPath: path])"
        case .text(let path, _): settings[keyPath: path]
        case .choice(_, let get, _): get(settings)
        }
    }

    /// What values are taken, in words.
    var expected: String {
        switch kind {
        case .integer(_, let range):
            range.upperBound == .max
                ? "a whole number of at least \(range.lowerBound)"
                : "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .number(_, let range): "a number from \(range.lowerBound) to \(range.upperBound)"
        case .text(_, let expected): expected
        case .choice(let values, _, _): "one of \(values.joined(separator: ", "))"
        }
    }

    /// Sets the value; false where the text is none.
    func set(_ settings: inout TrainingSettings, _ text: String) -> Bool {
        switch kind {
        case .integer(let path, let range):
            guard let value = Int(text), range.contains(value) else { return false }
            settings[keyPath: path] = value
        case .number(let path, let range):
            guard let value = Double(text), range.contains(value) else { return false }
            settings[keyPath: path] = value
        case .text(let path, _):
            guard !text.isEmpty else { return false }
            settings[keyPath: path] = text
        case .choice(let values, _, let set):
            guard values.contains(text) else { return false }
            set(&settings, text)
        }
        return true
    }
}
