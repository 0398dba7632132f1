import Foundation

/// DPM-Solver++ of second order on the stochastic equation, with a step to the middle: k-diffusion's "DPM++ SDE".
///
/// Source: k-diffusion `sample_dpmpp_sde`; diffusers `DPMSolverSDEScheduler`. Here x = x_0 + sigma noise. Both draw the noise of
/// a step's two halves from one Brownian path, of which the first half is a part of the whole; so here: the second noise is
/// made of the first, which is what the sample in the middle has more than its mean, and one draw. Proved by
/// `Tests/Fixtures/schedule`.
extension SamplingPlan {
    /// Two evaluations per step, the second in its middle. The last step, to no noise, has one.
    static func dpmSolverSDE(_ table: Timetable, skipping skipped: Int) -> SamplingPlan {
        var evaluations: [Evaluation] = []
        for place in skipped..<table.steps {
            let (sigma, next) = (table.sigmas[place], table.sigmas[place + 1])
            var first = Evaluation(timestep: table.timesteps[place], inputScale: inputScale(sigma))
            first.memory = noiselessSample(table, sigma: sigma)
            guard next > 0 else {
                first.update = Combination(history: [1])
                evaluations.append(first)
                continue
            }
            let middle = (sigma * next).squareRoot()
            let half = ancestral(from: sigma, to: middle)
            first.update = Combination(
                sample: half.down / sigma, history: [1 - half.down / sigma], noise: half.up)
            first.saving = .replace
            first.drawsNoise = true
            evaluations.append(first)

            var second = Evaluation(
                timestep: table.timestep(ofSigma: middle), inputScale: inputScale(middle))
            second.memory = noiselessSample(table, sigma: middle)
            let whole = ancestral(from: sigma, to: next)
            let share = ((sigma - middle) / (sigma - next)).squareRoot()
            let earlier = Combination(
                sample: 1 / half.up, saved: -half.down / sigma / half.up,
                history: [0, -(1 - half.down / sigma) / half.up])
            second.update = Combination(
                saved: whole.down / sigma, history: [1 - whole.down / sigma],
                noise: whole.up * (1 - share * share).squareRoot()
            ).adding(earlier, times: whole.up * share)
            second.saving = .clear
            second.drawsNoise = true
            evaluations.append(second)
        }
        return varianceExploding(table, evaluations, historyLength: 1, skipping: skipped)
    }

    /// To `down` without noise, and `up` of fresh noise, together `to`.
    private static func ancestral(from: Double, to: Double) -> (down: Double, up: Double) {
        let up = min(to, (to * to * (from * from - to * to) / (from * from)).squareRoot())
        return ((to * to - up * up).squareRoot(), up)
    }
}
