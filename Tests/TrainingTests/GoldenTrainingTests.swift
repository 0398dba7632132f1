import Checkpoint
import Diffusion
import Golden
import TensorEngine
import Testing

@testable import Training

/// Loss, gradients and ten steps of the tiny model against the authors' code, on each exact compute path.
@Suite struct GoldenTrainingTests {
    private struct Run {
        let model: StableDiffusion
        let parameters: AdapterParameters
        let golden: Golden
        let samples: [TrainingSample]
        let pass: TrainingPass

        init(_ path: ComputePath, keeping: KeptForBackward = .everything) throws {
            let engine = try Engine(path: path)
            model = try StableDiffusion.load(checkpoint: Golden.path("tiny-sd2.ckpt"), engine: engine)
            golden = try Golden()
            let store = ParameterStore(try Checkpoint.open(Golden.path("cross_attention-199999.pt")))
            parameters = try AdapterParameters(store, for: model.unet, engine: engine)
            pass = TrainingPass(model, try TrainingSchedule(model.configuration.schedule), keeping: keeping)

            var memory: [InjectionSite: Tensor] = [:]
            for (index, site) in model.unet.sites.enumerated() {
                let planes = golden["cache.mean.memory_layer_\(index)"]
                let count = planes.count / site.channels
                var tokens = planes
                for i in planes.indices { tokens[i % count * site.channels + i / count] = planes[i] }
                memory[site] = try engine.tensor(tokens, shape: [1, count, site.channels])
            }
            let (latents, noise) = (golden["train.x0"], golden["train.noise"])
            let contexts = try engine.tensor(golden["train.context"], shape: golden.shape("train.context"))
            let timesteps = golden["train.t"].map { Int($0) }
            let size = latents.count / timesteps.count
            samples = try timesteps.enumerated().map { [model] index, timestep in
                let part = index * size..<(index + 1) * size
                return TrainingSample(
                    latent: Array(latents[part]), noise: Array(noise[part]), height: 16, width: 16, timestep: timestep,
                    text: try model.unet.textKeys(try contexts.slice(index..<index + 1)), memory: memory)
            }
        }

        /// Loss of the batch; its gradients replace those before.
        func loss() throws -> Double {
            parameters.clearGradients()
            let adapter = try TrainedAdapter(parameters, engine: model.engine)
            let weight = 1 / Double(samples.count)
            return try samples.reduce(0) { try $0 + weight * pass($1, adapter: adapter, weight: weight) }
        }

        func gradient(_ entry: AdapterParameters.Entry) -> [Float] {
            parameters.gradients.withFloats { Array($0[entry.range]) }
        }
    }

    /// `golden.json: train.losses`.
    private static let losses = [
        1.186359167098999, 1.1836280822753906, 1.1809046268463135, 1.1781816482543945, 1.175459861755371,
        1.1727503538131714, 1.1700743436813354, 1.1674549579620361, 1.1649067401885986, 1.1624244451522827,
    ]

    @Test(arguments: Golden.exactPaths, KeptForBackward.allCases)
    func lossAndGradients(_ path: ComputePath, _ keeping: KeptForBackward) throws {
        let run = try Run(path, keeping: keeping)
        let loss = try run.loss()
        #expect(abs(loss / Self.losses[0] - 1) < 1e-5)
        #expect(run.parameters.entries.count == 9 * run.model.unet.sites.count)
        for entry in run.parameters.entries {
            let name = entry.key.dropFirst("diffusion_model.".count)
            let error = relativeError(run.gradient(entry), run.golden["train.grad.\(name)"])
            #expect(error < 1e-4, "\(entry.key)")
        }
    }

    @Test(arguments: Golden.exactPaths) func tenStepsOfAdamW(_ path: ComputePath) throws {
        let run = try Run(path)
        var optimiser = try AdamW(run.parameters, engine: run.model.engine)
        for expected in Self.losses {
            #expect(abs(try run.loss() / expected - 1) < 1e-5)
            try optimiser.step(run.parameters, learningRate: 1e-3, engine: run.model.engine)
        }
        #expect(optimiser.steps == 10)
    }

    /// Where only the decoder's upper sites are trained, the others stay plain self-attention, and the way back ends earlier.
    @Test func fewerSites() throws {
        let engine = try Engine(path: .openBLAS)
        let model = try StableDiffusion.load(checkpoint: Golden.path("tiny-sd2.ckpt"), engine: engine)
        let golden = try Golden()
        let store = ParameterStore(randomSeed: 3)
        let sites = Array(model.unet.sites.suffix(2))
        let parameters = try AdapterParameters(store, for: model.unet, sites: sites, engine: engine)
        var memory: [InjectionSite: Tensor] = [:]
        for site in sites {
            memory[site] = try engine.tensor(wave(11 * site.channels), shape: [1, 11, site.channels])
        }
        let sample = TrainingSample(
            latent: golden["xT"], noise: wave(golden["xT"].count), height: 16, width: 16, timestep: 300,
            text: try model.unet.textKeys(try model.encode(prompt: "a bag")), memory: memory)
        let pass = TrainingPass(model, try TrainingSchedule(model.configuration.schedule))
        func loss() throws -> Double {
            try pass(sample, adapter: try TrainedAdapter(parameters, engine: engine), weight: 1)
        }
        _ = try loss()
        // Of the loss along the gradient itself: the slope is the square of its length.
        let gradient = engine.floats(parameters.gradients)
        let square = gradient.reduce(0) { $0 + Double($1) * Double($1) }
        let start = engine.floats(parameters.values)
        func loss(at distance: Float) throws -> Double {
            parameters.values.withFloats { values in
                for i in start.indices { values[i] = start[i] + distance * gradient[i] }
            }
            return try loss()
        }
        let step = Float(0.01 / square.squareRoot())
        let slope = (try loss(at: step) - loss(at: -step)) / Double(2 * step)
        #expect(abs(slope / square - 1) < 1e-2)
    }
}

/// What a model is to predict: the noise, the noiseless latent, or v (Salimans & Ho 2022, section 4), each against the plain
/// formula on the same prediction.
@Suite struct PredictionTypeTests {
    @Test(arguments: [PredictionType.epsilon, .vPrediction, .sample])
    func theErrorIsThatOfItsTarget(_ type: PredictionType) throws {
        let engine = try Engine(path: .openBLAS)
        var options = StableDiffusion.Options()
        options.predictionType = type
        let model = try StableDiffusion.load(
            checkpoint: Golden.path("tiny-sd2.ckpt"), options: options, engine: engine)
        #expect(model.configuration.schedule.predictionType == type)
        let golden = try Golden()
        let parameters = try AdapterParameters(ParameterStore(randomSeed: 3), for: model.unet, engine: engine)
        var memory: [InjectionSite: Tensor] = [:]
        for site in model.unet.sites {
            memory[site] = try engine.tensor(wave(11 * site.channels), shape: [1, 11, site.channels])
        }
        let (latent, noise, timestep) = (golden["xT"], wave(golden["xT"].count), 700)
        let text = try model.unet.textKeys(try model.encode(prompt: "a bag"))
        let sample = TrainingSample(
            latent: latent, noise: noise, height: 16, width: 16, timestep: timestep, text: text, memory: memory)
        let schedule = try TrainingSchedule(model.configuration.schedule)
        let adapter = try TrainedAdapter(parameters, engine: engine)
        let error = try TrainingPass(model, schedule)(sample, adapter: adapter, weight: 1)
        let gradients = engine.floats(parameters.gradients)

        // The same by hand, from the noised latent on.
        let alpha = schedule.alphasCumprod[timestep]
        let (signal, deviation) = (Float(alpha.squareRoot()), Float((1 - alpha).squareRoot()))
        let noisy = zip(latent, noise).map { signal * $0 + deviation * $1 }
        let x = try model.latentTensor(noisy, height: 16, width: 16)
        let time = try model.unet.timeEmbeddings([Double(timestep)])[0]
        var decoded = try model.unet.decode(
            try model.unet.encode(x, time: time, text: text), time: time, text: text,
            training: adapter.mix(memory: memory))
        let target: [Float] =
            switch type {
            case .epsilon: noise
            case .sample: latent
            case .vPrediction: zip(latent, noise).map { signal * $1 - deviation * $0 }
            }
        let wanted = engine.floats(try model.latentTensor(target, height: 16, width: 16))
        let differences = zip(engine.floats(decoded.prediction), wanted).map { $0 - $1 }
        let mean = differences.reduce(0) { $0 + Double($1) * Double($1) } / Double(differences.count)
        #expect(abs(error / mean - 1) < 1e-5)
        parameters.clearGradients()
        try decoded.backward(
            try engine.tensor(differences.map { 2 * $0 / Float(differences.count) }, shape: decoded.prediction.shape))
        #expect(relativeError(gradients, engine.floats(parameters.gradients)) < 1e-5)
    }
}
