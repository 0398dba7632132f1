import Diffusion

/// All parameters of a training run, in the order in which they are printed. ``TrainingSettings`` has a property of each name.
///
/// Source of the defaults: DreamCache, section 4.1, where nothing else is said.
public struct SettingFields: Sendable {
    // Length.
    let steps = SettingField.integer("steps", 10_000, 1...100_000_000, "Steps of the optimiser in all.")
    let batchSize = SettingField.integer(
        "batch_size", 8, 1...65_536,
        "Samples a step; they are computed one after another, and their gradients are added up.")
    let seed = SettingField.integer("seed", 0, 0...Int.max, "What all random numbers depend on.")

    // Start.
    let start = SettingField.text(
        "start", "self", expected: "self, random or the path of an adapter",
        "self (the base's own self-attention), random, or the path of an adapter.")
    let selfWeight = SettingField.share(
        "self_weight", 0.5,
        "Of a start from self: the weight of attention to the cache, beside 1 minus it for self-attention.")

    // Optimiser.
    let learningRate = SettingField.number("learning_rate", 1e-5, 0...1, "Learning rate after the warm-up.")
    let warmupSteps = SettingField.integer(
        "warmup_steps", 100, 0...100_000_000, "Steps in which the learning rate rises.")
    let decay = SettingField.choice(
        "decay", TrainingSettings.Decay.constant,
        "How the learning rate goes on: constant, or a half cosine to the last step.")
    let finalRateShare = SettingField.share(
        "final_rate_share", 0, "Of a cosine: the last learning rate as a share of the greatest.")
    let weightDecay = SettingField.number("weight_decay", 0.01, 0...1, "Of AdamW.")
    let beta1 = SettingField.number("beta1", 0.9, 0...0.999999, "Of AdamW.")
    let beta2 = SettingField.number("beta2", 0.999, 0...0.999999, "Of AdamW.")
    let clipNorm = SettingField.number(
        "clip_norm", 1, 0...1e9,
        "Greatest Euclidean norm of a step's gradients; longer ones are shortened to it. 0 is no limit.")
    let averageDecay = SettingField.number(
        "average_decay", 0.999, 0...0.999999,
        "Decay of the parameters' running mean (EMA), which is the result; 0 is no mean.")

    // Loss.
    let minSNRGamma = SettingField.number(
        "min_snr_gamma", 0, 0...1e6, "Gamma of min-SNR weighting (Hang et al. 2023); 0 is none.")
    let noiseEmphasis = SettingField.number(
        "noise_emphasis", 0, 0...1, "The loss is multiplied by (1 + 1 / SNR) to this power.")
    let emptyCaptions = SettingField.share("empty_captions", 0.07, "Share of samples without a caption.")

    // References.
    let referenceView = SettingField.choice(
        "reference_view", TrainingSettings.ReferenceView.other,
        "other: a view of the object that is not the target; or same.")
    let blankReferences = SettingField.share(
        "blank_references", 0, "Share of samples whose reference is left blank, all white.")
    let referenceVariants = SettingField.integer(
        "reference_variants", 2, 1...1000,
        "Augmented references of each view; what they leave in the U-Net is kept on disk.")
    let leastSubjectArea = SettingField.number(
        "least_subject_area", 0.7, 0.01...1, "Least share of a reference that the square around its subject covers.")
    let flips = SettingField.share("flips", 0.5, "Share of references that are flipped.")
    let jitters = SettingField.share("jitters", 0.1, "Share of references whose colours are changed.")
    let jitterStrength = SettingField.share(
        "jitter_strength", 0.2, "Greatest change of brightness, contrast and saturation.")
    let erasures = SettingField.share("erasures", 0.4, "Share of references of which a rectangle is erased to white.")
    let leastErasure = SettingField.share("least_erasure", 0.02, "Least share of the area that is erased.")
    let greatestErasure = SettingField.share("greatest_erasure", 0.25, "Greatest share of the area that is erased.")

    // Targets.
    let latents = SettingField.choice(
        "latents", TrainingSettings.LatentChoice.sample,
        "What of a target's posterior is taken: a sample, or the mean.")
    let minimumSide = SettingField.integer(
        "minimum_side", 0, 0...65_536, "Least side of a picture in pixels; 0 is half of the model's.")

    // The run.
    let keeping = SettingField.choice(
        "keeping", KeptForBackward.everything, "What is kept for the way back: everything, or inputs (less memory).",
        decides: false)
    let saveSeconds = SettingField.number(
        "save_seconds", 180, 0...86_400, "Seconds between two savings of the state.", decides: false)
    let jumpFactor = SettingField.number(
        "jump_factor", 3, 0...1e9,
        "The run stops where the mean loss of \(Trainer.window) steps rises to so many times its least; 0 is never.",
        decides: false)
    let validationSteps = SettingField.integer(
        "validation_steps", 500, 0...100_000_000, "Steps between two validations; 0 is none.", decides: false)
    let validationShare = SettingField.share(
        "validation_share", 0.02, "Share of the objects that are kept for validation, one at least.")
    let validationSamples = SettingField.integer(
        "validation_samples", 32, 1...65_536, "Samples of a validation.", decides: false)
    let milestoneSteps = SettingField.integer(
        "milestone_steps", 1000, 0...100_000_000, "Steps between two sheets of pictures; 0 is none.", decides: false)
    let milestoneImageScale = SettingField.number(
        "milestone_image_scale", 0.4, 0...100, "Weight of the cache in those pictures.", decides: false)

    static let named = SettingFields()

    /// All of them, in order.
    static let all = Mirror(reflecting: named).children.compactMap { $0.value as? any AnySettingField }
}
