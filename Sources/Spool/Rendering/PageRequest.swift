/// A page to make of a finished set.
public struct PageRequest: Sendable, Equatable, Codable {
    /// A picture of the set.
    public struct Picture: Sendable, Equatable, Codable {
        /// Absolute path of the picture; the page names its last part.
        public let path: String
        /// Its prompt.
        public let prompt: String
        /// Its seed.
        public let seed: Int
        /// What the renderer reported of it.
        public let report: RenderedImage
        /// Absolute path of a picture beside it that shows where it read its references.
        public let overlay: String?

        /// A picture.
        public init(path: String, prompt: String, seed: Int, report: RenderedImage, overlay: String? = nil) {
            self.path = path
            self.prompt = prompt
            self.seed = seed
            self.report = report
            self.overlay = overlay
        }
    }

    /// The job's id; nil when there is no spool.
    public let job: String?
    /// The job's manifest.
    public let manifest: JobManifest
    /// The manifest as a document that makes the same set again: with the seed that was chosen.
    public let document: String
    /// References of its subjects, as far as they are at hand.
    public let references: [GridRequest.Reference]
    /// The pictures, in order.
    public let pictures: [Picture]
    /// The name of the contact sheet beside them, if there is one.
    public var sheet: String?
    /// What its author should know.
    public let notes: [String]
    /// Absolute path of the file to write.
    public let output: String

    /// The name of a set's page.
    public static let fileName = "index.html"

    /// A request.
    public init(
        job: String?, manifest: JobManifest, document: String, references: [GridRequest.Reference] = [],
        pictures: [Picture], sheet: String? = nil, notes: [String] = [], output: String
    ) {
        self.job = job
        self.manifest = manifest
        self.document = document
        self.references = references
        self.pictures = pictures
        self.sheet = sheet
        self.notes = notes
        self.output = output
    }

    /// A manifest's document with the seed that was chosen for it.
    public static func document(_ manifest: JSON, seed: Int) -> String {
        let members = (manifest.members ?? []).filter { $0.name != "seed" }
        return JSON(.object(members + [JSON.Member("seed", .integer(seed))])).text()
    }
}
