import CKernels
import Glibc

/// Settings of one step of AdamW.
public struct OptimiserStep: Sendable {
    /// As in Loshchilov & Hutter 2019; `weightDecay` is not yet multiplied by the learning rate.
    public var learningRate, beta1, beta2, epsilon, weightDecay: Double
    /// 1 for the first step.
    public var step: Int

    /// All of them.
    public init(
        learningRate: Double, beta1: Double, beta2: Double, epsilon: Double, weightDecay: Double, step: Int
    ) {
        (self.learningRate, self.beta1, self.beta2) = (learningRate, beta1, beta2)
        (self.epsilon, self.weightDecay, self.step) = (epsilon, weightDecay, step)
    }
}

extension Engine {
    /// One step of AdamW in the memory of `parameters`, of `first` and of `second`, the running means of the gradients and of
    /// their squares. All are float32 and of one size.
    public func adamW(
        _ step: OptimiserStep, _ parameters: Tensor, gradients: Tensor, first: Tensor, second: Tensor
    ) throws(EngineError) {
        for tensor in [gradients, first, second] {
            try checkGradient(tensor, like: parameters.shape, of: "AdamW")
        }
        var settings = kernels_adamw_settings(
            learning_rate: step.learningRate, beta1: step.beta1, beta2: step.beta2, epsilon: step.epsilon,
            weight_decay: step.weightDecay, first_correction: 1 - pow(step.beta1, Double(step.step)),
            second_correction: 1 - pow(step.beta2, Double(step.step)))
        try measured("AdamW \(parameters.shape)") {
            kernels_adamw(
                &settings, parameters.floats, gradients.floats, first.floats, second.floats, Int64(parameters.count))
        }
    }
}
