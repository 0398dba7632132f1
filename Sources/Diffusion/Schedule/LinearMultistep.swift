/// Linear multistep (Adams-Bashforth) on the probability flow equation.
///
/// Source: k-diffusion `sample_lms`; diffusers `LMSDiscreteScheduler`, order 4. Proved by `Tests/Fixtures/schedule`.
extension SamplingPlan {
    private static let order = 4

    static func lms(_ table: Timetable, skipping skipped: Int) -> SamplingPlan {
        let evaluations = (skipped..<table.steps).map { place in
            let sigma = table.sigmas[place]
            var evaluation = Evaluation(timestep: table.timesteps[place], inputScale: inputScale(sigma))
            evaluation.memory = derivative(table, sigma: sigma)
            let nodes = (0..<min(place - skipped + 1, order)).map { table.sigmas[place - $0] }
            evaluation.update = Combination(
                sample: 1, history: nodes.indices.map { integral(of: $0, nodes, to: table.sigmas[place + 1]) })
            return evaluation
        }
        return varianceExploding(table, evaluations, historyLength: order - 1, skipping: skipped)
    }

    /// The integral, from the first node to `end`, of Lagrange's polynomial that is 1 at node `index` and 0 at the others.
    /// Three points of Gauss and Legendre are exact up to degree 5.
    private static func integral(of index: Int, _ nodes: [Double], to end: Double) -> Double {
        let (middle, half) = ((nodes[0] + end) / 2, (end - nodes[0]) / 2)
        let points = [(-(0.6).squareRoot(), 5.0 / 9), (0, 8.0 / 9), ((0.6).squareRoot(), 5.0 / 9)]
        return points.reduce(0) { sum, point in
            let at = middle + half * point.0
            let value = nodes.indices.reduce(1) { product, other in
                other == index ? product : product * (at - nodes[other]) / (nodes[index] - nodes[other])
            }
            return sum + half * point.1 * value
        }
    }
}
