import Bytes
import Foundation

/// A run of denoising steps: which timesteps to evaluate the model at, and how each output moves the sample.
///
/// ```
/// var sampler = try Sampler(configuration, steps: 50)
/// var sample = sampler.initialSample(noise: generator.randn(count: count))
/// for i in sampler.timesteps.indices {
///     let output = model(sampler.scaledModelInput(sample, at: i), sampler.timesteps[i])
///     sampler.step(modelOutput: output, at: i, sample: &sample) { generator.randn(count: count) }
/// }
/// ```
///
/// Samples are flat arrays of any layout. What a run must keep to be continued after an interruption is the sample, the
/// generator's state and ``state``; continued so, it ends with the same bytes.
public struct Sampler: Sendable {
    /// What the schedule was made from.
    public let configuration: ScheduleConfiguration
    /// The timestep of each evaluation of the model; PNDM and Heun evaluate more often than they step.
    public let timesteps: [Float]
    /// The noise levels of the steps and the one they end with, for samplers that work with sigmas; otherwise empty.
    public let sigmas: [Double]
    /// The standard deviation of the noise a run begins with.
    public var initialNoiseScale: Float { Float(plan.initialNoiseScale) }
    /// What the next step needs of the last ones.
    public private(set) var state = State()

    private let plan: SamplingPlan

    /// What a sampler remembers between two evaluations.
    public struct State: Sendable, Equatable {
        /// The index of the next evaluation.
        public fileprivate(set) var position = 0
        /// Predictions at the last evaluations, newest first.
        public fileprivate(set) var history: [[Float]] = []
        /// A sample set aside for a later evaluation.
        public fileprivate(set) var savedSample: [Float]?
    }

    /// - Parameters:
    ///   - configuration: the schedule's options.
    ///   - steps: diffusers' `num_inference_steps`.
    ///   - eta: DDIM's and TCD's share of fresh noise, 0 to 1; other samplers do not know it.
    ///   - strength: how much of an initial image is replaced, above 0 to 1; below 1 the first steps are left out.
    /// - Throws: ``ScheduleError`` naming the option.
    public init(
        _ configuration: ScheduleConfiguration, steps: Int, eta: Double = 0, strength: Double = 1
    ) throws(ScheduleError) {
        guard eta >= 0, eta <= 1 else { throw ScheduleError(field: "eta", problem: "is \(eta); expected 0 to 1") }
        guard strength > 0, strength <= 1 else {
            throw ScheduleError(field: "strength", problem: "is \(strength); expected above 0 to 1")
        }
        try configuration.validateSampler()
        let table = try Timetable(configuration, steps: steps)
        let run = Int(Double(steps) * strength)
        guard run > 0 else {
            throw ScheduleError(field: "strength", problem: "is \(strength), which leaves none of \(steps) steps")
        }
        self.configuration = configuration
        plan = try SamplingPlan(table, skipping: steps - run, eta: eta)
        timesteps = plan.evaluations.map { Float($0.timestep) }
        sigmas = table.sigmas.isEmpty ? [] : Array(table.sigmas[(steps - run)...])
    }

    /// What a run begins with: noise at this sampler's scale, or an image's latent mixed with noise.
    ///
    /// - Parameters:
    ///   - noise: one draw from the standard normal distribution.
    ///   - image: the latent of an initial image, of the same count.
    public func initialSample(noise: [Float], image: [Float]? = nil) -> [Float] {
        guard let image else { return noise.map { Float(plan.initialNoiseScale * Double($0)) } }
        precondition(image.count == noise.count, "the image's latent and the noise have the same count")
        return zip(image, noise).map { Float(plan.beginning.image * Double($0) + plan.beginning.noise * Double($1)) }
    }

    /// The sample as the model is to be given it at evaluation `index`.
    public func scaledModelInput(_ sample: [Float], at index: Int) -> [Float] {
        let scale = plan.evaluations[index].inputScale
        return scale == 1 ? sample : sample.map { Float(scale * Double($0)) }
    }

    /// Moves the sample by the model's output at evaluation `index`; evaluations come in order.
    ///
    /// - Parameters:
    ///   - modelOutput: of the sample's count, guidance applied.
    ///   - index: of ``timesteps``; ``State/position``.
    ///   - sample: the sample the model was evaluated at, before ``scaledModelInput(_:at:)``.
    ///   - noise: one draw of the sample's count; called once if this evaluation takes noise, else not.
    public mutating func step(
        modelOutput: [Float], at index: Int, sample: inout [Float], noise: () -> [Float]
    ) {
        precondition(index == state.position, "evaluations come in order; the next one is \(state.position)")
        precondition(modelOutput.count == sample.count, "the output has the sample's count")
        let evaluation = plan.evaluations[index]
        var vectors = Vectors(
            sample: sample, saved: state.savedSample, output: modelOutput, history: state.history,
            noise: evaluation.drawsNoise ? noise() : nil)
        if let memory = evaluation.memory {
            var remembered = vectors.combined(memory)
            if let clip = evaluation.clip.map(Float.init) { remembered = remembered.map { min(max($0, -clip), clip) } }
            vectors.history.insert(remembered, at: 0)
        }
        if let correction = evaluation.correction { vectors.sample = vectors.combined(correction) }
        sample = vectors.combined(evaluation.update)
        switch evaluation.saving {
        case .keep: break
        case .replace: state.savedSample = vectors.sample
        case .clear: state.savedSample = nil
        }
        state.history = Array(vectors.history.prefix(plan.historyLength))
        state.position += 1
    }

    /// Continues where another sampler of the same configuration was.
    ///
    /// - Parameters:
    ///   - state: the other's ``state``.
    ///   - count: the count of a sample.
    /// - Throws: ``ScheduleError`` when the state cannot be this sampler's.
    public mutating func restore(_ state: State, count: Int) throws(ScheduleError) {
        guard (0...timesteps.count).contains(state.position) else {
            throw ScheduleError(
                field: "position", problem: "is \(state.position); this run has evaluations 0 to \(timesteps.count - 1)"
            )
        }
        let vectors = state.history + (state.savedSample.map { [$0] } ?? [])
        if let wrong = vectors.first(where: { $0.count != count }) {
            throw ScheduleError(
                field: "history", problem: "has a vector of \(wrong.count) numbers; a sample here has \(count)")
        }
        // Play the run up to there: how much it would remember follows from the plan.
        var remembered = 0
        var hasSaved = false
        for evaluation in plan.evaluations.prefix(state.position) {
            remembered = min(plan.historyLength, remembered + (evaluation.memory == nil ? 0 : 1))
            switch evaluation.saving {
            case .keep: break
            case .replace: hasSaved = true
            case .clear: hasSaved = false
            }
        }
        guard state.history.count == remembered, (state.savedSample != nil) == hasSaved else {
            throw ScheduleError(
                field: "history",
                problem:
                    "has \(state.history.count) predictions and \(state.savedSample == nil ? "no" : "a") saved sample; "
                    + "after \(state.position) evaluations of \(configuration.sampler.rawValue) there are \(remembered) and "
                    + (hasSaved ? "one" : "none"))
        }
        self.state = state
    }
}

/// The vectors of one evaluation.
private struct Vectors {
    var sample: [Float]
    var saved: [Float]?
    var output: [Float]
    var history: [[Float]]
    var noise: [Float]?

    /// Sums in double precision, in one order, so that a run gives the same bytes each time.
    func combined(_ combination: SamplingPlan.Combination) -> [Float] {
        var terms: [(weight: Double, vector: [Float])] = [(combination.sample, sample), (combination.output, output)]
        if let saved { terms.append((combination.saved, saved)) }
        terms += zip(combination.history, history).map { ($0, $1) }
        if let noise { terms.append((combination.noise, noise)) }
        var sums = [Double](repeating: 0, count: sample.count)
        for (weight, vector) in terms where weight != 0 {
            precondition(vector.count == sums.count, "noise has the sample's count")
            for place in sums.indices { sums[place] += weight * Double(vector[place]) }
        }
        return sums.map { Float($0) }
    }
}

extension Sampler.State: Codable {
    private enum CodingKeys: String, CodingKey {
        case position, history
        case savedSample = "saved_sample"
    }

    /// Vectors are written as their bytes, float32 and little-endian.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(position, forKey: .position)
        try container.encode(history.map(Self.bytes), forKey: .history)
        try container.encodeIfPresent(savedSample.map(Self.bytes), forKey: .savedSample)
    }

    /// - Throws: `DecodingError` where a field is missing or a vector is no whole number of float32.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        func floats(_ data: Data, _ key: CodingKeys) throws -> [Float] {
            guard data.count.isMultiple(of: 4) else {
                throw DecodingError.dataCorruptedError(
                    forKey: key, in: container, debugDescription: "\(data.count) bytes are no whole number of float32")
            }
            let bytes = [UInt8](data)
            return stride(from: 0, to: bytes.count, by: 4).map { Float(bitPattern: bytes.littleEndian(at: $0)) }
        }
        position = try container.decode(Int.self, forKey: .position)
        history = try container.decode([Data].self, forKey: .history).map { try floats($0, .history) }
        savedSample = try container.decodeIfPresent(Data.self, forKey: .savedSample).map {
            try floats($0, .savedSample)
        }
    }

    private static func bytes(_ vector: [Float]) -> Data {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(4 * vector.count)
        for number in vector { bytes.append(littleEndian: number.bitPattern) }
        return Data(bytes)
    }
}
