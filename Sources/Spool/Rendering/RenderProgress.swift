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

    /// Progress of a phase.
    public init(phase: String, step: Int, steps: Int, preview: [UInt8]? = nil) {
        self.preview = preview
        self.phase = phase
        self.step = step
        self.steps = steps
    }
}
