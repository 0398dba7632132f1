/// Pseudo linear multistep sampling, PLMS: PNDM without its Runge-Kutta beginning.
///
/// Source: Liu et al. 2022 (arXiv 2202.09778), equations 9 and 12; LDM `PLMSSampler`; diffusers `PNDMScheduler` with
/// `skip_prk_steps`. Proved by `Tests/Fixtures/schedule`.
extension SamplingPlan {
    static func pndm(_ table: Timetable, skipping skipped: Int) throws(ScheduleError) -> SamplingPlan {
        let stride = table.configuration.numTrainTimesteps / table.steps
        // The second timestep comes twice: the first step is taken again with the mean of two outputs.
        var timesteps = table.timesteps
        if timesteps.count > 1 { timesteps.insert(timesteps[1], at: 1) }
        var evaluations: [Evaluation] = []
        for (count, timestep) in timesteps[skipped...].enumerated() {
            var evaluation = Evaluation(timestep: timestep)
            let (from, to) =
                count == 1 ? (Int(timestep) + stride, Int(timestep)) : (Int(timestep), Int(timestep) - stride)
            let output: Combination =
                switch count {
                case 0: .init(history: [1])
                case 1: .init(output: 1.0 / 2, history: [1.0 / 2])
                case 2: .init(history: [3.0 / 2, -1.0 / 2])
                case 3: .init(history: [23.0 / 12, -16.0 / 12, 5.0 / 12])
                default: .init(history: [55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24])
                }
            if count == 1 { evaluation.memory = nil }
            switch count {
            case 0: evaluation.saving = .replace
            case 1: evaluation.saving = .clear
            default: evaluation.saving = .keep
            }
            let sample: Combination = count == 1 ? .init(saved: 1) : .init(sample: 1)
            evaluation.update = try transfer(sample, output, from: from, to: to, in: table)
            evaluations.append(evaluation)
        }
        return SamplingPlan(
            evaluations: evaluations, historyLength: 3,
            beginning: try .variancePreserving(table, at: timesteps[skipped]))
    }

    /// Equation 9: from one timestep to another along a noise.
    private static func transfer(
        _ sample: Combination, _ output: Combination, from: Int, to: Int, in table: Timetable
    ) throws(ScheduleError) -> Combination {
        let alpha = try table.alphaCumprod(from)
        let previous = try table.alphaCumprod(to)
        var noise = output
        if table.configuration.predictionType == .vPrediction {
            noise = Combination().adding(output, times: alpha.squareRoot()).adding(
                sample, times: (1 - alpha).squareRoot())
        }
        let scale = (previous / alpha).squareRoot()
        let denominator = alpha * (1 - previous).squareRoot() + (alpha * (1 - alpha) * previous).squareRoot()
        return Combination().adding(sample, times: scale).adding(noise, times: -(previous - alpha) / denominator)
    }
}
