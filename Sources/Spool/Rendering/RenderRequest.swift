/// One image to render: a value that can be written to a file and read back as an equal one, as can every request.
public struct RenderRequest: Sendable, Equatable, Codable {
    /// The job's id, for logs and metadata; nil when there is no spool.
    public let job: String?
    /// The job's manifest.
    public var manifest: JobManifest
    /// Which image of it: index, prompt and seed.
    public let image: ImagePlan
    /// The subjects' caches, in the manifest's order.
    public let caches: [CacheUse]
    /// The picture of the manifest's `init_image`.
    public let initialImage: InitialImage?
    /// Absolute path of the file to write, in the manifest's output format; it does not exist yet.
    public let output: String
    /// What the pictures of the set made so far were made with, as `RenderedImage.identity` said; nil for the first.
    /// A renderer that would make this one with something else throws `.changed`.
    public let identity: String?
    /// What is wanted beside the picture of what it read of its references; nil is nothing.
    public let attention: AttentionRequest?

    /// A request.
    public init(
        job: String?, manifest: JobManifest, image: ImagePlan, caches: [CacheUse],
        initialImage: InitialImage? = nil, output: String, identity: String? = nil,
        attention: AttentionRequest? = nil
    ) {
        self.job = job
        self.manifest = manifest
        self.image = image
        self.caches = caches
        self.initialImage = initialImage
        self.output = output
        self.identity = identity
        self.attention = attention
    }
}
