import Bytes
import CImageCodecs
import Glibc

extension Raster {
    /// What is refused before anything is decoded.
    public struct Limits: Sendable, Equatable {
        /// Of the file, in bytes.
        public var fileSize = 64 << 20
        /// Of width and of height, in pixels.
        public var side = 16_384
        /// Of width times height.
        public var pixels = 200_000_000
        /// The most pixels that are decoded one by one where the caller says how large a side it needs; what has more is
        /// read at a reduced size.
        public var exactPixels = 50_000_000
        /// What a decoder may hold of a picture beside the result, in bytes. JPEG and PNG are decoded row by row and need
        /// next to nothing (progressive JPEG 350 MiB at most); an interlaced PNG, WebP, HEIC and AVIF are held whole.
        public var heldBytes = 350 << 20

        /// 64 MiB, 16,384 a side, 200 megapixels.
        public init() {}
    }

    /// Does once what decoding asks the operating system for, so that a process may be confined before it decodes.
    public static func prepareDecoders() { image_prepare() }

    /// Reads a picture of one of the formats of `ImageFormat`, told by its content: RGB, or RGBA where the file has
    /// transparency; 8-bit sRGB, whatever the file's depth and colours; upright. A colour profile that is damaged, or of
    /// another model than the picture, is as none. Without a profile, 16 bits give their high byte.
    /// - Parameter neededSide: how large a square the picture will be fitted into. A picture of more than
    ///   `limits.exactPixels` is then decoded at a half, a quarter or an eighth, so that its shorter side has still twice
    ///   as many pixels.
    /// - Throws: `RasterError` naming the file, what was found and what was expected: beyond the limits, truncated,
    ///   corrupt, of another kind, or not to be read at all.
    public static func decode(
        path: String, limits: Limits = Limits(), neededSide: Int? = nil
    ) throws(RasterError) -> Raster {
        let file = try RegularFile.open(path).mapError { RasterError($0, path) }.get()
        defer { file.close() }
        return try decode(descriptor: file.descriptor, path: path, limits: limits, neededSide: neededSide)
    }

    /// As `decode(path:limits:neededSide:)`, from a descriptor, which stays the caller's; `path` serves for messages only.
    public static func decode(
        descriptor: Int32, path: String, limits: Limits = Limits(), neededSide: Int? = nil
    ) throws(RasterError) -> Raster {
        let file = try RegularFile.of(descriptor).mapError { RasterError($0, path) }.get()
        let bytes = try file.imageBytes(path: path, limit: limits.fileSize)
        return try decode(bytes, path: path, limits: limits, neededSide: neededSide)
    }

    /// As `decode(path:limits:neededSide:)`, from the bytes of a file; `path` serves for messages only.
    public static func decode(
        _ bytes: [UInt8], path: String, limits: Limits = Limits(), neededSide: Int? = nil
    ) throws(RasterError) -> Raster {
        return try ImageDecoder.opened(bytes, path: path, limits: limits) { decoder, file throws(RasterError) in
            let header = decoder.header
            let (width, height) = (Int(header.width), Int(header.height))
            // Of a picture that its file crops the whole is decoded.
            let coded = file.width * file.height > width * height ? (file.width, file.height) : (width, height)
            let held = coded.0 * coded.1 / 8 * Int(header.held_bits)
            guard held <= limits.heldBytes else {
                throw RasterError(
                    path: path, cause: .tooLarge, place: "size",
                    found: "\(coded.0)x\(coded.1), for which decoding \(file.format.rawValue) needs \(held >> 20) MB",
                    expected: "at most \(limits.heldBytes >> 20) MB (a JPEG of this size can be read)")
            }
            let intent = try PictureIntent(file, bytes, header, path: path)
            return try decoder.read(
                intent, reduction: limits.reduction(width: width, height: height, neededSide: neededSide))
        }
    }
}

/// A decoder of CImageCodecs: opened once, read once. The bytes must outlive it.
struct ImageDecoder: ~Copyable {
    /// Opens the decoder of a file that is within the limits, and hands it to `body` with what the file's structure says.
    static func opened<R>(
        _ bytes: [UInt8], path: String, limits: Raster.Limits,
        _ body: (borrowing ImageDecoder, ImageContainer) throws(RasterError) -> R
    ) throws(RasterError) -> R {
        guard bytes.count <= limits.fileSize else { throw .tooLong(bytes.count, limits.fileSize, path) }
        let file = try ImageContainer(bytes, path: path)
        try limits.check(width: file.width, height: file.height, path: path)
        // Where only its items say that it is AVIF, libavif would not take the file.
        let bytes = file.format == .avif ? ISOBoxes.branded(bytes) : bytes
        return try bytes.withUnsafeBufferPointer { buffer throws(RasterError) in
            let decoder = try ImageDecoder(file.format, buffer, path: path)
            try limits.check(width: Int(decoder.header.width), height: Int(decoder.header.height), path: path)
            return try body(decoder, file)
        }
    }

    private let format: ImageFormat
    private let byteCount: Int
    private let path: String
    private let decoder: OpaquePointer
    let header: image_header

    init(_ format: ImageFormat, _ bytes: UnsafeBufferPointer<UInt8>, path: String) throws(RasterError) {
        var opened: OpaquePointer?
        let (result, message) = withImageMessage {
            image_open(format.codec, bytes.baseAddress, bytes.count, &opened, $0)
        }
        guard result == IMAGE_OK, let opened, let header = image_get_header(opened)?.pointee else {
            image_close(opened)
            throw .codec(result, message, format, byteCount: bytes.count, path: path)
        }
        (self.format, self.path, byteCount, decoder, self.header) = (format, path, bytes.count, opened, header)
    }

    deinit { image_close(decoder) }

    func read(_ intent: PictureIntent, reduction: Int) throws(RasterError) -> Raster {
        let colour = intent.colours.flatMap { $0.made(for: header) }
        defer { image_colour_free(colour) }
        var request = image_request(
            reduction: UInt32(reduction), orientation: Int32(intent.orientation), colour: colour)
        let (columns, rows) = (
            (Int(header.width) + reduction - 1) / reduction, (Int(header.height) + reduction - 1) / reduction
        )
        let channels = header.has_alpha == 0 ? 3 : 4
        let (width, height) = intent.orientation < 5 ? (columns, rows) : (rows, columns)
        var (result, message) = (IMAGE_OK, "")
        let count = width * height * channels
        let pixels = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            (result, message) = withImageMessage { image_read(decoder, &request, buffer.baseAddress, $0) }
            initialized = result == IMAGE_OK ? count : 0
        }
        guard result == IMAGE_OK else { throw .codec(result, message, format, byteCount: byteCount, path: path) }
        return Raster(width: width, height: height, channels: channels, pixels: pixels)
    }
}

extension ImageFormat {
    fileprivate var codec: image_format {
        switch self {
        case .png: IMAGE_PNG
        case .jpeg: IMAGE_JPEG
        case .webp: IMAGE_WEBP
        case .heic: IMAGE_HEIC
        case .avif: IMAGE_AVIF
        }
    }
}

extension ColourSpace {
    /// The conversion to sRGB of a picture with this header; nil where none is needed, or the profile is of no use.
    fileprivate func made(for header: image_header) -> OpaquePointer? {
        var header = header
        switch self {
        case .profile(let bytes): return image_colour_from_profile(bytes, bytes.count, &header)
        case .values(let chromaticities, let gamma):
            return image_colour_from_values(chromaticities, gamma ?? 0, &header)
        }
    }
}

/// Calls `body` with room for a message of the C library, and returns what it wrote.
func withImageMessage(_ body: (UnsafeMutablePointer<CChar>) -> image_result) -> (image_result, String) {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(IMAGE_MESSAGE_SIZE)) { buffer in
        buffer.initialize(repeating: 0)
        guard let message = buffer.baseAddress else { return (IMAGE_NO_MEMORY, "") }
        return (body(message), String(cString: message))
    }
}

extension Raster.Limits {
    /// - Throws: `RasterError` where a picture of this size is beyond the limits, or has no pixel.
    public func check(width: Int, height: Int, path: String) throws(RasterError) {
        guard width > 0, height > 0 else {
            throw RasterError(
                path: path, cause: .corrupt, place: "size", found: "\(width)x\(height)", expected: "at least one pixel")
        }
        // Each side is checked first, so that the product cannot overflow.
        guard width <= side, height <= side, width * height <= pixels else {
            throw RasterError(
                path: path, cause: .tooLarge, place: "size", found: "\(width)x\(height)",
                expected: "at most \(side) a side and \(pixels) pixels")
        }
    }

    /// By how much each side is divided: 1, 2, 4 or 8.
    fileprivate func reduction(width: Int, height: Int, neededSide: Int?) -> Int {
        guard let neededSide, neededSide > 0, width * height > exactPixels else { return 1 }
        return [8, 4, 2].first { min(width, height) / $0 >= 2 * neededSide } ?? 1
    }
}

extension RegularFile {
    /// All of an image's file, of at most `limit` bytes.
    func imageBytes(path: String, limit: Int) throws(RasterError) -> [UInt8] {
        guard size <= limit else { throw .tooLong(size, limit, path) }
        return try bytes().mapError { RasterError($0, path) }.get()
    }
}

extension RasterError {
    /// Of a file that cannot be read.
    public init(_ fault: RegularFile.Fault, _ path: String) {
        switch fault {
        case .system(let call, let code):
            self.init(
                path: path, cause: .system(code: code), place: call, found: "\(fault.found) (errno \(code))")
        case .folder, .special:
            self.init(
                path: path, cause: .unsupported, place: "file type", found: fault.found, expected: "a regular file")
        }
    }

    static func tooLong(_ count: Int, _ limit: Int, _ path: String) -> RasterError {
        RasterError(
            path: path, cause: .tooLarge, place: "file", found: "\(count) bytes", expected: "at most \(limit)")
    }

    /// The result of a C function that failed, with the library's words.
    static func codec(
        _ result: image_result, _ message: String, _ format: ImageFormat, byteCount: Int, path: String
    ) -> RasterError {
        let name = format.rawValue
        return switch result {
        case IMAGE_TRUNCATED:
            RasterError(
                path: path, cause: .truncated, place: name, found: "\(byteCount) bytes (\(message))",
                expected: "the rest of the image")
        case IMAGE_NO_MEMORY:
            RasterError(path: path, cause: .system(code: ENOMEM), place: name, found: "no memory for the image")
        case IMAGE_UNSUPPORTED:
            RasterError(
                path: path, cause: .unsupported, place: name, found: message, expected: "one that can be read")
        default: RasterError(path: path, cause: .corrupt, place: name, found: message, expected: "a sound image")
        }
    }
}
