/// Strategic stochastic sampling of trajectory consistency models.
///
/// Source: Zheng et al. 2024 (arXiv 2402.19159), Algorithm 4, whose gamma is `eta` here; diffusers `TCDScheduler`. Proved by
/// `Tests/Fixtures/schedule`.
extension SamplingPlan {
    static func tcd(_ table: Timetable, skipping skipped: Int, eta: Double) throws(ScheduleError) -> SamplingPlan {
        let prediction = table.configuration.predictionType
        var evaluations: [Evaluation] = []
        for place in skipped..<table.steps {
            let isLast = place + 1 == table.steps
            let next = isLast ? 0 : table.timesteps[place + 1]
            // torch multiplies in single precision before it cuts.
            let between = Int((Float(1 - eta) * Float(next)).rounded(.down))
            let alpha = try table.alphaCumprod(Int(table.timesteps[place]))
            let (target, previous) = (try table.alphaCumprod(between), try table.alphaCumprod(Int(next)))
            let (signal, spread) = (alpha.squareRoot(), (1 - alpha).squareRoot())
            let denoised = Combination()
                .adding(prediction.noiselessSample(alpha: signal, sigma: spread), times: target.squareRoot())
                .adding(prediction.noise(alpha: signal, sigma: spread), times: (1 - target).squareRoot())
            var evaluation = Evaluation(timestep: table.timesteps[place], memory: nil)
            if eta > 0, !isLast {
                evaluation.update = Combination(noise: max(0, 1 - previous / target).squareRoot())
                    .adding(denoised, times: (previous / target).squareRoot())
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
