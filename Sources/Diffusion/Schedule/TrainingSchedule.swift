import Foundation

/// The noise a model was trained with: abar for each timestep.
///
/// Source: Ho et al. 2020, equation 4 (x_t = sqrt(abar) x_0 + sqrt(1 - abar) noise); LDM `make_beta_schedule`; Lin et al.
/// 2023, Algorithm 1 (zero terminal SNR).
///
/// Values are rounded to single precision where diffusers rounds them: near timestep 0, where 1 - abar cancels, that moves
/// a sigma by 1e-5. LDM rounds only the finished abar, which differs by less than 1e-6.
public struct TrainingSchedule: Sendable, Equatable {
    /// abar for each timestep, [num_train_timesteps], falling from nearly 1.
    public let alphasCumprod: [Double]

    /// The schedule a configuration describes.
    ///
    /// - Throws: ``ScheduleError`` when ``ScheduleConfiguration/validate()`` does.
    public init(_ configuration: ScheduleConfiguration) throws(ScheduleError) {
        try configuration.validate()
        var alphasCumprod: [Double] = []
        var product = 1.0
        for beta in Self.betas(configuration) {
            product *= Double(1 - Float(beta))
            alphasCumprod.append(Self.rounded(product))
        }
        if configuration.rescaleBetasZeroSNR {
            let roots = alphasCumprod.map { $0.squareRoot() }
            if let first = roots.first, let last = roots.last, first > last {
                alphasCumprod = roots.map { root in
                    let shifted = (root - last) * (first / (first - last))
                    return Self.rounded(shifted * shifted)
                }
            }
            // Samplers that work with abar can step from pure noise; a sigma cannot be infinite (the constant is diffusers').
            if ![.ddim, .ddpm, .lcm, .tcd].contains(configuration.sampler) {
                alphasCumprod[alphasCumprod.count - 1] = 0x1p-24
            }
        }
        self.alphasCumprod = alphasCumprod
    }

    private static func rounded(_ number: Double) -> Double { Double(Float(number)) }

    private static func betas(_ configuration: ScheduleConfiguration) -> [Double] {
        if let betas = configuration.trainedBetas { return betas }
        let count = configuration.numTrainTimesteps
        switch configuration.betaSchedule {
        case .linear:
            return Spread.linspace(configuration.betaStart, configuration.betaEnd, count: count)
        case .scaledLinear:
            return Spread.linspace(
                configuration.betaStart.squareRoot(), configuration.betaEnd.squareRoot(), count: count
            )
            .map { Double(Float($0) * Float($0)) }
        case .squaredCosine:
            func alphaBar(_ time: Double) -> Double {
                let cosine = cos((time + 0.008) / 1.008 * .pi / 2)
                return cosine * cosine
            }
            return (0..<count).map { step in
                min(1 - alphaBar(Double(step + 1) / Double(count)) / alphaBar(Double(step) / Double(count)), 0.999)
            }
        }
    }

    /// sqrt((1 - abar) / abar) for each timestep, rising, in single precision.
    public var sigmas: [Double] {
        alphasCumprod.map { alpha in Double(((1 - Float(alpha)) / Float(alpha)).squareRoot()) }
    }

    /// x_t = sqrt(abar_t) sample + sqrt(1 - abar_t) noise, LDM's `q_sample`.
    ///
    /// - Parameters:
    ///   - sample: the noiseless latent, any shape.
    ///   - noise: of the same count.
    ///   - timestep: an index of ``alphasCumprod``.
    public func noised(_ sample: [Float], with noise: [Float], at timestep: Int) -> [Float] {
        precondition(alphasCumprod.indices.contains(timestep) && sample.count == noise.count)
        let alpha = alphasCumprod[timestep]
        return zip(sample, noise).map { Float(alpha.squareRoot() * Double($0) + (1 - alpha).squareRoot() * Double($1)) }
    }
}

/// Numbers spread over an interval, as numpy spreads them.
enum Spread {
    /// `numpy.linspace`: both ends included, one number being the start.
    static func linspace(_ start: Double, _ end: Double, count: Int) -> [Double] {
        guard count > 1 else { return count == 1 ? [start] : [] }
        let step = (end - start) / Double(count - 1)
        return (0..<count).map { $0 == count - 1 ? end : start + Double($0) * step }
    }

    /// `numpy.interp` over a table whose places are 0, 1, 2, ...
    static func interpolate(_ table: [Double], at place: Double) -> Double {
        let low = min(max(Int(place.rounded(.down)), 0), table.count - 1)
        let high = min(low + 1, table.count - 1)
        return table[low] + (table[high] - table[low]) * min(max(place - Double(low), 0), 1)
    }
}
