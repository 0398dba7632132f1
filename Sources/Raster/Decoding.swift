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
        public var pixels = 50_000_000

        /// 64 MiB, 16,384 a side, 50 megapixels.
        public init() {}
    }

    /// Reads a PNG or JPEG file, told by its content: RGB, or RGBA where the file has transparency, turned upright by
    /// its EXIF orientation. Sixteen bits give their high byte; gamma and colour profiles are not applied.
    /// - Throws: `RasterError` naming the file, what was found and what was expected: beyond the limits, truncated,
    ///   corrupt, of another kind, or not to be read at all.
    public static func decode(path: String, limits: Limits = Limits()) throws(RasterError) -> Raster {
        // Without O_NONBLOCK a FIFO dropped in a photo's place would hang the program in open().
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .system("open", path) }
        defer { close(descriptor) }
        return try decode(descriptor: descriptor, path: path, limits: limits)
    }

    /// As `decode(path:limits:)`, from a descriptor, which stays the caller's; `path` serves for messages only.
    public static func decode(descriptor: Int32, path: String, limits: Limits = Limits()) throws(RasterError) -> Raster
    {
        try decode(try readImageFile(descriptor, path: path, limit: limits.fileSize), path: path, limits: limits)
    }

    /// As `decode(path:limits:)`, from the bytes of a file; `path` serves for messages only.
    public static func decode(_ bytes: [UInt8], path: String, limits: Limits = Limits()) throws(RasterError) -> Raster {
        guard bytes.count <= limits.fileSize else { throw .tooLong(bytes.count, limits.fileSize, path) }
        switch try ImageFormat(of: bytes, path: path) {
        case .png:
            let file = try PNGChunks(bytes, path: path)
            try limits.check(width: file.width, height: file.height, path: path)
            let exif = file.chunks.first { $0.type == "eXIf" }.map { Exif(bytes[$0.data]) }
            return try decode(bytes, path: path, limits: limits, format: .png).oriented(exif?.orientation ?? 1)
        case .jpeg:
            let exif = JPEGSegments(bytes).exif(in: bytes).map(Exif.init)
            return try decode(bytes, path: path, limits: limits, format: .jpeg).oriented(exif?.orientation ?? 1)
        }
    }

    /// Runs the format's library twice: over the header, which says how large the pixels are, then over everything.
    private static func decode(
        _ bytes: [UInt8], path: String, limits: Limits, format: ImageFormat
    ) throws(RasterError) -> Raster {
        var target = DecodingTarget()
        let (headerResult, headerMessage) = target.run(bytes, format)
        guard headerResult == IMAGE_REFUSED else {
            throw .codec(headerResult, headerMessage, format, byteCount: bytes.count, path: path)
        }
        try limits.check(width: target.width, height: target.height, path: path)
        var result = IMAGE_OK
        var message = ""
        let count = target.width * target.height * target.channels
        let pixels = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            target.pixels = buffer.baseAddress
            (result, message) = target.run(bytes, format)
            initialized = result == IMAGE_OK ? count : 0
        }
        guard result == IMAGE_OK else { throw .codec(result, message, format, byteCount: bytes.count, path: path) }
        return Raster(width: target.width, height: target.height, channels: target.channels, pixels: pixels)
    }
}

/// What the allocator of CImageCodecs sees: the image's size, and on the second run the memory for it.
private struct DecodingTarget {
    var width = 0
    var height = 0
    var channels = 0
    var pixels: UnsafeMutablePointer<UInt8>?

    mutating func run(_ bytes: [UInt8], _ format: ImageFormat) -> (image_result, String) {
        let allocate: image_allocator = { context, width, height, channels in
            guard let target = context?.assumingMemoryBound(to: DecodingTarget.self) else { return nil }
            let size = (Int(width), Int(height), Int(channels))
            guard target.pointee.pixels != nil else {
                (target.pointee.width, target.pointee.height, target.pointee.channels) = size
                return nil
            }
            return size == (target.pointee.width, target.pointee.height, target.pointee.channels)
                ? target.pointee.pixels : nil
        }
        return withImageMessage { message in
            format == .png
                ? image_decode_png(bytes, bytes.count, allocate, &self, message)
                : image_decode_jpeg(bytes, bytes.count, allocate, &self, message)
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

/// The formats that are read and written.
enum ImageFormat: String {
    case png = "PNG"
    case jpeg = "JPEG"

    /// Tells the format by the first bytes; the other kinds are those that people drop among photos.
    init(of bytes: [UInt8], path: String) throws(RasterError) {
        func has(_ text: String, at offset: Int) -> Bool { bytes.dropFirst(offset).starts(with: text.utf8) }
        if bytes.starts(with: PNGChunks.signature) {
            self = .png
        } else if bytes.starts(with: [0xff, 0xd8, 0xff]) {
            self = .jpeg
        } else {
            let found =
                bytes.isEmpty
                ? "an empty file"
                : has("RIFF", at: 0) && has("WEBP", at: 8)
                    ? "a WebP image"
                    : has("GIF8", at: 0)
                        ? "a GIF image"
                        : has("BM", at: 0)
                            ? "a BMP image"
                            : has("II*\0", at: 0) || has("MM\0*", at: 0)
                                ? "a TIFF or raw camera image"
                                : has("ftyphei", at: 4) || has("ftypmif1", at: 4)
                                    ? "an HEIC image"
                                    : has("ftypavif", at: 4)
                                        ? "an AVIF image"
                                        : "no known kind (\(bytes.prefix(8).map { String($0, radix: 16) }.joined(separator: " ")))"
            throw RasterError(
                path: path, cause: .unsupported, place: "first bytes", found: found, expected: "PNG or JPEG")
        }
    }
}

extension Raster.Limits {
    func check(width: Int, height: Int, path: String) throws(RasterError) {
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
}

/// Reads a whole regular file of at most `limit` bytes.
func readImageFile(_ descriptor: Int32, path: String, limit: Int) throws(RasterError) -> [UInt8] {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw .system("fstat", path) }
    guard status.st_mode & S_IFMT == S_IFREG else {
        throw RasterError(
            path: path, cause: .unsupported, place: "file type",
            found: status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "something that is no regular file",
            expected: "a regular file")
    }
    guard status.st_size <= limit else { throw .tooLong(Int(status.st_size), limit, path) }
    var code: Int32 = 0
    // The file may have changed since: what is read is what is there, and the decoder judges it.
    let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
        while count < buffer.count {
            let got = pread(descriptor, buffer.baseAddress?.advanced(by: count), buffer.count - count, off_t(count))
            if got < 0 && errno == EINTR { continue }
            if got < 0 { code = errno }
            if got <= 0 { return }
            count += got
        }
    }
    if code != 0 { throw .system("read", path, code: code) }
    return bytes
}

extension RasterError {
    static func system(_ call: String, _ path: String, code: Int32 = errno) -> RasterError {
        RasterError(
            path: path, cause: .system(code: code), place: call,
            found: "\(String(cString: strerror(code))) (errno \(code))")
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
                path: path, cause: .unsupported, place: name, found: message, expected: "RGB, grey or CMYK of 8 bits")
        default: RasterError(path: path, cause: .corrupt, place: name, found: message, expected: "a sound image")
        }
    }
}
