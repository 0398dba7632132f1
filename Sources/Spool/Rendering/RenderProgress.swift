/// How far the current piece of work is.
public struct RenderProgress: Sendable, Equatable {
    /// What is being done, in a word or two: `loading`, `encoding`, `denoising`, `decoding`.
    public var phase: String
    /// Steps done of it.
    public var step: Int
    /// Steps in all; 0 when unknown.
    public var steps: Int
    /// The picture as it is now, a small PNG; nil where there is nothing new to see.
    public var preview: [UInt8]?
    /// Mean loss of the last steps of a training, and how many seconds its rest will take; nil where there is none.
    public var loss: Double?, secondsLeft: Double?
    /// Which of an image's candidates is being made, from 1, and of how many; nil where there is one only.
    public var candidate: Int?, candidates: Int?

    /// Progress of a phase.
    public init(phase: String, step: Int, steps: Int, preview: [UInt8]? = nil) {
        self.preview = preview
        self.phase = phase
        self.step = step
        self.steps = steps
    }

    /// The phases whose steps are those of the image, or of the training.
    static let steppedPhases: Set<String> = ["denoising", "training"]

    /// How much of the image at work is denoised, 0 to 1, of all of its candidates, or how much of the steps of a training is done;
    /// nil where that is not known.
    var share: Double? {
        guard Self.steppedPhases.contains(phase), steps > 0 else { return nil }
        let part = Double(step) / Double(steps)
        guard let candidate, let candidates, candidates > 0 else { return part }
        return (Double(candidate - 1) + part) / Double(candidates)
    }
}
