/// Multistep sampling of latent consistency models.
///
/// Source: Luo et al. 2023 (arXiv 2310.04378), Algorithm 3; diffusers `LCMScheduler`. Proved by `Tests/Fixtures/schedule`.
extension SamplingPlan {
    static func lcm(_ table: Timetable, skipping skipped: Int) throws(ScheduleError) -> SamplingPlan {
        let configuration = table.configuration
        var evaluations: [Evaluation] = []
        for place in skipped..<table.steps {
            let timestep = table.timesteps[place]
            let alpha = try table.alphaCumprod(Int(timestep))
            var evaluation = Evaluation(timestep: timestep)
            evaluation.memory = configuration.predictionType
                .noiselessSample(alpha: alpha.squareRoot(), sigma: (1 - alpha).squareRoot())
            evaluation.clip = configuration.resolvedClip
            // The boundary condition of consistency models, with sigma_data .5.
            let scaled = timestep * configuration.timestepScaling
            let variance = scaled * scaled + 0.25
            let denoised = Combination(sample: 0.25 / variance, history: [scaled / variance.squareRoot()])
            if place + 1 < table.steps {
                let next = try table.alphaCumprod(Int(table.timesteps[place + 1]))
                evaluation.update = Combination(noise: (1 - next).squareRoot())
                    .adding(denoised, times: next.squareRoot())
                evaluation.drawsNoise = true
            } else {
                evaluation.update = denoised
            }
            evaluations.append(evaluation)
        }
        return SamplingPlan(
            evaluations: evaluations, historyLength: 0,
            beginning: try .variancePreserving(table, at: table.timesteps[skipped]))
    }
}
