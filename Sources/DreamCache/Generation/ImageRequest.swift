import Crypto
import Diffusion
import Foundation
import Raster

/// One image to generate.
public struct ImageRequest: Sendable {
    /// What to show.
    public var prompt: String
    /// What to steer away from.
    public var negativePrompt = ""
    /// How the two prompts are read.
    public var reading = PromptReading()
    /// How strongly text and cache steer.
    public var guidance = Guidance()
    /// Denoising steps.
    public var steps = 50
    /// DDIM's share of fresh noise, 0 to 1.
    public var eta = 0.0
    /// The sampler; nil is the model's own.
    public var scheduler: SamplerChoice?
    /// Seed of the generator that draws the initial latent and, after it, the step noise.
    public var seed: UInt64
    /// Seed of a generator of its own for the step noise.
    public var noiseSeed: UInt64?
    /// The generator that the seeds are given to.
    public var random = RandomSource.torchCPU
    /// Width in pixels; nil is the model's own.
    public var width: Int?
    /// Height in pixels; nil is the model's own.
    public var height: Int?
    /// The caches of the subjects to show; none for the plain model.
    public var caches: [FeatureCache] = []
    /// The image scale of each of ``caches``; nil gives all of them `guidance.imageScale`.
    public var imageScales: [ScaleSchedule]?
    /// A picture to begin with instead of noise (img2img): composited onto white and resized to the image's size.
    public var initialImage: Raster?
    /// How much of the initial image is replaced, above 0 to 1: at .8 the last four fifths of the steps are run.
    public var strength = 0.8

    /// Every how many steps it is recorded what the picture reads of its caches (``Pipeline/attention``); nil is never.
    public var attentionInterval: Int?

    /// A request with the authors' settings.
    public init(prompt: String, seed: UInt64) {
        self.prompt = prompt
        self.seed = seed
    }
}

/// How far an image's denoising is: enough to go on with it and end with the same bytes.
public struct DenoisingState: Sendable {
    /// The latent before the next step, `[channels, h, w]`.
    var latent: [Float]
    /// What the sampler remembers, and which step is next.
    var sampler: Sampler.State
    /// The generator of the step noise.
    var generator: RandomGenerator
    /// What the U-Net was given at the steps whose attention is recorded; none where none is.
    var recorded: [Input] = []

    /// What the U-Net was given at a step.
    struct Input {
        let step: Int
        let values: [Float]
    }

    /// Steps done.
    public var step: Int { sampler.position }

    private struct Document: Codable {
        /// Of the model; see ``Pipeline/identity``.
        var identity: String
        var latent: Data
        var sampler: Sampler.State
        var generator: Data
        var recorded: [Recorded]?

        struct Recorded: Codable {
            let step: Int
            let values: Data
        }
    }

    /// Whether it has all that a recorder was given until then.
    func isComplete(for recorder: AttentionRecorder?) -> Bool {
        guard let recorder else { return recorded.isEmpty }
        return recorded.map(\.step) == (0..<max(0, step)).filter(recorder.records)
    }

    /// The state as bytes, for a model of this identity; whoever keeps them guards them against damage.
    public func encoded(identity: String) -> [UInt8] {
        let document = Document(
            identity: identity, latent: latent.withUnsafeBytes { Data($0) }, sampler: sampler,
            generator: Data(generator.state),
            recorded: recorded.isEmpty
                ? nil : recorded.map { .init(step: $0.step, values: $0.values.withUnsafeBytes { Data($0) }) })
        let encoder = PropertyListEncoder()
        encoder.outputFormat = .binary
        // Encoding plain data cannot fail; an empty state would be refused on decoding.
        return (try? encoder.encode(document)).map { [UInt8]($0) } ?? []
    }

    /// The state of `encoded(identity:)`, or nil where the bytes are none, or another model's: the image then begins anew.
    public init?(decoding bytes: [UInt8], identity: String, latentCount: Int) {
        guard let document = try? PropertyListDecoder().decode(Document.self, from: Data(bytes)),
            document.identity == identity, document.latent.count == latentCount * MemoryLayout<Float>.size,
            let generator = try? RandomGenerator(state: [UInt8](document.generator))
        else { return nil }
        latent = Self.floats(document.latent)
        recorded = (document.recorded ?? []).map { Input(step: $0.step, values: Self.floats($0.values)) }
        guard recorded.allSatisfy({ $0.values.count == latentCount }) else { return nil }
        sampler = document.sampler
        self.generator = generator
    }

    private static func floats(_ data: Data) -> [Float] {
        [Float](unsafeUninitializedCapacity: data.count / MemoryLayout<Float>.size) { buffer, count in
            count = data.copyBytes(to: UnsafeMutableRawBufferPointer(buffer)) / MemoryLayout<Float>.size
        }
    }

    init(latent: [Float], sampler: Sampler.State, generator: RandomGenerator, recorded: [Input] = []) {
        self.latent = latent
        self.sampler = sampler
        self.generator = generator
        self.recorded = recorded
    }
}
