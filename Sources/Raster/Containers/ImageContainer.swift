/// What the structure of a picture's file says, without decoding a pixel: its format, its size, and that it is whole.
///
/// This is the one rule for what is a picture: the spool goes by it when something is dropped, `Raster.decode` before it
/// decodes.
public struct ImageContainer: Sendable {
    /// The format, told by content.
    public let format: ImageFormat
    /// As stored, before any turning; of HEIC and AVIF the largest picture in the file.
    public let width: Int
    /// As `width`.
    public let height: Int
    let contents: Contents

    /// What was found on the way.
    enum Contents: Sendable {
        case png(PNGChunks)
        case jpeg(JPEGSegments)
        case webp(RIFFChunks)
        /// With the orientation that the first turning and mirroring properties make, as EXIF counts.
        case boxes(orientation: Int)
    }

    /// Walks the file's chunks, segments or boxes; `path` serves for messages only.
    /// - Throws: `RasterError`: `.truncated` where more bytes could make the file whole, `.unsupported` at
    ///   `ImageFormat.place` where it is of another kind, `.corrupt` where it breaks its format's rules.
    public init(_ bytes: [UInt8], path: String) throws(RasterError) {
        format = try ImageFormat(of: bytes, path: path)
        switch format {
        case .png:
            let chunks = try PNGChunks(bytes, path: path)
            (width, height, contents) = (chunks.width, chunks.height, .png(chunks))
        case .jpeg:
            let segments = JPEGSegments(bytes)
            (width, height) = try segments.checkedSize(path: path)
            contents = .jpeg(segments)
        case .webp:
            let chunks = try RIFFChunks(bytes, path: path)
            (width, height, contents) = (chunks.width, chunks.height, .webp(chunks))
        case .heic, .avif:
            let boxes = try ISOBoxes(bytes, format, path: path)
            (width, height, contents) = (boxes.width, boxes.height, .boxes(orientation: boxes.orientation))
        }
    }
}
