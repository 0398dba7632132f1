/// Denoising diffusion probabilistic models: ancestral sampling over any number of steps.
///
/// Source: Ho et al. 2020 (arXiv 2006.11239), equations 6, 7 and 15; diffusers `DDPMScheduler`. Proved by
/// `Tests/Fixtures/schedule`.
extension SamplingPlan {
    static func ddpm(_ table: Timetable, skipping skipped: Int) throws(ScheduleError) -> SamplingPlan {
        let configuration = table.configuration
        var evaluations: [Evaluation] = []
        for place in skipped..<table.steps {
            let timestep = table.timesteps[place]
            let alpha = try table.alphaCumprod(Int(timestep))
            let previous = place + 1 == table.steps ? 1 : try table.alphaCumprod(Int(table.timesteps[place + 1]))
            let step = alpha / previous
            var evaluation = Evaluation(timestep: timestep)
            evaluation.memory = configuration.predictionType
                .noiselessSample(alpha: alpha.squareRoot(), sigma: (1 - alpha).squareRoot())
            evaluation.clip = configuration.resolvedClip
            evaluation.update = Combination(
                sample: step.squareRoot() * (1 - previous) / (1 - alpha),
                history: [previous.squareRoot() * (1 - step) / (1 - alpha)])
            if timestep > 0 {
                let small = (1 - previous) / (1 - alpha) * (1 - step)
                evaluation.update.noise = max(configuration.usesLargeVariance ? 1 - step : small, 1e-20).squareRoot()
                evaluation.drawsNoise = true
            }
            evaluations.append(evaluation)
        }
        return SamplingPlan(
            evaluations: evaluations, historyLength: 0,
            beginning: try .variancePreserving(table, at: table.timesteps[skipped]))
    }
}
