/// References to encode into one `.dcache`.
public struct EncodeRequest: Sendable, Equatable, Codable {
    /// The subject's name, for the cache's metadata.
    public let subject: String
    /// Absolute paths of the ingested copies, which nobody else can change, in the order that fixes their index; a
    /// mask `NAME_mask.png` stands beside its image and is not listed.
    public let references: [String]
    /// SHA-256 of each reference's bytes, lower-case hexadecimal, in the same order.
    public let digests: [String]
    /// The model's configured name, or nil for the default one.
    public let model: String?
    /// How to encode.
    public let settings: CacheSettings
    /// Absolute path of the file to write; it does not exist yet.
    public let output: String

    /// Absolute path of the folder for cut-outs; see ``CutOuts``.
    public var cutOuts: String { CutOuts.folder(beside: output) }

    /// A request.
    public init(
        subject: String, references: [String], digests: [String], model: String?, settings: CacheSettings,
        output: String
    ) {
        self.subject = subject
        self.references = references
        self.digests = digests
        self.model = model
        self.settings = settings
        self.output = output
    }
}
