/// One subject's cache as a job uses it.
public struct CacheUse: Sendable, Equatable, Codable {
    /// The subject's name.
    public let subject: String
    /// The subject's own image guidance scale.
    public let imageScale: ImageScale
    /// Absolute path of the `.dcache`.
    public let path: String

    /// A use of a cache.
    public init(subject: String, imageScale: ImageScale, path: String) {
        self.subject = subject
        self.imageScale = imageScale
        self.path = path
    }
}
