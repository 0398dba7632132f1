import TensorEngine

/// AdamW (Loshchilov & Hutter 2019) with torch's defaults and its order of operations.
///
/// Golden: `train.losses`.
public struct AdamW {
    /// Running means of the gradients and of their squares, as long as the parameters.
    public let first: Tensor, second: Tensor
    /// Steps made so far.
    public internal(set) var steps = 0
    /// Of the running means.
    public var beta1 = 0.9, beta2 = 0.999
    /// Added to the root of the mean square.
    public var epsilon = 1e-8
    /// Share of a parameter that a step takes off, times the learning rate.
    public var weightDecay = 0.01

    /// At the beginning of a run.
    public init(_ parameters: AdapterParameters, engine: Engine) throws(EngineError) {
        (first, second) = (try engine.empty(parameters.values.shape), try engine.empty(parameters.values.shape))
        for mean in [first, second] { mean.withFloats { $0.update(repeating: 0) } }
    }

    /// One step along the gradients that the parameters hold.
    public mutating func step(
        _ parameters: AdapterParameters, learningRate: Double, engine: Engine
    ) throws(EngineError) {
        steps += 1
        let step = OptimiserStep(
            learningRate: learningRate, beta1: beta1, beta2: beta2, epsilon: epsilon, weightDecay: weightDecay,
            step: steps)
        try engine.adamW(step, parameters.values, gradients: parameters.gradients, first: first, second: second)
    }
}
