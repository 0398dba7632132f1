import Checkpoint
import Diffusion
import Raster
import TensorEngine

/// How references become features.
public struct CacheOptions: Sendable, Equatable {
    /// Whose way is followed.
    public enum Mode: String, CaseIterable, Sendable {
        /// The paper's: mean of the posterior, empty prompt.
        case paper
        /// The authors' script's: a sample of the posterior, the negative prompt.
        case official
    }

    /// Whose way is followed.
    public var mode = Mode.paper
    /// Prompt of the pass; nil is the mode's own.
    public var prompt: String?
    /// Seed of each reference's generator.
    public var seed: UInt64 = 0
    /// How a picture that is not square becomes one.
    public var fit = Raster.Fit.pad
    /// Which tokens of a reference are kept.
    public enum Tokens: String, CaseIterable, Sendable {
        /// All, the background's white too, as the authors do.
        case all
        /// Those whose cell shows some of the subject, at every level: a reference then needs an alpha channel or a mask.
        case foreground
    }

    /// Which tokens of a reference are kept.
    public var tokens = Tokens.all
    /// What becomes of the photos' backgrounds.
    public var background = Background.keep
    /// Element type of the file: F16, or F32 where half a megabyte a site does not matter.
    public var elementType = StoredElementType.f16

    /// The paper's way with seed 0.
    public init() {}

    /// The authors' negative prompt, under which their script also runs the reference pass.
    public static let officialPrompt =
        "Open mouth, tongue out, teeth visible, bad photo, low quality, blurred, deformed"

    /// The prompt the pass runs under.
    public var effectivePrompt: String { prompt ?? (mode == .official ? Self.officialPrompt : "") }

    /// All that a cache depends on besides the pixels, in one line: equal lines, equal features.
    public func identity(modelHash: String, imageSize: Int) -> String {
        "1|\(modelHash)|\(mode.rawValue)|t\(ReferencePass.timestep)|seed \(seed)|\(preprocessing(imageSize))"
            + "|\(elementType.rawValue)|\(tokens == .all ? "" : "\(tokens.rawValue)|")"
            + "\(background == .keep ? "" : "\(backgroundText)|")\(effectivePrompt)"
    }

    /// What becomes of backgrounds, and by which version of whom.
    var backgroundText: String {
        background == .keep ? background.rawValue : "\(background.rawValue), \(CutOutMaker.version)"
    }

    func preprocessing(_ imageSize: Int) -> String { "\(fit.rawValue) \(imageSize)x\(imageSize) bilinear" }
}

/// One pass of a reference through the denoiser, almost without noise, recording what enters the injection sites
/// (DreamCache, section 3.1).
///
/// Golden: `cache.mean.*`, `cache.sample.*`, `cache.official.*`.
public struct ReferencePass {
    /// Index of the timestep: the least noise but one.
    public static let timestep = 1

    private let model: StableDiffusion
    private let schedule: TrainingSchedule

    init(_ model: StableDiffusion, _ schedule: TrainingSchedule) {
        self.model = model
        self.schedule = schedule
    }

    /// Everything the pass computes, for comparison with the golden data.
    struct Result {
        var latent: [Float]
        var noisy: [Float]
        var features: [InjectionSite: [Float]]
    }

    /// - Parameters:
    ///   - pixels: `[side, side, 3]`, -1 to 1.
    ///   - text: keys and values of the prompt, of one entry.
    ///   - time: the embedding of ``timestep``.
    func callAsFunction(
        pixels: [Float], side: Int, text: TextKeys, time: TimeEmbedding, options: CacheOptions
    ) throws(DreamCacheError) -> Result {
        try onEngine { () throws(EngineError) in
            let posterior = try model.autoencoder.encode(pixels, height: side, width: side)
            // The authors draw both from one generator, and the first also where it is not used.
            var generator = TorchGenerator(seed: options.seed)
            let posteriorNoise = generator.randn(count: posterior.mean.count)
            let noise = generator.randn(count: posterior.mean.count)
            let scale = model.configuration.latentScale
            let latent: [Float]
            switch options.mode {
            case .paper: latent = posterior.mean.map { $0 * scale }
            case .official: latent = posterior.sample(posteriorNoise).map { $0 * scale }
            }
            let noisy = schedule.noised(latent, with: noise, at: Self.timestep)

            let latentSide = side / model.configuration.autoencoder.downscale
            let x = try model.latentTensor(noisy, height: latentSide, width: latentSide)
            let recorder = Recorder(engine: model.engine)
            let features = try model.unet.encode(x, time: time, text: text)
            _ = try model.unet.decode(features, time: time, text: text, tap: recorder)
            return Result(latent: latent, noisy: noisy, features: recorder.features)
        }
    }

    /// Keeps a copy of what enters each site.
    private final class Recorder: InjectionTap {
        let engine: Engine
        var features: [InjectionSite: [Float]] = [:]

        init(engine: Engine) { self.engine = engine }

        func record(_ x: Tensor, at site: InjectionSite) { features[site] = engine.floats(x) }
        func mixes(at site: InjectionSite) -> Bool { false }
        func mix(_ x: Tensor, attended: Tensor, at site: InjectionSite) {}
    }
}
