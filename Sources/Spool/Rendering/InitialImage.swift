/// A picture to begin with (img2img); how much of it is replaced is in the manifest.
public struct InitialImage: Sendable, Equatable, Codable {
    /// Absolute path of the picture.
    public let path: String
    /// SHA-256 of its bytes, lower-case hexadecimal, for metadata.
    public let sha256: String

    /// A picture.
    public init(path: String, sha256: String) {
        self.path = path
        self.sha256 = sha256
    }
}
