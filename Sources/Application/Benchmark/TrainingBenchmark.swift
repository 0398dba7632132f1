import Checkpoint
import Diffusion
import DreamCache
import TensorEngine
import Training

/// One sample of training as a benchmark measures it: the keys and values of its caption, forward, and back to the
/// gradients of the adapter. Neither the optimiser nor the preparation of data is in it.
struct TrainingBenchmark {
    private let model: StableDiffusion
    private let schedule: TrainingSchedule
    private let parameters: AdapterParameters
    private let keeping: KeptForBackward
    private let input: BenchmarkInput
    private let noise: [Float]
    private let caption: Tensor
    private let memory: [InjectionSite: Tensor]

    /// - Parameters:
    ///   - adapter: where its parameters are.
    ///   - noise: of the latent's size.
    init(
        _ model: StableDiffusion, _ schedule: TrainingSchedule, adapter: ParameterStore, input: BenchmarkInput,
        noise: [Float], keeping: KeptForBackward
    ) throws {
        let engine = model.engine
        (self.model, self.schedule, self.input, self.noise, self.keeping) = (model, schedule, input, noise, keeping)
        parameters = try AdapterParameters(adapter, for: model.unet, engine: engine)
        let width = model.configuration.unet.contextSize
        caption = try engine.tensor(input.prompt, shape: [1, input.prompt.count / width, width])
        var memory: [InjectionSite: Tensor] = [:]
        for site in model.unet.sites {
            let tokens = input.cache[site.name] ?? []
            memory[site] = try engine.tensor(tokens, shape: [1, tokens.count / site.channels, site.channels])
        }
        self.memory = memory
    }

    /// Computes the gradients anew.
    func run() throws {
        let side = model.configuration.latentSize
        parameters.clearGradients()
        let sample = TrainingSample(
            latent: input.latent, noise: noise, height: side, width: side, timestep: Int(input.timestep),
            text: try model.unet.textKeys(caption), memory: memory)
        // A step of the optimiser changes the parameters, so that its samples need products made anew.
        let adapter = try TrainedAdapter(parameters, engine: model.engine)
        _ = try TrainingPass(model, schedule, keeping: keeping)(sample, adapter: adapter, weight: 1)
    }

    /// The gradients of all tensors, under their keys.
    var gradients: [BenchmarkOutput] {
        parameters.gradients.withFloats { all in
            parameters.entries.map {
                BenchmarkOutput(name: "train.\($0.key)", values: Array(all[$0.range]), shape: $0.shape)
            }
        }
    }
}

/// What a part computes, to be compared with what another implementation does.
public struct BenchmarkOutput: Sendable {
    /// The part, and in it the tensor where there are several.
    public let name: String
    /// In the order of the shape's last dimension.
    public let values: [Float]
    /// Sizes.
    public let shape: [Int]
}
