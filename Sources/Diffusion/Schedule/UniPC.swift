import Foundation

/// The unified predictor and corrector.
///
/// Source: Zhao et al. 2023 (arXiv 2302.04867), Algorithms 5 to 8; diffusers `UniPCMultistepScheduler`. Here
/// x = alpha x_0 + sigma noise and lambda = ln(alpha / sigma). Proved by `Tests/Fixtures/schedule`.
extension SamplingPlan {
    static func uniPC(_ table: Timetable, skipping skipped: Int) -> SamplingPlan {
        let configuration = table.configuration
        func order(_ place: Int) -> Int {
            let highest = configuration.lowerOrderFinal ? table.steps - place : configuration.solverOrder
            return min(configuration.solverOrder, highest, place - skipped + 1)
        }
        let evaluations = (skipped..<table.steps).map { place in
            let level = table.level(place)
            var evaluation = Evaluation(timestep: table.timesteps[place])
            evaluation.memory =
                configuration.predictX0
                ? configuration.predictionType.noiselessSample(alpha: level.alpha, sigma: level.sigma)
                : configuration.predictionType.noise(alpha: level.alpha, sigma: level.sigma)
            if place > skipped, !configuration.disableCorrector.contains(place - 1) {
                // The step that led here, taken again now that its end is known.
                let known = Combination(saved: 1)
                evaluation.correction = step(
                    table, from: place - 1, order: order(place - 1), sample: known, corrects: true)
            }
            evaluation.update = step(table, from: place, order: order(place), sample: .init(sample: 1), corrects: false)
            evaluation.saving = .replace
            return evaluation
        }
        return SamplingPlan(
            evaluations: evaluations, historyLength: configuration.solverOrder, beginning: .solver(table, at: skipped))
    }

    /// From `sigmas[place]` to the next with the predictions at `place` and before, and when correcting also the one at
    /// the end, which is then the newest of the history.
    private static func step(
        _ table: Timetable, from place: Int, order: Int, sample: Combination, corrects: Bool
    ) -> Combination {
        let configuration = table.configuration
        let (to, from) = (table.level(place + 1), table.level(place))
        let step = to.lambda - from.lambda
        let h = configuration.predictX0 ? -step : step
        let growth = expm1(h)
        let scale = configuration.predictX0 ? to.alpha : to.sigma
        let kept = configuration.predictX0 ? to.sigma / from.sigma : to.alpha / from.alpha

        // Where the older predictions lie, in units of the step; the end itself is at 1.
        let offset = corrects ? 1 : 0
        let ratios = (1..<max(1, order)).map { (table.level(place - $0).lambda - from.lambda) / step }

        let size = configuration.resolvedSolverType == .bh1 ? h : growth
        let nodes = ratios + [1]
        var moments: [Double] = []
        var phi = growth / h - 1
        var factorial = 1.0
        for power in 1...order {
            moments.append(phi * factorial / size)
            factorial *= Double(power + 1)
            phi = phi / h - 1 / factorial
        }
        let weights: [Double]
        if corrects {
            weights = order == 1 ? [0.5] : vandermondeSolution(nodes, moments)
        } else {
            weights = order == 2 ? [0.5] : vandermondeSolution(Array(nodes.dropLast()), Array(moments.dropLast()))
        }

        var history = [Double](repeating: 0, count: offset + order)
        history[offset] = -scale * growth
        func add(difference weight: Double, at index: Int) {
            history[index] -= scale * size * weight
            history[offset] += scale * size * weight
        }
        for (index, ratio) in ratios.enumerated() { add(difference: weights[index] / ratio, at: offset + 1 + index) }
        if corrects { add(difference: weights[order - 1], at: 0) }
        return Combination(history: history).adding(sample, times: kept)
    }

    /// The weights w with sum over k of nodes[k]^i w[k] = moments[i] for i from 0, by elimination; at most three.
    private static func vandermondeSolution(_ nodes: [Double], _ moments: [Double]) -> [Double] {
        var rows = moments.indices.map { power in nodes.map { pow($0, Double(power)) } + [moments[power]] }
        for pivot in rows.indices {
            // The first row is all ones and the nodes differ, so no pivot is zero.
            for row in rows.indices where row != pivot {
                let factor = rows[row][pivot] / rows[pivot][pivot]
                for column in pivot...rows.count { rows[row][column] -= factor * rows[pivot][column] }
            }
        }
        return rows.indices.map { rows[$0][rows.count] / rows[$0][$0] }
    }
}
