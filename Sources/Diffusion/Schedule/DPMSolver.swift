import Foundation

/// DPM-Solver and DPM-Solver++, multistep, deterministic and stochastic.
///
/// Source: Lu et al. 2022 (arXiv 2206.00927 and 2211.01095); diffusers `DPMSolverMultistepScheduler`. Here
/// x = alpha x_0 + sigma noise and lambda = ln(alpha / sigma). Proved by `Tests/Fixtures/schedule`.
extension SamplingPlan {
    static func dpmSolverMultistep(_ table: Timetable, skipping skipped: Int) -> SamplingPlan {
        let configuration = table.configuration
        let algorithm = configuration.algorithmType
        let evaluations = (skipped..<table.steps).map { place in
            let level = table.level(place)
            var evaluation = Evaluation(timestep: table.timesteps[place])
            evaluation.memory =
                algorithm.predictsSample
                ? configuration.predictionType.noiselessSample(alpha: level.alpha, sigma: level.sigma)
                : configuration.predictionType.noise(alpha: level.alpha, sigma: level.sigma)
            evaluation.update = step(
                table, at: place, order: order(configuration, at: place, of: table.steps, from: skipped))
            evaluation.drawsNoise = algorithm.isStochastic
            return evaluation
        }
        return SamplingPlan(
            evaluations: evaluations, historyLength: configuration.solverOrder - 1,
            beginning: .solver(table, at: skipped))
    }

    /// Low while there is no history; low again at the end, where few steps make high orders unstable.
    private static func order(_ configuration: ScheduleConfiguration, at place: Int, of steps: Int, from first: Int)
        -> Int
    {
        let isShort = configuration.lowerOrderFinal && steps < 15
        if place == steps - 1, configuration.eulerAtFinal || isShort || configuration.finalSigma == .zero { return 1 }
        let settled = min(configuration.solverOrder, place - first + 1)
        return place == steps - 2 && isShort ? min(settled, 2) : settled
    }

    private static func step(_ table: Timetable, at place: Int, order: Int) -> Combination {
        let algorithm = table.configuration.algorithmType
        let (to, from) = (table.level(place + 1), table.level(place))
        let h = to.lambda - from.lambda

        // phi_1 to phi_3 of the exponential integrator, with the sign and scale of each equation.
        let scale: (sample: Double, first: Double, second: Double, third: Double, noise: Double)
        switch algorithm {
        case .dpmSolverPlusPlus:
            let decay = expm1(-h)
            scale = (
                to.sigma / from.sigma, -to.alpha * decay, to.alpha * (decay / h + 1),
                -to.alpha * ((decay + h) / (h * h) - 0.5), 0
            )
        case .dpmSolver:
            let growth = expm1(h)
            scale = (
                to.alpha / from.alpha, -to.sigma * growth, -to.sigma * (growth / h - 1),
                -to.sigma * ((growth - h) / (h * h) - 0.5), 0
            )
        case .sdeDPMSolverPlusPlus:
            let decay = -expm1(-2 * h)
            scale = (
                to.sigma / from.sigma * exp(-h), to.alpha * decay, to.alpha * (decay / (-2 * h) + 1),
                to.alpha * ((decay - 2 * h) / (4 * h * h) - 0.5), to.sigma * decay.squareRoot()
            )
        case .sdeDPMSolver:
            let growth = expm1(h)
            scale = (
                to.alpha / from.alpha, -2 * to.sigma * growth, -2 * to.sigma * (growth / h - 1), 0,
                to.sigma * expm1(2 * h).squareRoot()
            )
        }
        let base = Combination(sample: scale.sample, history: [scale.first], noise: scale.noise)
        if order == 1 { return base }

        // Divided differences of the remembered predictions.
        let r0 = (from.lambda - table.level(place - 1).lambda) / h
        let slope = Combination(history: [1 / r0, -1 / r0])
        if order == 2 {
            let isMidpoint = table.configuration.resolvedSolverType == .midpoint
            return base.adding(slope, times: isMidpoint ? scale.first / 2 : scale.second)
        }
        let r1 = (table.level(place - 1).lambda - table.level(place - 2).lambda) / h
        let earlier = Combination(history: [0, 1 / r1, -1 / r1])
        let bend = slope.adding(earlier, times: -1)
        return base.adding(slope.adding(bend, times: r0 / (r0 + r1)), times: scale.second)
            .adding(bend, times: scale.third / (r0 + r1))
    }
}

extension SamplingPlan.Beginning {
    /// x = alpha image + sigma noise at the first level that is run.
    static func solver(_ table: Timetable, at place: Int) -> Self {
        let level = table.level(place)
        return .init(image: level.alpha, noise: level.sigma)
    }
}
