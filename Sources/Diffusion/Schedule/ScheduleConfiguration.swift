/// Why a schedule is refused.
public struct ScheduleError: Error, Equatable, CustomStringConvertible {
    /// The file the value came from, if it came from one.
    public var path: String?
    /// The option, named as diffusers' `scheduler_config.json` names it.
    public var field: String
    /// What was found and what was expected.
    public var problem: String

    init(path: String? = nil, field: String, problem: String) {
        self.path = path
        self.field = field
        self.problem = problem
    }

    /// `path: field problem`.
    public var description: String { (path.map { "\($0): " } ?? "") + "\(field): \(problem)" }
}

/// The samplers, under the names of diffusers' classes.
public enum SamplerKind: String, Sendable, CaseIterable, Codable {
    /// Song et al. 2020, with `eta` between the deterministic and the ancestral form.
    case ddim = "DDIMScheduler"
    /// Liu et al. 2022 in the form called PLMS, without Runge-Kutta steps.
    case pndm = "PNDMScheduler"
    /// Karras et al. 2022, Algorithm 2 without churn.
    case euler = "EulerDiscreteScheduler"
    /// k-diffusion's ancestral sampling.
    case eulerAncestral = "EulerAncestralDiscreteScheduler"
    /// Lu et al. 2022, multistep, of order 1 to 3.
    case dpmSolverMultistep = "DPMSolverMultistepScheduler"
    /// Zhao et al. 2023.
    case uniPC = "UniPCMultistepScheduler"
    /// Luo et al. 2023, latent consistency models.
    case lcm = "LCMScheduler"
    /// Karras et al. 2022, Algorithm 1 without churn: two evaluations per step.
    case heun = "HeunDiscreteScheduler"
    /// k-diffusion's linear multistep, of order 4.
    case lms = "LMSDiscreteScheduler"
    /// Ho et al. 2020.
    case ddpm = "DDPMScheduler"
    /// Zheng et al. 2024, trajectory consistency models, with `eta` as their gamma.
    case tcd = "TCDScheduler"
    /// Zhang and Chen 2022, of order 1 to 3.
    case deis = "DEISMultistepScheduler"
    /// k-diffusion's DPM++ SDE: two evaluations per step.
    case dpmSolverSDE = "DPMSolverSDEScheduler"
}

/// How the noise of training grows with the timestep.
public enum BetaSchedule: String, Sendable, CaseIterable, Codable {
    /// Straight from `beta_start` to `beta_end`.
    case linear
    /// Straight in the square root; latent diffusion's.
    case scaledLinear = "scaled_linear"
    /// Nichol and Dhariwal 2021: the cosine's square, betas at most .999.
    case squaredCosine = "squaredcos_cap_v2"
}

/// What the model's output is.
public enum PredictionType: String, Sendable, CaseIterable, Codable {
    /// The noise.
    case epsilon
    /// sqrt(abar) noise - sqrt(1 - abar) sample, Salimans and Ho 2022.
    case vPrediction = "v_prediction"
    /// The noiseless sample.
    case sample
}

/// How timesteps are spread over training's, Lin et al. 2023, Table 2.
public enum TimestepSpacing: String, Sendable, CaseIterable, Codable {
    /// Multiples of the whole ratio from the noiseless end, plus `steps_offset`.
    case leading
    /// Multiples of the exact ratio from the noisy end.
    case trailing
    /// Evenly with both ends.
    case linspace
}

/// Where the last step of a sampler that works with sigmas ends.
public enum FinalSigma: String, Sendable, CaseIterable, Codable {
    /// Without noise.
    case zero
    /// At training's smallest noise.
    case sigmaMin = "sigma_min"
}

/// Which equation DPM-Solver integrates.
public enum DPMSolverAlgorithm: String, Sendable, CaseIterable, Codable {
    /// In the noise prediction.
    case dpmSolver = "dpmsolver"
    /// In the data prediction.
    case dpmSolverPlusPlus = "dpmsolver++"
    /// The stochastic equation in the noise prediction.
    case sdeDPMSolver = "sde-dpmsolver"
    /// The stochastic equation in the data prediction.
    case sdeDPMSolverPlusPlus = "sde-dpmsolver++"

    var predictsSample: Bool { self == .dpmSolverPlusPlus || self == .sdeDPMSolverPlusPlus }
    var isStochastic: Bool { self == .sdeDPMSolver || self == .sdeDPMSolverPlusPlus }
}

/// How a multistep solver treats its second-order term; names of two solvers share diffusers' key `solver_type`.
public enum SolverType: String, Sendable, CaseIterable, Codable {
    /// DPM-Solver's default.
    case midpoint
    /// DPM-Solver's other.
    case heun
    /// UniPC's B(h) = h.
    case bh1
    /// UniPC's B(h) = exp(h) - 1, its default.
    case bh2
}

/// Everything that decides a schedule besides the number of steps. Properties follow the keys of diffusers'
/// `scheduler_config.json`; the default is the DDIM of the DreamCache authors' code (LDM).
///
/// LDM's and diffusers' DDIM with these values agree wherever the steps divide `num_train_timesteps`. Where they do not,
/// LDM runs more steps than were asked for (31 for 30) and for some counts (3, 9, 27, 37, ...) reads past its table;
/// we run the steps that were asked for, as diffusers does.
public struct ScheduleConfiguration: Sendable, Equatable {
    /// `_class_name`.
    public var sampler: SamplerKind = .ddim
    /// Steps of training.
    public var numTrainTimesteps = 1000
    /// The first beta of training.
    public var betaStart = 0.00085
    /// The last beta of training.
    public var betaEnd = 0.012
    /// The way from the first to the last beta.
    public var betaSchedule: BetaSchedule = .scaledLinear
    /// Betas given one by one; they replace the three values above.
    public var trainedBetas: [Double]?
    /// Lin et al. 2023, Algorithm 1: the last training step is pure noise.
    public var rescaleBetasZeroSNR = false
    /// What the model predicts.
    public var predictionType: PredictionType = .epsilon
    /// Nil is the sampler's own default: leading for DDIM, PNDM and LCM, linspace for the others.
    public var timestepSpacing: TimestepSpacing?
    /// Added to the timesteps of leading spacing.
    public var stepsOffset = 1
    /// Whether the step after the last one has abar 1; otherwise it has training's first. Nil is the sampler's own default:
    /// true for DDIM and LCM, false for PNDM. The samplers that work with sigmas have ``finalSigma`` instead.
    public var setAlphaToOne: Bool? = false
    /// Whether DDIM, DDPM, LCM and Heun clamp the predicted noiseless sample. Nil is the sampler's own default, true for DDIM
    /// and DDPM alone. It is meant for pixels, not for latents.
    public var clipSample: Bool? = false
    /// The magnitude it is clamped to.
    public var clipSampleRange = 1.0
    /// Sigmas after Karras et al. 2022, equation 5 with rho 7: Euler, Heun, DPM-Solver, UniPC.
    public var useKarrasSigmas = false
    /// Sigmas evenly spread in the logarithm: the same samplers.
    public var useExponentialSigmas = false
    /// The smallest and largest sigma of those two, for Euler and UniPC; nil is the schedule's own.
    public var sigmaMin: Double?
    /// See ``sigmaMin``.
    public var sigmaMax: Double?
    /// Where the last step ends: Euler, DPM-Solver, UniPC.
    public var finalSigma: FinalSigma = .zero
    /// DPM-Solver's and UniPC's order, 1 to 3.
    public var solverOrder = 2
    /// DPM-Solver's equation.
    public var algorithmType: DPMSolverAlgorithm = .dpmSolverPlusPlus
    /// Nil, or a type of the other solver, is the sampler's own default: midpoint for DPM-Solver, bh2 for UniPC.
    public var solverType: SolverType?
    /// Whether the last steps of a short DPM-Solver run, or of any UniPC run, have a lower order.
    public var lowerOrderFinal = true
    /// Whether DPM-Solver's last step is of first order in any case.
    public var eulerAtFinal = false
    /// DPM-Solver starts at the last timestep whose lambda is at least this.
    public var lambdaMinClipped = -Double.infinity
    /// Whether UniPC works in the data prediction.
    public var predictX0 = true
    /// Steps after which UniPC does not correct.
    public var disableCorrector: [Int] = []
    /// The steps LCM was distilled from.
    public var originalInferenceSteps = 50
    /// LCM's factor of the timestep in its boundary condition.
    public var timestepScaling = 10.0
    /// Whether DDPM's noise has the larger of its two variances (`variance_type` `fixed_large`).
    public var usesLargeVariance = false
    /// Options of a file that we do not have, as the file has them, by key; refused by the samplers that know the option.
    var absentOptions: [String: String] = [:]

    /// LDM's DDIM, as the DreamCache authors run it.
    public init() {}

    var resolvedTimestepSpacing: TimestepSpacing {
        if let timestepSpacing { return timestepSpacing }
        return switch sampler {
        case .ddim, .ddpm, .pndm, .lcm, .tcd: .leading
        case .euler, .eulerAncestral, .dpmSolverMultistep, .uniPC, .heun, .lms, .deis, .dpmSolverSDE: .linspace
        }
    }

    var resolvedSetAlphaToOne: Bool { setAlphaToOne ?? (sampler != .pndm) }

    /// The magnitude the predicted sample is clamped to, if it is.
    var resolvedClip: Double? { clipSample ?? (sampler == .ddim || sampler == .ddpm) ? clipSampleRange : nil }

    var resolvedSolverType: SolverType {
        switch (sampler, solverType) {
        case (.uniPC, .bh1): .bh1
        case (.uniPC, _): .bh2
        case (_, .heun): .heun
        default: .midpoint
        }
    }

    /// Refuses values no schedule can be made from. ``Sampler`` and ``TrainingSchedule`` call it.
    ///
    /// - Throws: ``ScheduleError`` for the first such value.
    public func validate() throws(ScheduleError) {
        func check(_ condition: Bool, _ field: String, _ problem: @autoclosure () -> String) throws(ScheduleError) {
            if !condition { throw ScheduleError(field: field, problem: problem()) }
        }
        try check(
            (1...100_000).contains(numTrainTimesteps), "num_train_timesteps",
            "is \(numTrainTimesteps); expected 1 to 100000")
        try check(betaStart > 0 && betaStart < 1, "beta_start", "is \(betaStart); expected a number between 0 and 1")
        try check(betaEnd > 0 && betaEnd < 1, "beta_end", "is \(betaEnd); expected a number between 0 and 1")
        if let trainedBetas {
            try check(
                trainedBetas.count == numTrainTimesteps, "trained_betas",
                "has \(trainedBetas.count) numbers; expected num_train_timesteps, \(numTrainTimesteps)")
            try check(
                trainedBetas.allSatisfy { $0 > 0 && $0 < 1 }, "trained_betas",
                "has a number that is not between 0 and 1")
        }
        try check(
            (0..<numTrainTimesteps).contains(stepsOffset), "steps_offset",
            "is \(stepsOffset); expected 0 to \(numTrainTimesteps - 1)")
        try check(
            clipSampleRange > 0 && clipSampleRange.isFinite, "clip_sample_range",
            "is \(clipSampleRange); expected a positive number")
        try check(
            !(useKarrasSigmas && useExponentialSigmas), "use_exponential_sigmas",
            "excludes use_karras_sigmas; both are true")
        for (field, sigma) in [("sigma_min", sigmaMin), ("sigma_max", sigmaMax)] {
            try check(
                sigma.map { $0 > 0 && $0.isFinite } ?? true, field, "is \(sigma ?? 0); expected a positive number")
        }
        try check((1...3).contains(solverOrder), "solver_order", "is \(solverOrder); expected 1, 2 or 3")
        try check(!lambdaMinClipped.isNaN, "lambda_min_clipped", "is not a number")
        try check(
            (1...numTrainTimesteps).contains(originalInferenceSteps), "original_inference_steps",
            "is \(originalInferenceSteps); expected 1 to num_train_timesteps, \(numTrainTimesteps)")
        try check(
            timestepScaling > 0 && timestepScaling.isFinite, "timestep_scaling",
            "is \(timestepScaling); expected a positive number")
    }

    /// Refuses what the chosen sampler cannot do; another sampler may. ``Sampler`` calls it.
    ///
    /// - Throws: ``ScheduleError`` for the first such option.
    public func validateSampler() throws(ScheduleError) {
        func check(_ condition: Bool, _ field: String, _ problem: @autoclosure () -> String) throws(ScheduleError) {
            if !condition { throw ScheduleError(field: field, problem: problem()) }
        }
        try check(
            predictionType != .sample || ![.pndm, .eulerAncestral, .dpmSolverSDE].contains(sampler), "prediction_type",
            "'sample' is not possible with \(sampler.rawValue)")
        try check(
            sampler != .dpmSolverMultistep || algorithmType.predictsSample || finalSigma == .sigmaMin,
            "final_sigmas_type",
            "'zero' is not possible with algorithm_type '\(algorithmType.rawValue)'; expected 'sigma_min'")
        try check(
            sampler != .dpmSolverMultistep || algorithmType != .sdeDPMSolver || solverOrder < 3, "solver_order",
            "is 3; algorithm_type 'sde-dpmsolver' has orders 1 and 2")
        for option in AbsentOption.all where option.samplers.contains(sampler) {
            guard let found = absentOptions[option.key] else { continue }
            throw ScheduleError(
                field: option.key,
                problem: "is \(found); this option is not supported with \(sampler.rawValue), expected "
                    + (["null"] + option.off).joined(separator: " or "))
        }
    }
}
