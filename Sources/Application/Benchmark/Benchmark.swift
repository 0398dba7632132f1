import Checkpoint
import Diffusion
import DreamCache
import Foundation
import TensorEngine

/// Measures the parts of a model with made-up weights: nothing is downloaded, and speed does not depend on the values.
///
/// The denoiser's weights and inputs may come from a file instead, so that another implementation can be given the same
/// and its results be compared: Tests/Benchmarks.
public final class Benchmark {
    /// What can be measured.
    public enum Part: String, CaseIterable, Sendable {
        case text, encode, reference, unet, personal, step, preview, decode, train

        /// What it is.
        public var title: String {
            switch self {
            case .text: "text encoder"
            case .encode: "autoencoder, encode"
            case .reference: "reference pass"
            case .unet: "U-Net, no cache"
            case .personal: "U-Net, one reference"
            case .step: "guided step, three branches"
            case .preview: "preview of a step"
            case .decode: "autoencoder, decode"
            case .train: "training, one sample"
            }
        }
    }

    private let pipeline: Pipeline
    private let engine: Engine
    private let input: BenchmarkInput
    private let makeTraining: () throws -> TrainingBenchmark
    private lazy var training = Result { try makeTraining() }
    /// The speed of a large matrix product on this path, in operations per second.
    public let ceiling: Double
    /// Costs by operation over all timed repetitions.
    public let profile = EngineProfile()
    private var prepared: [Part: TimedWork] = [:]
    private lazy var denoising = Result { try pipeline.benchmarkWork(input) }
    private lazy var pixels = (0..<pipeline.imageSize * pipeline.imageSize * 3).map { sin(Float($0) * 0.01) }

    /// Makes the model.
    ///
    /// - Parameters:
    ///   - threads: their number; one per core when 0.
    ///   - weights: a safetensors file with the denoiser's weights in LDM naming (`model.diffusion_model.`), the
    ///     adapter's in the authors' (`diffusion_model.`), and inputs as F32: `bench.latent [channels, h, w]`,
    ///     `bench.noise` of the same shape, `bench.timestep [1]`, `bench.prompt` and `bench.negative [tokens, width]`, and one `bench.cache.SITE
    ///     [tokens, channels]` per site. The other parts of the model are made up, and so is everything without a file.
    ///   - keeping: what training keeps for the way back.
    /// - Throws: an error that lists what in the file does not fit the geometry.
    public init(
        _ geometry: RandomModel.Geometry, path: ComputePath, threads: Int, weights: String? = nil,
        keeping: KeptForBackward = .everything
    ) throws {
        try ThreadProbe.set(threads)
        let engine = try Engine(path: path)
        self.engine = engine
        ceiling = try engine.ceiling()
        let file = try weights.map { try Checkpoint.open($0) }
        func store(_ prefix: String, seed: UInt64) -> ParameterStore {
            file.map { ParameterStore($0, prefix: prefix, randomSeed: seed) } ?? ParameterStore(randomSeed: seed)
        }
        let model = try StableDiffusion(
            store("model.diffusion_model.", seed: 1), geometry.configuration, engine: engine)
        let adapter = try Adapter(store("diffusion_model.", seed: 2), for: model.unet, engine: engine)
        pipeline = try Pipeline(model: model, adapter: adapter, modelHash: "random", adapterHash: "random")
        let (input, noise) = try Self.input(store("bench.", seed: 3), model, isFile: file != nil)
        self.input = input
        let schedule = try TrainingSchedule(geometry.configuration.schedule)
        makeTraining = {
            try TrainingBenchmark(
                model, schedule, adapter: store("diffusion_model.", seed: 2), input: input, noise: noise,
                keeping: keeping)
        }
    }

    private static func input(
        _ store: ParameterStore, _ model: StableDiffusion, isFile: Bool
    ) throws -> (BenchmarkInput, noise: [Float]) {
        let inputs = store.scoped("bench.")
        let side = model.configuration.latentSize
        let text = [model.configuration.text.contextLength, model.configuration.unet.contextSize]
        var cache: [String: [Float]] = [:]
        for site in model.unet.sites {
            let tokens = (side >> site.level) * (side >> site.level)
            cache[site.name] = inputs["cache"].take(site.name, shape: [tokens, site.channels]).floats()
        }
        let input = BenchmarkInput(
            latent: inputs.take("latent", shape: [model.configuration.unet.inChannels, side, side]).floats(),
            timestep: isFile ? Double(inputs.take("timestep", shape: [1]).floats().first ?? 0) : 501,
            prompt: inputs.take("prompt", shape: text).floats(),
            negative: inputs.take("negative", shape: text).floats(), cache: cache)
        let noise = inputs.take("noise", shape: [model.configuration.unet.inChannels, side, side]).floats()
        try store.finish()
        return (input, noise)
    }

    /// The time of one repetition of a part.
    public func repetition(_ part: Part) throws -> PartTime {
        try prepare(part).measured(as: part.rawValue, title: part.title, profile: profile, ceiling: ceiling)
    }

    /// What a part of the denoiser predicts, `[channels, h, w]`, or the gradients of training; nothing for the other parts.
    public func outputs(of part: Part) throws -> [BenchmarkOutput] {
        guard [.unet, .personal, .step, .train].contains(part) else { return [] }
        let values = try prepare(part).run()
        if part == .train { return try training.get().gradients }
        let side = pipeline.model.configuration.latentSize
        return [
            BenchmarkOutput(
                name: part.rawValue, values: values, shape: [pipeline.model.configuration.unet.outChannels, side, side])
        ]
    }

    /// Number of threads.
    public var threads: Int { Engine.threadCount }

    private func prepare(_ part: Part) throws -> TimedWork {
        if let ready = prepared[part] { return ready }
        // As between the phases of an image: one part's buffers do not count as another's memory.
        engine.trimMemory()
        let work = try TimedWork(engine, try work(part))
        prepared[part] = work
        return work
    }

    private func work(_ part: Part) throws -> () throws -> [Float] {
        let (model, pixels, latent) = (pipeline.model, pixels, input.latent)
        let (side, latentSide) = (pipeline.imageSize, model.configuration.latentSize)
        switch part {
        case .text:
            return {
                _ = try model.encode(prompt: "a photo of a backpack, on the beach")
                return []
            }
        case .encode:
            return { try model.autoencoder.encode(pixels, height: side, width: side).mean }
        case .reference:
            let pass = try pipeline.benchmarkReferencePass(pixels: pixels, context: input.negative)
            return {
                try pass()
                return []
            }
        case .unet: return try denoising.get().plainEvaluation
        case .personal: return try denoising.get().personalEvaluation
        case .step: return try denoising.get().guidedStep
        case .preview:
            let look = try pipeline.benchmarkPreview(input)
            return {
                try look()
                return []
            }
        case .decode:
            return { try model.autoencoder.decode(latent, height: latentSide, width: latentSide) }
        case .train:
            let training = try training.get()
            return {
                try training.run()
                return []
            }
        }
    }
}
