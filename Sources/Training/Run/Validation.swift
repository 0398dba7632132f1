import Diffusion
import TensorEngine

/// The mean squared error of samples that are the same each time, by ranges of the timestep.
public struct ValidationResult: Sendable, Equatable {
    /// A range of timesteps with the mean error there.
    public struct Range: Sendable, Equatable {
        /// The first timestep, and the first behind the range.
        public let from: Int, to: Int
        /// Nil where no sample is in it.
        public let error: Double?
    }

    /// Steps made before it.
    public let step: Int
    /// Of all samples.
    public let error: Double
    /// A fifth of the schedule each.
    public let ranges: [Range]

    static let rangeCount = 5
}

extension Trainer {
    /// Errors of the averaged adapter. Nothing that decides about the next steps is touched.
    public func validate(
        _ sample: (_ number: Int) throws(TrainingError) -> TrainingSample
    ) throws(TrainingError) -> ValidationResult {
        let engine = model.engine
        let adapter = try onEngine { () throws(EngineError) in try TrainedAdapter(average, engine: engine) }
        let timesteps = pass.schedule.alphasCumprod.count
        var sums = [Double](repeating: 0, count: ValidationResult.rangeCount)
        var counts = [Int](repeating: 0, count: ValidationResult.rangeCount)
        for number in 0..<settings.validationSamples {
            let sample = try sample(number)
            let range = sample.timestep * ValidationResult.rangeCount / timesteps
            sums[range] += try onEngine { () throws(EngineError) in try pass.error(sample, adapter: adapter) }
            counts[range] += 1
        }
        return ValidationResult(
            step: step, error: sums.reduce(0, +) / Double(max(1, counts.reduce(0, +))),
            ranges: sums.indices.map { range in
                ValidationResult.Range(
                    from: range * timesteps / ValidationResult.rangeCount,
                    to: (range + 1) * timesteps / ValidationResult.rangeCount,
                    error: counts[range] == 0 ? nil : sums[range] / Double(counts[range]))
            })
    }
}
