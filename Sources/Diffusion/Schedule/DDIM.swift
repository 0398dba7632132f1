/// Denoising diffusion implicit models.
///
/// Source: Song et al. 2020 (arXiv 2010.02502), equations 12 and 16; LDM `DDIMSampler`; diffusers `DDIMScheduler`.
/// Proved by `Tests/Fixtures/schedule`.
extension SamplingPlan {
    static func ddim(_ table: Timetable, skipping skipped: Int, eta: Double) throws(ScheduleError) -> SamplingPlan {
        let configuration = table.configuration
        let stride = configuration.numTrainTimesteps / table.steps
        var evaluations: [Evaluation] = []
        for timestep in table.timesteps[skipped...] {
            let alpha = try table.alphaCumprod(Int(timestep))
            let previous = try table.alphaCumprod(Int(timestep) - stride)
            let (signal, spread) = (alpha.squareRoot(), (1 - alpha).squareRoot())
            // sigma_t = eta sqrt((1 - a_prev) / (1 - a_t)) sqrt(1 - a_t / a_prev)
            let sigma = eta * ((1 - previous) / (1 - alpha) * (1 - alpha / previous)).squareRoot()
            let direction = max(0, 1 - previous - sigma * sigma).squareRoot()
            var evaluation = Evaluation(timestep: timestep)
            evaluation.memory = configuration.predictionType.noiselessSample(alpha: signal, sigma: spread)
            evaluation.clip = configuration.resolvedClip
            evaluation.update = Combination(history: [previous.squareRoot()], noise: sigma)
                .adding(configuration.predictionType.noise(alpha: signal, sigma: spread), times: direction)
            evaluation.drawsNoise = eta > 0
            evaluations.append(evaluation)
        }
        return SamplingPlan(
            evaluations: evaluations, historyLength: 0,
            beginning: try .variancePreserving(table, at: table.timesteps[skipped]))
    }
}

extension SamplingPlan.Beginning {
    /// x_t = sqrt(abar_t) image + sqrt(1 - abar_t) noise at the first timestep that is run.
    static func variancePreserving(_ table: Timetable, at timestep: Double) throws(ScheduleError) -> Self {
        let alpha = try table.alphaCumprod(Int(timestep))
        return .init(image: alpha.squareRoot(), noise: (1 - alpha).squareRoot())
    }
}
