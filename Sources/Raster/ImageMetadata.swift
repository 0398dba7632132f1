import Bytes
import CImageCodecs

/// The texts an image file carries: how it was made, for people and programs.
public struct ImageMetadata: Sendable, Equatable {
    /// A text under its PNG keyword.
    public struct Text: Sendable, Equatable {
        /// 1 to 79 Latin-1 characters.
        public var keyword: String
        /// Any text without NUL.
        public var text: String

        /// A text under its keyword.
        public init(keyword: String, text: String) {
            self.keyword = keyword
            self.text = text
        }
    }

    /// The settings line that front ends of Stable Diffusion read: PNG text `parameters`, JPEG EXIF UserComment.
    public var parameters: String?
    /// An XMP packet: PNG iTXt `XML:com.adobe.xmp`, JPEG APP1.
    public var xmp: String?
    /// Further texts, which only PNG carries.
    public var texts: [Text]

    /// Metadata to be written.
    public init(parameters: String? = nil, xmp: String? = nil, texts: [Text] = []) {
        self.parameters = parameters
        self.xmp = xmp
        self.texts = texts
    }

    static let parametersKeyword = "parameters"
    static let xmpKeyword = "XML:com.adobe.xmp"
    static let xmpSegmentPrefix = Array("http://ns.adobe.com/xap/1.0/\0".utf8)
    /// What a compressed text may inflate to, and all texts of a file together.
    private static let maximumTextSize = 8 << 20

    // MARK: Reading

    /// Reads the texts of a PNG or JPEG file; pixels are not decoded. Of other formats none are read.
    /// - Throws: `RasterError` when the file cannot be read, is cut off or of another kind. A damaged text is left out.
    public static func read(path: String, limits: Raster.Limits = Raster.Limits()) throws(RasterError) -> ImageMetadata
    {
        let file = try RegularFile.open(path).mapError { RasterError($0, path) }.get()
        defer { file.close() }
        return try read(try file.imageBytes(path: path, limit: limits.fileSize), path: path)
    }

    /// As `read(path:limits:)`, from the bytes of a file; `path` serves for messages only.
    public static func read(_ bytes: [UInt8], path: String) throws(RasterError) -> ImageMetadata {
        switch try ImageFormat(of: bytes, path: path) {
        case .png: readPNG(bytes, try PNGChunks(bytes, path: path))
        case .jpeg: readJPEG(bytes)
        case .webp, .heic, .avif: ImageMetadata()
        }
    }

    static func readPNG(_ bytes: [UInt8], _ file: PNGChunks) -> ImageMetadata {
        var metadata = ImageMetadata()
        var room = maximumTextSize
        for chunk in file.chunks where ["tEXt", "zTXt", "iTXt"].contains(chunk.type) {
            guard chunk.data.count <= room, PNGChunks.isSound(chunk, in: bytes),
                let text = text(of: chunk.type, bytes[chunk.data], limit: room)
            else { continue }
            room -= text.text.utf8.count
            switch text.keyword {
            case parametersKeyword where metadata.parameters == nil: metadata.parameters = text.text
            case xmpKeyword where metadata.xmp == nil: metadata.xmp = text.text
            default: metadata.texts.append(text)
            }
        }
        return metadata
    }

    /// W3C PNG, section 11.3.3: keyword, NUL, and after it by type the flags, languages and text.
    private static func text(of type: String, _ data: ArraySlice<UInt8>, limit: Int) -> Text? {
        guard let (keyword, rest) = splitAtNUL(data), (1...79).contains(keyword.count) else { return nil }
        let name = latin1(keyword)
        switch type {
        case "tEXt": return Text(keyword: name, text: latin1(rest))
        case "zTXt":
            guard rest.first == 0, let content = inflated(rest.dropFirst(), limit: limit / 2) else { return nil }
            return Text(keyword: name, text: latin1(content[...]))
        default:
            guard rest.count >= 2, let (_, translated) = splitAtNUL(rest.dropFirst(2)),
                let (_, content) = splitAtNUL(translated)
            else { return nil }
            if rest.first == 0 { return Text(keyword: name, text: String(decoding: content, as: UTF8.self)) }
            guard let content = inflated(content, limit: limit) else { return nil }
            return Text(keyword: name, text: String(decoding: content, as: UTF8.self))
        }
    }

    private static func splitAtNUL(_ data: ArraySlice<UInt8>) -> (ArraySlice<UInt8>, ArraySlice<UInt8>)? {
        data.firstIndex(of: 0).map { (data[..<$0], data[($0 + 1)...]) }
    }

    private static func latin1(_ bytes: ArraySlice<UInt8>) -> String {
        var text = String.UnicodeScalarView()
        text.append(contentsOf: bytes.lazy.map { Unicode.Scalar($0) })
        return String(text)
    }

    /// A zlib stream's content, where it is sound and of at most `limit` bytes.
    static func inflated(_ data: ArraySlice<UInt8>, limit: Int) -> [UInt8]? {
        // Deflate reaches 1:1032 at most, which bounds small texts below the limit.
        let capacity = min(limit, data.count * 1032)
        var result = IMAGE_CORRUPT
        let content = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            var held = capacity
            result = data.withUnsafeBufferPointer { image_inflate($0.baseAddress, $0.count, buffer.baseAddress, &held) }
            count = result == IMAGE_OK ? held : 0
        }
        return result == IMAGE_OK ? content : nil
    }

    private static func readJPEG(_ bytes: [UInt8]) -> ImageMetadata {
        let segments = JPEGSegments(bytes)
        var metadata = ImageMetadata()
        metadata.parameters = segments.exif(in: bytes).flatMap { Exif($0).userComment }
        metadata.xmp = segments.app1.lazy.map { bytes[$0] }.first { $0.starts(with: xmpSegmentPrefix) }.map {
            String(decoding: $0.dropFirst(xmpSegmentPrefix.count), as: UTF8.self)
        }
        return metadata
    }

    // MARK: Writing

    /// The text chunks: tEXt where Latin-1 suffices, else iTXt; XMP always iTXt, as its specification asks.
    func pngChunks(path: String) throws(RasterError) -> [UInt8] {
        var chunks: [UInt8] = []
        if let parameters { chunks += try Self.chunk(Text(keyword: Self.parametersKeyword, text: parameters), path) }
        for text in texts { chunks += try Self.chunk(text, path) }
        if let xmp { chunks += try Self.chunk(Text(keyword: Self.xmpKeyword, text: xmp), path) }
        return chunks
    }

    private static func chunk(_ text: Text, _ path: String) throws(RasterError) -> [UInt8] {
        let place = "text \(text.keyword)"
        guard let keyword = printableLatin1(text.keyword), (1...79).contains(keyword.count), keyword.first != 32,
            keyword.last != 32
        else {
            throw RasterError(
                path: path, cause: .metadata, place: place, found: "a keyword that PNG cannot carry",
                expected: "1 to 79 Latin-1 characters without outer spaces")
        }
        try checkNoNUL(text.text, place, path)
        if text.keyword != xmpKeyword, text.text.unicodeScalars.allSatisfy({ $0.value < 256 }) {
            let latin1 = text.text.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
            return PNGChunks.chunk("tEXt", keyword + [0] + latin1)
        }
        // Not compressed, no language, no translated keyword.
        return PNGChunks.chunk("iTXt", keyword + [0, 0, 0, 0, 0] + Array(text.text.utf8))
    }

    private static func printableLatin1(_ keyword: String) -> [UInt8]? {
        let values = keyword.unicodeScalars.map(\.value)
        guard values.allSatisfy({ (32...126).contains($0) || (161...255).contains($0) }) else { return nil }
        return values.map { UInt8(truncatingIfNeeded: $0) }
    }

    private static func checkNoNUL(_ text: String, _ place: String, _ path: String) throws(RasterError) {
        guard !text.utf8.contains(0) else {
            throw RasterError(
                path: path, cause: .metadata, place: place, found: "a NUL character", expected: "text without NUL")
        }
    }

    /// The APP1 segments: EXIF with the user comment, then XMP.
    func jpegSegments(path: String) throws(RasterError) -> [UInt8] {
        if let text = texts.first {
            throw RasterError(
                path: path, cause: .metadata, place: "text \(text.keyword)", found: "a text that JPEG has no place for",
                expected: "parameters and XMP only")
        }
        var segments: [UInt8] = []
        if let parameters {
            try Self.checkNoNUL(parameters, "text parameters", path)
            let block = Exif.block(userComment: parameters, limit: Self.segmentSize - Exif.jpegPrefix.count)
            segments += try Self.segment(Exif.jpegPrefix + block, "text parameters", path)
        }
        if let xmp { segments += try Self.segment(Self.xmpSegmentPrefix + Array(xmp.utf8), "XMP", path) }
        return segments
    }

    /// What a segment holds: its length field has 16 bits, and counts its own two bytes.
    private static let segmentSize = 65_533

    private static func segment(_ payload: [UInt8], _ place: String, _ path: String) throws(RasterError) -> [UInt8] {
        guard payload.count <= segmentSize else {
            throw RasterError(
                path: path, cause: .metadata, place: place, found: "\(payload.count) bytes",
                expected: "at most \(segmentSize), the room of a JPEG segment (PNG has no such limit)")
        }
        return [0xff, 0xe1] + bigEndian(payload.count + 2, 2) + payload
    }
}
