import Diffusion
import TensorEngine

/// One latent with its noise, text and references: what a loss is computed of.
public struct TrainingSample {
    /// The noiseless latent `[channels, height, width]`, scaled as the model was trained.
    public var latent: [Float]
    /// Of the same size, normally distributed.
    public var noise: [Float]
    /// Height and width of the latent.
    public var height: Int, width: Int
    /// Index of the training schedule.
    public var timestep: Int
    /// Keys and values of the caption.
    public var text: TextKeys
    /// Features of the references at each site, `[1, tokens, channels]`, float32.
    public var memory: [InjectionSite: Tensor]

    /// A sample of all its parts.
    public init(
        latent: [Float], noise: [Float], height: Int, width: Int, timestep: Int, text: TextKeys,
        memory: [InjectionSite: Tensor]
    ) {
        (self.latent, self.noise, self.height, self.width) = (latent, noise, height, width)
        (self.timestep, self.text, self.memory) = (timestep, text, memory)
    }
}

/// The loss of one sample and its gradients: forward through the whole U-Net, back through its decoder half.
///
/// Golden: `train.losses`, `train.grad.*`.
public struct TrainingPass {
    private let model: StableDiffusion
    private let schedule: TrainingSchedule
    private let keeping: KeptForBackward

    /// - Parameter keeping: what is kept for the way back; the results are the same.
    public init(_ model: StableDiffusion, _ schedule: TrainingSchedule, keeping: KeptForBackward = .everything) {
        self.model = model
        self.schedule = schedule
        self.keeping = keeping
    }

    /// Mean squared error of the predicted noise (Ho et al. 2020, equation 14). Its gradients, times `weight`, are added to
    /// those of the adapter's parameters.
    ///
    /// - Parameter weight: the sample's share of the batch's loss.
    public func callAsFunction(
        _ sample: TrainingSample, adapter: TrainedAdapter, weight: Double
    ) throws(EngineError) -> Double {
        let noisy = schedule.noised(sample.latent, with: sample.noise, at: sample.timestep)
        let x = try model.latentTensor(noisy, height: sample.height, width: sample.width)
        let target = try model.latentTensor(sample.noise, height: sample.height, width: sample.width)
        guard let time = try model.unet.timeEmbeddings([Double(sample.timestep)]).first else { return 0 }
        let features = try model.unet.encode(x, time: time, text: sample.text)
        var decoded = try model.unet.decode(
            features, time: time, text: sample.text, training: adapter.mix(memory: sample.memory), keeping: keeping)
        let gradient = try model.engine.empty(decoded.prediction.shape)
        let loss = Self.squaredError(decoded.prediction, target, gradient: gradient, weight: weight)
        try decoded.backward(gradient)
        return loss
    }

    /// mean((prediction - target)^2), and its gradient by the prediction times `weight`.
    private static func squaredError(
        _ prediction: Tensor, _ target: Tensor, gradient: Tensor, weight: Double
    ) -> Double {
        let count = Double(prediction.count)
        return prediction.withFloats { found in
            target.withFloats { wanted in
                gradient.withFloats { slope in
                    var sum = 0.0
                    for i in 0..<min(found.count, wanted.count) {
                        let difference = Double(found[i]) - Double(wanted[i])
                        sum += difference * difference
                        slope[i] = Float(2 * weight * difference / count)
                    }
                    return sum / count
                }
            }
        }
    }
}
