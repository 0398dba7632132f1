/// A whole run as numbers: what every evaluation of the model is given and how its output moves the sample.
///
/// All samplers here are linear in the sample, the model's outputs and the noise, so each is a function from a
/// ``Timetable`` to a plan, and one executor, ``Sampler``, runs them all. Coefficients are computed once, in double
/// precision.
struct SamplingPlan: Sendable {
    /// A weighted sum of the vectors an evaluation knows.
    struct Combination: Sendable {
        var sample = 0.0
        /// The sample an earlier evaluation set aside.
        var saved = 0.0
        /// The model's output as it came.
        var output = 0.0
        /// What was remembered, newest first; the first is this evaluation's unless it remembers nothing.
        var history: [Double] = []
        var noise = 0.0

        /// This sum and `scale` times another.
        func adding(_ other: Combination, times scale: Double = 1) -> Combination {
            var sum = self
            sum.sample += scale * other.sample
            sum.saved += scale * other.saved
            sum.output += scale * other.output
            sum.noise += scale * other.noise
            for (place, weight) in other.history.enumerated() {
                if place == sum.history.count { sum.history.append(0) }
                sum.history[place] += scale * weight
            }
            return sum
        }

        var isFinite: Bool { ([sample, saved, output, noise] + history).allSatisfy(\.isFinite) }
    }

    /// What becomes of the sample set aside.
    enum Saving: Sendable {
        case keep, replace, clear
    }

    /// One evaluation of the model.
    struct Evaluation: Sendable {
        var timestep: Double
        /// The factor of the sample the model is given.
        var inputScale = 1.0
        /// What of sample and output is remembered (a noiseless sample, a noise); nil remembers nothing.
        var memory: Combination? = Combination(output: 1)
        /// The magnitude it is clamped to.
        var clip: Double?
        /// Applied to the sample before `update`, with this evaluation already in the history.
        var correction: Combination?
        var update = Combination()
        /// Whether one draw of noise belongs to this evaluation, also where its weight is zero.
        var drawsNoise = false
        var saving = Saving.keep
    }

    /// How a run begins: the weights of an initial image's latent (none in a run from noise) and of the noise.
    struct Beginning: Sendable {
        var image: Double
        var noise: Double
    }

    var evaluations: [Evaluation]
    /// How many remembered vectors the next evaluation needs.
    var historyLength: Int
    /// The standard deviation of the noise a run without an image begins with.
    var initialNoiseScale = 1.0
    /// How a run that begins in the middle mixes an image with noise.
    var beginning: Beginning

    /// The plan of a run that leaves out the first `skipped` steps.
    init(_ table: Timetable, skipping skipped: Int, eta: Double) throws(ScheduleError) {
        switch table.configuration.sampler {
        case .ddim: self = try .ddim(table, skipping: skipped, eta: eta)
        case .pndm: self = try .pndm(table, skipping: skipped)
        case .euler: self = .euler(table, skipping: skipped)
        case .eulerAncestral: self = .eulerAncestral(table, skipping: skipped)
        case .heun: self = .heun(table, skipping: skipped)
        case .dpmSolverMultistep: self = .dpmSolverMultistep(table, skipping: skipped)
        case .uniPC: self = .uniPC(table, skipping: skipped)
        case .lcm: self = try .lcm(table, skipping: skipped)
        case .lms: self = .lms(table, skipping: skipped)
        case .ddpm: self = try .ddpm(table, skipping: skipped)
        case .tcd: self = try .tcd(table, skipping: skipped, eta: eta)
        case .deis: self = .deis(table, skipping: skipped)
        case .dpmSolverSDE: self = .dpmSolverSDE(table, skipping: skipped)
        }
        let broken = evaluations.first { evaluation in
            ![evaluation.memory, evaluation.correction, evaluation.update].allSatisfy { $0?.isFinite ?? true }
        }
        if let broken {
            let configuration = table.configuration
            throw ScheduleError(
                field: "prediction_type",
                problem:
                    "'\(configuration.predictionType.rawValue)' has no finite step at timestep \(broken.timestep) with "
                    + "\(configuration.sampler.rawValue); pure noise (rescale_betas_zero_snr) needs 'v_prediction', and a "
                    + "final sigma of zero a last step of first order (lower_order_final)")
        }
    }

    init(evaluations: [Evaluation], historyLength: Int, initialNoiseScale: Double = 1, beginning: Beginning) {
        self.evaluations = evaluations
        self.historyLength = historyLength
        self.initialNoiseScale = initialNoiseScale
        self.beginning = beginning
    }
}

extension PredictionType {
    /// The noiseless sample a model's output means, given x = alpha x_0 + sigma noise.
    func noiselessSample(alpha: Double, sigma: Double) -> SamplingPlan.Combination {
        switch self {
        case .epsilon: .init(sample: 1 / alpha, output: -sigma / alpha)
        case .vPrediction: .init(sample: alpha, output: -sigma)
        case .sample: .init(output: 1)
        }
    }

    /// The noise a model's output means, given x = alpha x_0 + sigma noise.
    func noise(alpha: Double, sigma: Double) -> SamplingPlan.Combination {
        switch self {
        case .epsilon: .init(output: 1)
        case .vPrediction: .init(sample: sigma, output: alpha)
        case .sample: .init(sample: 1 / sigma, output: -alpha / sigma)
        }
    }
}
