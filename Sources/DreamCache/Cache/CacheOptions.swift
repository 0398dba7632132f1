import Checkpoint
import Raster

/// How references become features.
public struct CacheOptions: Sendable, Equatable {
    /// Whose way is followed.
    public enum Mode: String, CaseIterable, Sendable {
        /// The paper's: mean of the posterior, empty prompt.
        case paper
        /// The authors' script's: a sample of the posterior, the negative prompt.
        case official
    }

    /// Which tokens of a reference are kept.
    public enum Tokens: String, CaseIterable, Sendable {
        /// All, the background's white too, as the authors do.
        case all
        /// Those whose cell shows some of the subject, at every level: a reference then needs an alpha channel or a mask.
        case foreground
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
    public var tokens = Tokens.all
    /// What becomes of the photos' backgrounds.
    public var background = Background.keep
    /// Element type of the file: F16, or F32 where half a megabyte per site does not matter.
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
        "2|\(modelHash)|\(mode.rawValue)|t\(ReferencePass.timestep)|seed \(seed)|\(preprocessing(imageSize))"
            + "|\(elementType.rawValue)|\(tokens == .all ? "" : "\(tokens.rawValue)|")"
            + "\(background == .keep ? "" : "\(backgroundText)|")\(effectivePrompt)"
    }

    /// What becomes of backgrounds, with the version of what cuts them out.
    var backgroundText: String {
        background == .keep ? background.rawValue : "\(background.rawValue), \(CutOutMaker.version)"
    }

    func preprocessing(_ imageSize: Int) -> String { "\(fit.rawValue) \(imageSize)x\(imageSize) bilinear" }
}
