import Foundation

/// The timesteps of one run, noisy first, and the sigmas that go with them.
///
/// Source: diffusers' `set_timesteps` of each scheduler; Lin et al. 2023, Table 2 (spacing); Karras et al. 2022, equation 5.
struct Timetable: Sendable {
    let configuration: ScheduleConfiguration
    let training: TrainingSchedule
    /// The steps asked for.
    let steps: Int
    /// One for each of the steps. Whole numbers except for Euler and Heun.
    private(set) var timesteps: [Double]
    /// One for each of the steps and the one it ends with; empty for samplers that work with abar.
    private(set) var sigmas: [Double]

    init(_ configuration: ScheduleConfiguration, steps: Int) throws(ScheduleError) {
        let training = try TrainingSchedule(configuration)
        self.configuration = configuration
        self.training = training
        self.steps = steps
        try Self.check(configuration, training, steps: steps)
        switch configuration.sampler {
        case .ddim, .ddpm, .pndm:
            timesteps = Self.spread(configuration, steps: steps).map { $0.rounded(.toNearestOrEven) }
            sigmas = []
        case .lcm, .tcd:
            timesteps = Self.distilled(configuration, steps: steps)
            sigmas = []
        case .euler, .eulerAncestral, .heun, .lms, .dpmSolverSDE:
            // numpy makes these in single precision, but for one.
            let isDouble = configuration.sampler == .dpmSolverSDE
            timesteps = Self.spread(configuration, steps: steps).map { isDouble ? $0 : Double(Float($0)) }
            let table = training.sigmas
            sigmas = timesteps.map { Spread.interpolate(table, at: $0) }
            if configuration.sampler != .eulerAncestral, let bounds = Self.bounds(configuration, of: sigmas) {
                sigmas = Self.respaced(configuration, bounds: bounds, count: steps)
                timesteps = sigmas.map { Self.timestep(ofSigma: $0, in: table) }
            }
            sigmas.append(configuration.sampler == .euler && configuration.finalSigma == .sigmaMin ? table[0] : 0)
        case .dpmSolverMultistep, .uniPC, .deis:
            // These leave out the noiseless end of the spacing: one step more is spread, and the last dropped.
            let table = training.sigmas
            timesteps = Self.spreadForSolvers(configuration, table: table, steps: steps)
                .map { $0.rounded(.toNearestOrEven) }
            sigmas = timesteps.map { Spread.interpolate(table, at: $0) }
            var last = table[0]
            if let bounds = Self.bounds(configuration, of: table.reversed()) {
                sigmas = Self.respaced(configuration, bounds: bounds, count: steps)
                timesteps = sigmas.map { Self.timestep(ofSigma: $0, in: table) }
                let rounds =
                    configuration.useKarrasSigmas
                    && (configuration.sampler != .dpmSolverMultistep || configuration.betaSchedule != .squaredCosine)
                timesteps = timesteps.map { rounds ? $0.rounded(.toNearestOrEven) : $0.rounded(.towardZero) }
                if configuration.sampler != .dpmSolverMultistep { last = sigmas[steps - 1] }
            }
            // DEIS cannot end without noise.
            let endsNoisy = configuration.finalSigma == .sigmaMin || configuration.sampler == .deis
            sigmas.append(endsNoisy ? last : 0)
        }
        let range = 0...Double(configuration.numTrainTimesteps - 1)
        if let outside = timesteps.first(where: { !range.contains($0) }) {
            throw ScheduleError(
                field: "steps_offset",
                problem: "\(configuration.stepsOffset) with \(steps) steps gives timestep \(outside); "
                    + "the model knows 0 to \(Int(range.upperBound))")
        }
    }

    /// Refuses counts of steps and noise that this sampler cannot run with.
    private static func check(
        _ configuration: ScheduleConfiguration, _ training: TrainingSchedule, steps: Int
    ) throws(ScheduleError) {
        let most = mostSteps(configuration)
        guard (1...max(1, most)).contains(steps), most >= 1 else {
            throw ScheduleError(
                field: "num_inference_steps",
                problem: "is \(steps); \(configuration.sampler.rawValue) with this configuration runs 1 to \(most)")
        }
        // Betas may be such that abar is 0 or 1 in single precision; no sampler can step from there by sigmas.
        if ![.ddim, .ddpm, .pndm, .lcm, .tcd].contains(configuration.sampler),
            let broken = training.sigmas.firstIndex(where: { $0 == 0 || !$0.isFinite })
        {
            throw ScheduleError(
                field: configuration.trainedBetas == nil ? "beta_schedule" : "trained_betas",
                problem:
                    "gives abar \(training.alphasCumprod[broken]) at timestep \(broken); expected a number between 0 and 1"
            )
        }
    }

    private static func mostSteps(_ configuration: ScheduleConfiguration) -> Int {
        switch configuration.sampler {
        case .lcm, .tcd: configuration.originalInferenceSteps
        case .dpmSolverMultistep, .uniPC, .deis: configuration.numTrainTimesteps - 1
        default: configuration.numTrainTimesteps
        }
    }

    /// Table 2 of Lin et al., noisy first, not rounded.
    private static func spread(_ configuration: ScheduleConfiguration, steps: Int) -> [Double] {
        let total = configuration.numTrainTimesteps
        switch configuration.resolvedTimestepSpacing {
        case .linspace:
            return Spread.linspace(0, Double(total - 1), count: steps).reversed()
        case .leading:
            return (0..<steps).reversed().map { Double($0 * (total / steps) + configuration.stepsOffset) }
        case .trailing:
            return trailing(total: total, last: total, steps: steps)
        }
    }

    private static func spreadForSolvers(
        _ configuration: ScheduleConfiguration, table: [Double], steps: Int
    ) -> [Double] {
        let total = configuration.numTrainTimesteps
        // lambda = -ln sigma, so too small a lambda is too large a sigma.
        let clipped =
            configuration.sampler == .dpmSolverMultistep ? table.count { -log($0) < configuration.lambdaMinClipped } : 0
        let last = max(total - clipped, 1)
        switch configuration.resolvedTimestepSpacing {
        case .linspace:
            return Spread.linspace(0, Double(last - 1), count: steps + 1).reversed().dropLast()
        case .leading:
            return (1...steps).reversed().map { Double($0 * (last / (steps + 1)) + configuration.stepsOffset) }
        case .trailing:
            return trailing(total: total, last: last, steps: steps)
        }
    }

    /// `numpy.arange(last, 0, -total / steps)`, whose difference is that of its first two numbers: a half is then rounded
    /// as numpy's. For some counts (61, 103, 121, ...) numpy's list is one longer, down to timestep -1; ours is not.
    private static func trailing(total: Int, last: Int, steps: Int) -> [Double] {
        let difference = (Double(last) - Double(total) / Double(steps)) - Double(last)
        return (0..<steps).map { (Double(last) + Double($0) * difference).rounded(.toNearestOrEven) - 1 }
    }

    /// LCM and TCD: of the steps they were distilled from, evenly chosen ones.
    private static func distilled(_ configuration: ScheduleConfiguration, steps: Int) -> [Double] {
        let original = configuration.originalInferenceSteps
        let ratio = configuration.numTrainTimesteps / original
        let spacing = Double(original) / Double(steps)
        return (0..<steps).map { step in
            Double((original - Int((Double(step) * spacing).rounded(.down))) * ratio - 1)
        }
    }

    /// The ends of respaced sigmas, if sigmas are to be respaced.
    private static func bounds(
        _ configuration: ScheduleConfiguration, of sigmas: [Double]
    ) -> (least: Double, most: Double)? {
        guard configuration.useKarrasSigmas || configuration.useExponentialSigmas, let first = sigmas.first,
            let last = sigmas.last
        else { return nil }
        let given = configuration.sampler == .euler || configuration.sampler == .uniPC
        return ((given ? configuration.sigmaMin : nil) ?? last, (given ? configuration.sigmaMax : nil) ?? first)
    }

    private static func respaced(
        _ configuration: ScheduleConfiguration, bounds: (least: Double, most: Double), count: Int
    ) -> [Double] {
        if configuration.useExponentialSigmas {
            return Spread.linspace(log(bounds.most), log(bounds.least), count: count).map { exp($0) }
        }
        let rho = 7.0
        let start = pow(bounds.most, 1 / rho)
        let end = pow(bounds.least, 1 / rho)
        return Spread.linspace(0, 1, count: count).map { pow(start + $0 * (end - start), rho) }
    }

    /// The timestep whose sigma this is.
    func timestep(ofSigma sigma: Double) -> Double { Self.timestep(ofSigma: sigma, in: training.sigmas) }

    /// The timestep whose sigma this is, between two of the table in the logarithm. The table's logarithms are single
    /// precision as diffusers' are, which decides where a timestep is then cut to a whole one.
    private static func timestep(ofSigma sigma: Double, in table: [Double]) -> Double {
        func logarithm(_ place: Int) -> Double { Double(log(Float(table[place]))) }
        let sought = log(max(sigma, 1e-10))
        let low = min(table.indices.last { logarithm($0) <= sought } ?? 0, max(table.count - 2, 0))
        let high = min(low + 1, table.count - 1)
        guard high > low else { return Double(low) }
        let weight = (logarithm(low) - sought) / (logarithm(low) - logarithm(high))
        return Double(low) + min(max(weight, 0), 1)
    }

    /// abar of a whole timestep; before the first one, what `set_alpha_to_one` says.
    func alphaCumprod(_ timestep: Int) throws(ScheduleError) -> Double {
        if timestep < 0 { return configuration.resolvedSetAlphaToOne ? 1 : training.alphasCumprod[0] }
        guard timestep < training.alphasCumprod.count else {
            throw ScheduleError(
                field: "num_inference_steps",
                problem: "\(steps) with this spacing needs timestep \(timestep); "
                    + "the model knows 0 to \(training.alphasCumprod.count - 1)")
        }
        return training.alphasCumprod[timestep]
    }

    /// The noise level at `sigmas[place]` in the form alpha x_0 + sigma noise, and lambda = ln(alpha / sigma).
    func level(_ place: Int) -> (alpha: Double, sigma: Double, lambda: Double) {
        let sigma = sigmas[place]
        let alpha = 1 / (sigma * sigma + 1).squareRoot()
        return (alpha, sigma * alpha, -log(sigma))
    }
}
