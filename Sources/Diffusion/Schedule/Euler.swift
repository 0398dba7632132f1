/// Euler's and Heun's method on the probability flow equation, and ancestral sampling.
///
/// Source: Karras et al. 2022 (arXiv 2206.00364), Algorithms 1 and 2 without churn; k-diffusion `sample_euler`,
/// `sample_euler_ancestral`, `sample_heun`; diffusers `EulerDiscreteScheduler`, `EulerAncestralDiscreteScheduler`,
/// `HeunDiscreteScheduler`. Here x = x_0 + sigma noise, and the model is given x / sqrt(sigma^2 + 1).
/// Proved by `Tests/Fixtures/schedule`.
extension SamplingPlan {
    static func euler(_ table: Timetable, skipping skipped: Int) -> SamplingPlan {
        let evaluations = (skipped..<table.steps).map { place in
            let sigma = table.sigmas[place]
            var evaluation = Evaluation(timestep: table.timesteps[place], inputScale: inputScale(sigma), memory: nil)
            evaluation.update = Combination(sample: 1)
                .adding(derivative(table, sigma: sigma), times: table.sigmas[place + 1] - sigma)
            return evaluation
        }
        return varianceExploding(table, evaluations, historyLength: 0, skipping: skipped)
    }

    static func eulerAncestral(_ table: Timetable, skipping skipped: Int) -> SamplingPlan {
        let evaluations = (skipped..<table.steps).map { place in
            let (sigma, next) = (table.sigmas[place], table.sigmas[place + 1])
            let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).squareRoot()
            let down = (next * next - up * up).squareRoot()
            var evaluation = Evaluation(timestep: table.timesteps[place], inputScale: inputScale(sigma), memory: nil)
            evaluation.update = Combination(sample: 1, noise: up)
                .adding(derivative(table, sigma: sigma), times: down - sigma)
            evaluation.drawsNoise = true
            return evaluation
        }
        return varianceExploding(table, evaluations, historyLength: 0, skipping: skipped)
    }

    /// Two evaluations per step, the second at its end. The last step, to no noise, has one.
    static func heun(_ table: Timetable, skipping skipped: Int) -> SamplingPlan {
        var evaluations: [Evaluation] = []
        for place in skipped..<table.steps {
            let (sigma, next) = (table.sigmas[place], table.sigmas[place + 1])
            // d = (x - x_0) / sigma
            let slope = Combination(sample: 1 / sigma, history: [-1 / sigma])
            var first = Evaluation(timestep: table.timesteps[place], inputScale: inputScale(sigma))
            first.memory = noiselessSample(table, sigma: sigma)
            first.clip = table.configuration.resolvedClip
            first.update = Combination(sample: 1).adding(slope, times: next - sigma)
            first.saving = .replace
            evaluations.append(first)
            guard place + 1 < table.steps else { break }

            var second = Evaluation(timestep: table.timesteps[place + 1], inputScale: inputScale(next))
            second.memory = noiselessSample(table, sigma: next)
            second.clip = table.configuration.resolvedClip
            let mean = Combination(sample: 0.5 / next, saved: 0.5 / sigma, history: [-0.5 / next, -0.5 / sigma])
            second.update = Combination(saved: 1).adding(mean, times: next - sigma)
            second.saving = .clear
            evaluations.append(second)
        }
        return varianceExploding(table, evaluations, historyLength: 1, skipping: skipped)
    }

    static func inputScale(_ sigma: Double) -> Double { 1 / (sigma * sigma + 1).squareRoot() }

    static func noiselessSample(_ table: Timetable, sigma: Double) -> Combination {
        let scale = inputScale(sigma)
        // The model's own terms: x scale = (scale) x_0 + (scale sigma) noise.
        var combination = table.configuration.predictionType.noiselessSample(alpha: scale, sigma: sigma * scale)
        combination.sample *= scale
        return combination
    }

    /// (x - x_0) / sigma, which is the noise.
    static func derivative(_ table: Timetable, sigma: Double) -> Combination {
        let scale = inputScale(sigma)
        var combination = table.configuration.predictionType.noise(alpha: scale, sigma: sigma * scale)
        combination.sample *= scale
        return combination
    }

    static func varianceExploding(
        _ table: Timetable, _ evaluations: [Evaluation], historyLength: Int, skipping skipped: Int
    ) -> SamplingPlan {
        let most = table.sigmas.max() ?? 1
        let fromNoise = table.configuration.resolvedTimestepSpacing == .leading ? (most * most + 1).squareRoot() : most
        return SamplingPlan(
            evaluations: evaluations, historyLength: historyLength, initialNoiseScale: fromNoise,
            beginning: .init(image: 1, noise: table.sigmas[skipped]))
    }
}
