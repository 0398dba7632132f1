/// The formats that are read, told by content.
public enum ImageFormat: String, Sendable, CaseIterable {
    /// W3C PNG, third edition.
    case png = "PNG"
    /// ITU-T T.81; of several pictures in a file (MPO, Ultra HDR) the first.
    case jpeg = "JPEG"
    /// RFC 9649; of an animation the first frame.
    case webp = "WebP"
    /// ISO/IEC 23008-12, the coding mostly HEVC.
    case heic = "HEIC"
    /// The same boxes around AV1.
    case avif = "AVIF"

    /// For messages: what is read.
    public static let supported = "PNG, JPEG, HEIC, AVIF or WebP"

    /// Whether a name promises a picture, of a format that is read or not: then it is no stray file.
    public static func isPictureName(_ name: String) -> Bool {
        let lower = name.lowercased()
        return [
            ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".heic", ".heif", ".hif", ".avif", ".gif",
            ".bmp",
            ".tif", ".tiff", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw",
        ].contains { lower.hasSuffix($0) }
    }

    /// Whether a file that begins so is meant to be a picture of a format that is read; twelve bytes are enough.
    public static func isPicture(beginning bytes: [UInt8]) -> Bool {
        bytes.starts(with: PNGChunks.signature.prefix(4)) || bytes.starts(with: [0xff, 0xd8])
            || has("RIFF", in: bytes, at: 0) && has("WEBP", in: bytes, at: 8) || has("ftyp", in: bytes, at: 4)
    }

    /// Tells the format by the first bytes.
    /// - Throws: `RasterError`, `.truncated` where there are too few of them to tell.
    init(of bytes: [UInt8], path: String) throws(RasterError) {
        if bytes.starts(with: PNGChunks.signature) {
            self = .png
        } else if bytes.starts(with: [0xff, 0xd8]) {
            self = .jpeg
        } else if Self.has("RIFF", in: bytes, at: 0), Self.has("WEBP", in: bytes, at: 8) {
            self = .webp
        } else if let format = ISOBoxes.format(of: bytes) {
            self = format
        } else {
            let isBeginning =
                bytes.count < 12
                && Self.beginnings.contains { $0.prefix(bytes.count).elementsEqual(bytes.prefix($0.count)) }
            throw RasterError(
                path: path, cause: isBeginning ? .truncated : .unsupported, place: Self.place,
                found: isBeginning && !bytes.isEmpty ? "only \(bytes.count) bytes" : Self.guess(bytes),
                expected: Self.supported)
        }
    }

    /// Where errors of the initializer say that they found something.
    public static let place = "first bytes"

    private static let beginnings: [[UInt8]] = [
        PNGChunks.signature, [0xff, 0xd8], Array("RIFF".utf8), [0, 0, 0],
    ]

    private static func has(_ text: String, in bytes: [UInt8], at offset: Int) -> Bool {
        bytes.dropFirst(offset).starts(with: text.utf8)
    }

    /// Kinds that people drop among photos, by their first bytes.
    private static let others: [(text: String, offset: Int, name: String)] = [
        ("GIF8", 0, "a GIF image"), ("BM", 0, "a BMP image"), ("II*\0", 0, "a TIFF or raw camera image"),
        ("MM\0*", 0, "a TIFF or raw camera image"), ("ftypcrx ", 4, "a raw camera image"),
        ("JXL ", 4, "a JPEG XL image"), ("jP  ", 4, "a JPEG 2000 image"), ("ftypqt", 4, "a QuickTime video"),
        ("ftyp", 4, "an MP4 video"), ("RIFF", 0, "a RIFF file that is no WebP image"),
        ("8BPS", 0, "a Photoshop document"),
        ("PK", 0, "a zip archive"), ("%PDF", 0, "a PDF document"), ("<svg", 0, "an SVG drawing"),
    ]

    /// What a file of another kind looks like.
    private static func guess(_ bytes: [UInt8]) -> String {
        if bytes.isEmpty { return "an empty file" }
        if bytes.starts(with: [0xff, 0x0a]) { return "a JPEG XL image" }
        if let other = others.first(where: { has($0.text, in: bytes, at: $0.offset) }) { return other.name }
        let first = bytes.prefix(8).map { "0x" + String($0, radix: 16, uppercase: true) }.joined(separator: " ")
        return "a file that begins with \(first)"
    }
}
