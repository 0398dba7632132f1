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
    /// The model whose decoder half the signal goes back through.
    public let model: StableDiffusion
    /// The noise it was trained with.
    public let schedule: TrainingSchedule
    private let keeping: KeptForBackward

    /// - Parameter keeping: what is kept for the way back; the results are the same.
    public init(_ model: StableDiffusion, _ schedule: TrainingSchedule, keeping: KeptForBackward = .everything) {
        self.model = model
        self.schedule = schedule
        self.keeping = keeping
    }

    /// Mean squared error of the prediction (Ho et al. 2020, equation 14, of the noise; Salimans and Ho 2022 of v). Its
    /// gradients, times `weight`, are added to those of the adapter's parameters.
    ///
    /// - Parameter weight: the sample's share of the batch's loss.
    public func callAsFunction(
        _ sample: TrainingSample, adapter: TrainedAdapter, weight: Double
    ) throws(EngineError) -> Double {
        var (decoded, target) = try predict(sample, adapter)
        let gradient = try model.engine.empty(decoded.prediction.shape)
        let error = Self.squaredError(decoded.prediction, target, gradient: gradient, weight: weight)
        try decoded.backward(gradient)
        return error
    }

    /// The same error without a way back: nothing but the result remains.
    public func error(_ sample: TrainingSample, adapter: TrainedAdapter) throws(EngineError) -> Double {
        let (decoded, target) = try predict(sample, adapter)
        return Self.squaredError(decoded.prediction, target, gradient: nil, weight: 1)
    }

    private func predict(
        _ sample: TrainingSample, _ adapter: TrainedAdapter
    ) throws(EngineError) -> (TrainedPrediction, target: Tensor) {
        let noisy = schedule.noised(sample.latent, with: sample.noise, at: sample.timestep)
        let x = try model.latentTensor(noisy, height: sample.height, width: sample.width)
        let target = try model.latentTensor(target(sample), height: sample.height, width: sample.width)
        let time = try model.unet.timeEmbeddings([Double(sample.timestep)])[0]
        let features = try model.unet.encode(x, time: time, text: sample.text)
        let decoded = try model.unet.decode(
            features, time: time, text: sample.text, training: adapter.mix(memory: sample.memory), keeping: keeping)
        return (decoded, target)
    }

    /// What the model is to predict of a sample.
    private func target(_ sample: TrainingSample) -> [Float] {
        switch model.configuration.schedule.predictionType {
        case .epsilon: return sample.noise
        case .sample: return sample.latent
        case .vPrediction:
            let alpha = schedule.alphasCumprod[sample.timestep]
            let (signal, noise) = (Float(alpha.squareRoot()), Float((1 - alpha).squareRoot()))
            return zip(sample.latent, sample.noise).map { signal * $1 - noise * $0 }
        }
    }

    /// mean((prediction - target)^2), and its gradient by the prediction times `weight`.
    private static func squaredError(
        _ prediction: Tensor, _ target: Tensor, gradient: Tensor?, weight: Double
    ) -> Double {
        let count = Double(prediction.count)
        return prediction.withFloats { found in
            target.withFloats { wanted in
                var sum = 0.0
                for i in 0..<min(found.count, wanted.count) {
                    let difference = Double(found[i]) - Double(wanted[i])
                    sum += difference * difference
                }
                gradient?.withFloats { slope in
                    for i in 0..<min(found.count, wanted.count) {
                        slope[i] = Float(2 * weight * (Double(found[i]) - Double(wanted[i])) / count)
                    }
                }
                return sum / count
            }
        }
    }
}
