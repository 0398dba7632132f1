import Checkpoint
import Diffusion
import DreamCache
import Foundation
import TensorEngine

/// Measures every part of a model with random weights: nothing is downloaded, and speed does not depend on the values.
public struct Benchmark {
    /// A model's shape.
    public enum Geometry: String, CaseIterable, Sendable {
        /// Stable Diffusion 2.1.
        case sd21
        /// Stable Diffusion 1.5.
        case sd15
        /// The demonstration's.
        case tiny

        var configuration: ModelConfiguration {
            var configuration = ModelConfiguration()
            switch self {
            case .sd21: break
            case .sd15:
                configuration.unet = .stableDiffusion1
                configuration.text = .clipViTL
            case .tiny: configuration = RandomModel.configuration
            }
            return configuration
        }
    }

    /// What one part took.
    public struct Measurement: Sendable {
        /// The part.
        public let part: String
        /// The least of the repetitions, which noise disturbs least.
        public let seconds: Double
        /// Floating-point operations of one run, a multiply and an add counted as two.
        public let flops: Double
        /// Speed against that of a large matrix product measured in the same run.
        public let shareOfCeiling: Double
    }

    private let pipeline: Pipeline
    private let engine: Engine
    private let repetitions: Int
    /// The speed of a large matrix product on this path, in operations a second.
    public let ceiling: Double
    /// Costs by operation over all measured parts.
    public let profile = EngineProfile()

    /// Makes the model.
    public init(_ geometry: Geometry, path: ComputePath, threads: Int, repetitions: Int) throws {
        Engine.threadCount = threads > 0 ? threads : ProcessInfo.processInfo.activeProcessorCount
        let engine = try Engine(path: path)
        self.engine = engine
        self.repetitions = max(1, repetitions)
        ceiling = try Self.measureCeiling(engine)
        let model = try StableDiffusion(ParameterStore(randomSeed: 1), geometry.configuration, engine: engine)
        pipeline = try Pipeline(
            model: model, adapter: try Adapter(ParameterStore(randomSeed: 2), for: model.unet, engine: engine),
            modelHash: "random", adapterHash: "random")
    }

    private static func measureCeiling(_ engine: Engine) throws -> Double {
        let size = 2048
        let weights = try engine.weights(.linear, inputs: size, outputs: size, bias: nil) { buffer in
            for i in buffer.indices { buffer[i] = Float(i % 17) / 17 - 0.5 }
        }
        let x = try engine.converted(
            try engine.tensor((0..<size * size).map { Float($0 % 13) / 13 - 0.5 }, shape: [size, size]),
            to: engine.activationType)
        var best = Double.infinity
        for _ in 0..<12 {
            let start = ContinuousClock.now
            _ = try engine.product(x, weights, to: engine.activationType)
            best = min(best, (ContinuousClock.now - start) / .seconds(1))
        }
        return 2 * pow(Double(size), 3) / best
    }

    /// Runs every part and hands out each measurement as it is made.
    public func run(_ report: (Measurement) -> Void) throws {
        let model = pipeline.model
        let side = pipeline.imageSize
        let latentSide = model.configuration.latentSize
        let pixels = (0..<side * side * 3).map { sin(Float($0) * 0.01) }
        var generator = TorchGenerator(seed: 1)
        let noise = generator.randn(count: model.configuration.autoencoder.latentChannels * latentSide * latentSide)

        try measure("text encoder", report) { _ = try model.encode(prompt: "a photo of a backpack, on the beach") }
        try measure("autoencoder, encode", report) {
            _ = try model.autoencoder.encode(pixels, height: side, width: side)
        }
        let work = try pipeline.benchmarkWork(noise: noise, pixels: pixels)
        try measure("reference pass", report, work.referencePass)
        try measure("U-Net, no cache", report, work.plainEvaluation)
        try measure("U-Net, one reference", report, work.personalEvaluation)
        try measure("guided step, three branches", report, work.guidedStep)
        try measure("autoencoder, decode", report) {
            _ = try model.autoencoder.decode(noise, height: latentSide, width: latentSide)
        }
    }

    private func measure(_ part: String, _ report: (Measurement) -> Void, _ work: () throws -> Void) throws {
        try work()  // makes primitives, packs weights, fills the pool
        let counter = EngineProfile()
        engine.profile = counter
        try work()
        engine.profile = profile
        defer { engine.profile = nil }
        var best = Double.infinity
        for _ in 0..<repetitions {
            let start = ContinuousClock.now
            try work()
            best = min(best, (ContinuousClock.now - start) / .seconds(1))
        }
        report(
            Measurement(
                part: part, seconds: best, flops: counter.flops, shareOfCeiling: counter.flops / best / ceiling))
    }

    /// Peak of the process's memory, in bytes (`VmHWM` of proc(5)).
    public static var peakMemory: Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        for line in status.split(separator: "\n") where line.hasPrefix("VmHWM:") {
            return (line.split(separator: " ").compactMap { Int($0) }.first ?? 0) << 10
        }
        return 0
    }
}
