/// A contact sheet to make of a finished set.
public struct GridRequest: Sendable, Equatable, Codable {
    /// A reference that the sheet shows.
    public struct Reference: Sendable, Equatable, Codable {
        /// The subject's name.
        public let subject: String
        /// Absolute path of the picture; a mask may stand beside it.
        public let path: String
        /// Absolute path of its cut-out, which is shown in its place if it is there.
        public let cutOut: String?

        /// A reference.
        public init(subject: String, path: String, cutOut: String? = nil) {
            self.subject = subject
            self.path = path
            self.cutOut = cutOut
        }
    }

    /// The job's manifest.
    public let manifest: JobManifest
    /// References of its subjects, as far as they are at hand.
    public let references: [Reference]
    /// Absolute paths of the images, in order.
    public let images: [String]
    /// What stands behind the prompt of each image, in order; none where there is nothing to say.
    public let remarks: [String]
    /// Absolute path of the file to write, in the manifest's output format.
    public let output: String

    /// A request.
    public init(
        manifest: JobManifest, references: [Reference] = [], images: [String], remarks: [String] = [], output: String
    ) {
        self.manifest = manifest
        self.references = references
        self.images = images
        self.remarks = remarks
        self.output = output
    }
}
