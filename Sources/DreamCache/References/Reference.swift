import Raster

/// A photo of a subject, read when its turn comes, so that one of them is in memory at a time.
public struct Reference {
    /// What the person calls it: the file's name.
    public let name: String
    /// Reads it: upright, RGB, or RGBA where alpha or a mask of the person's says what is subject, be it all of it.
    public let load: () throws -> Raster

    /// A reference.
    public init(name: String, load: @escaping () throws -> Raster) {
        self.name = name
        self.load = load
    }
}

/// What becomes of a photo's background.
public enum Background: String, CaseIterable, Sendable {
    /// A photo that has neither alpha nor a mask, and whose border is not plain already, is cut out; where nothing stands out
    /// in it, it is kept whole.
    case auto
    /// Photos stay as they are; alpha and masks are composited onto white.
    case keep
    /// Every photo is cut out, by its alpha or mask where it has one, and brought to fill the square.
    case remove
}

/// What was made of one photo.
public struct ReferenceReport: Sendable {
    /// The photo's name.
    public let name: String
    /// The cut-out, square, with alpha; nil of a photo that was used as it is.
    public let cutOut: Raster?
    /// What a person should know of it, a sentence each.
    public let remarks: [String]
    /// Share of the photo that shows the subject, 0 to 1; nil where the segmenter did not run.
    public let share: Double?
    /// The mask's mean confidence, 0 to 1; nil where the mask is the person's own.
    public let confidence: Double?
}
