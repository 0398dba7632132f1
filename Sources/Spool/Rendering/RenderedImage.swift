/// What a renderer reports of an image it has written.
public struct RenderedImage: Sendable, Equatable, Codable {
    /// Time spent, in seconds, by part (`denoise`, `decode`, `write`), for `result.json`.
    public var seconds: [String: Double]
    /// Whatever else belongs into `result.json`: model hash, adapter hash, version.
    public var metadata: [String: String]
    /// All that the picture's bytes depend on besides the request: hashes of base, adapter and LoRAs, compute path,
    /// prediction type, version. Pictures of one set have one identity.
    public var identity: String?
    /// What it read of its references, where that was asked for.
    public var attention: AttentionReport?

    /// The candidates it was chosen among, where the manifest asks for a choice.
    public var choice: Choice?

    /// What the pilot has chosen, where this image was preceded by one.
    public var tuning: Tuning?

    /// A report.
    public init(
        seconds: [String: Double] = [:], metadata: [String: String] = [:], identity: String? = nil,
        choice: Choice? = nil, tuning: Tuning? = nil
    ) {
        self.identity = identity
        self.choice = choice
        self.tuning = tuning
        self.seconds = seconds
        self.metadata = metadata
    }
}
