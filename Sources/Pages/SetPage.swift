/// The page of a finished set, `index.html` beside its pictures: a value whose page is always the same bytes.
public struct SetPage: Sendable {
    /// One picture of the set.
    public struct Picture: Sendable {
        let address: String, file: String, prompt: String
        let width: Int?, height: Int?
        let facts: [PageFact]
        let overlays: [Overlay]

        /// A picture.
        /// - Parameters:
        ///   - file: its name in the set.
        ///   - size: in pixels, if known.
        ///   - overlays: pictures that are shown with it.
        public init(
            file: String, prompt: String, size: (width: Int, height: Int)?, facts: [PageFact], overlays: [Overlay] = []
        ) {
            address = PageText.address([file])
            (self.file, self.prompt, self.facts, self.overlays) = (file, prompt, facts, overlays)
            (width, height) = (size?.width, size?.height)
        }
    }

    /// A picture that goes with another one: a map of what it read, or a candidate that was not chosen.
    public struct Overlay: Sendable {
        let address: String, caption: String

        /// A file of the set, in a folder of it where one is named.
        public init(file: String, folder: String? = nil, caption: String) {
            address = PageText.address([folder, file].compactMap(\.self))
            self.caption = caption
        }
    }

    /// A reference of a subject.
    public struct Reference: Sendable {
        let subject: String, name: String
        let picture: EmbeddedPicture?, cutOut: EmbeddedPicture?

        /// A reference; a picture that could not be read is nil.
        public init(subject: String, name: String, picture: EmbeddedPicture?, cutOut: EmbeddedPicture?) {
            (self.subject, self.name, self.picture, self.cutOut) = (subject, name, picture, cutOut)
        }
    }

    /// What the set is called: its subjects, or its drop.
    public var title: String
    /// Whether it lies in a spool, two folders below the spool's own page.
    public var isInSpool = false
    /// How it was made.
    public var facts: [PageFact] = []
    /// What its author should know.
    public var notes: [String] = []
    /// The pictures, in order.
    public var pictures: [Picture] = []
    /// The references, in order.
    public var references: [Reference] = []
    /// The contact sheet's file.
    public var sheet: String?
    /// The manifest that makes the set again, as JSON.
    public var manifest: String

    /// How many pictures, and how many references, a page shows.
    public static let shownPictures = 1000, shownReferences = 24

    /// A page of nothing yet.
    public init(title: String, manifest: String) { (self.title, self.manifest) = (title, manifest) }

    /// The page, in UTF-8.
    public func html() throws(PageError) -> String {
        struct Content: Sendable {
            let set: SetPage
            let shown: [Picture]
            let left: Int?
            let count: String
        }
        let left = pictures.count - Self.shownPictures
        return try PageLibrary.page(
            "set",
            Content(
                set: self, shown: Array(pictures.prefix(Self.shownPictures)), left: left > 0 ? left : nil,
                count: pictures.count == 1 ? "1 picture" : "\(pictures.count) pictures"),
            title: title, hasScript: false)
    }
}
