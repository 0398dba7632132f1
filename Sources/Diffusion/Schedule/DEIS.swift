import Foundation

/// Diffusion exponential integrator sampling, multistep in the logarithm of rho, in the noise prediction.
///
/// Source: Zhang and Chen 2022 (arXiv 2204.13902), Proposition 3; diffusers `DEISMultistepScheduler`. Here
/// x = alpha x_0 + sigma noise, and rho = sigma / alpha is what a timetable calls sigma. Proved by `Tests/Fixtures/schedule`.
extension SamplingPlan {
    static func deis(_ table: Timetable, skipping skipped: Int) -> SamplingPlan {
        let configuration = table.configuration
        let isShort = configuration.lowerOrderFinal && table.steps < 15
        let evaluations = (skipped..<table.steps).map { place in
            let (from, to) = (table.level(place), table.level(place + 1))
            var order = min(configuration.solverOrder, place - skipped + 1)
            if isShort { order = min(order, table.steps - place) }
            var evaluation = Evaluation(timestep: table.timesteps[place])
            evaluation.memory = configuration.predictionType.noise(alpha: from.alpha, sigma: from.sigma)
            // x_to / alpha_to = x / alpha + the integral over rho of the polynomial through the noises.
            let nodes = (0..<order).map { table.sigmas[place - $0] }
            evaluation.update = Combination(
                sample: to.alpha / from.alpha,
                history: nodes.indices.map { to.alpha * integral(of: $0, nodes, to: table.sigmas[place + 1]) })
            return evaluation
        }
        return SamplingPlan(
            evaluations: evaluations, historyLength: configuration.solverOrder - 1,
            beginning: .solver(table, at: skipped))
    }

    /// The integral over rho, from the first node to `end`, of Lagrange's polynomial in ln rho that is 1 at node `index` and
    /// 0 at the others; at most three nodes.
    private static func integral(of index: Int, _ nodes: [Double], to end: Double) -> Double {
        let others = nodes.indices.filter { $0 != index }.map { log(nodes[$0]) }
        let own = log(nodes[index])
        let scale = others.reduce(1) { $0 * (own - $1) }
        // Antiderivatives of 1, ln rho and (ln rho)^2.
        func antiderivative(_ rho: Double) -> Double {
            let l = log(rho)
            let (first, second) = (rho * (l - 1), rho * (l * l - 2 * l + 2))
            return switch others.count {
            case 0: rho
            case 1: first - others[0] * rho
            default: second - (others[0] + others[1]) * first + others[0] * others[1] * rho
            }
        }
        return (antiderivative(end) - antiderivative(nodes[0])) / scale
    }
}
