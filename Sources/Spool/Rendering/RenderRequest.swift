/// One image to render: a value that can be written to a file and read back as an equal one, as can every request.
public struct RenderRequest: Sendable, Equatable, Codable {
    /// The job's id, for logs and metadata; nil when there is no spool.
    public let job: String?
    /// The job's manifest.
    public var manifest: JobManifest
    /// Which image of it: index, prompt and seed.
    public var image: ImagePlan
    /// The subjects' caches, in the manifest's order.
    public internal(set) var caches: [CacheUse]
    /// The picture of the manifest's `init_image`.
    public let initialImage: InitialImage?
    /// The subjects' photos, where a choice among candidates looks at them; else none.
    public let photos: [GridRequest.Reference]
    /// Absolute path of the file to write, in the manifest's output format; it does not exist yet.
    public let output: String
    /// What the pictures of the set made so far were made with, as `RenderedImage.identity` said; nil for the first.
    /// A renderer that would make this one with something else throws `.changed`.
    public let identity: String?
    /// What is wanted beside the picture of what it read of its references; nil is nothing.
    public let attention: AttentionRequest?
    /// What a pilot has chosen before, where the manifest's `image_scale` is `auto`; nil has the renderer run it.
    public let tuning: Tuning?

    /// A request.
    public init(
        job: String?, manifest: JobManifest, image: ImagePlan, caches: [CacheUse],
        initialImage: InitialImage? = nil, photos: [GridRequest.Reference] = [], output: String,
        identity: String? = nil, attention: AttentionRequest? = nil, tuning: Tuning? = nil
    ) {
        self.job = job
        self.manifest = manifest
        self.image = image
        self.caches = caches
        self.initialImage = initialImage
        self.photos = photos
        self.output = output
        self.identity = identity
        self.attention = attention
        self.tuning = tuning
    }

    /// The request at a scale that a pilot has chosen: it holds for the subjects that have none of their own.
    public func tuned(to imageScale: Double) -> RenderRequest {
        var request = self
        request.manifest.imageScale = ImageScale(imageScale)
        request.manifest.tunesImageScale = false
        request.caches = caches.indices.map { index in
            leavesScaleOpen(index)
                ? CacheUse(
                    subject: caches[index].subject, imageScale: ImageScale(imageScale), path: caches[index].path)
                : caches[index]
        }
        return request
    }

    /// Whether a cache's subject has no scale of its own.
    public func leavesScaleOpen(_ index: Int) -> Bool {
        !manifest.subjects.indices.contains(index) || manifest.subjects[index].imageScale == nil
    }

    /// Absolute path of the file for a candidate that is not chosen, where the manifest keeps it.
    public func output(candidate: Int) -> String { "\(output).\(candidate)" }
}
