import CImageCodecs
import Glibc

extension ImageFormat {
    /// The most pixels of a side that is written: libjpeg's `JPEG_MAX_DIMENSION`, and for the others what programs can be
    /// trusted to read.
    var maximalSide: Int { self == .jpeg ? 65_500 : 65_535 }
}

extension Raster {
    /// The bytes of a PNG file, RGB or RGBA of 8 bits, with metadata as text chunks: a function of both alone, no time
    /// in it.
    /// - Parameter isQuick: whether time counts for more than bytes.
    /// - Throws: `RasterError` when a text cannot be carried; `path` is for its message.
    public func encodedPNG(
        metadata: ImageMetadata = ImageMetadata(), isQuick: Bool = false, path: String = "PNG"
    ) throws(RasterError) -> [UInt8] {
        let chunks = try metadata.pngChunks(path: path)
        let image = try encoded(.png, path) { output, count, message in
            image_encode_png(
                pixels, UInt32(width), UInt32(height), UInt32(channels), isQuick ? 1 : 0, output, count, message)
        }
        return Array(image[..<PNGChunks.headerSize]) + chunks + image[PNGChunks.headerSize...]
    }

    /// The bytes of a JPEG file, with metadata as EXIF and XMP; alpha is composited onto white.
    /// - Parameter quality: 1 to 100, as libjpeg has it; chroma is kept at full resolution from 90, else halved both ways.
    /// - Throws: `RasterError` for another quality, or when a text cannot be carried; `path` is for its message.
    public func encodedJPEG(
        quality: Int = 95, metadata: ImageMetadata = ImageMetadata(), path: String = "JPEG"
    ) throws(RasterError) -> [UInt8] {
        guard (1...100).contains(quality) else {
            throw RasterError(
                path: path, cause: .unsupported, place: "quality", found: "\(quality)", expected: "1 to 100")
        }
        let segments = try metadata.jpegSegments(path: path)
        let opaque = compositedOnWhite()
        let image = try encoded(.jpeg, path) { output, count, message in
            image_encode_jpeg(
                opaque.pixels, UInt32(width), UInt32(height), Int32(quality), quality >= 90 ? 1 : 0, output, count,
                message)
        }
        let insertion = JPEGSegments(image).insertion
        return Array(image[..<insertion]) + segments + image[insertion...]
    }

    private typealias Encoder = (
        UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>, UnsafeMutablePointer<Int>, UnsafeMutablePointer<CChar>
    ) -> image_result

    private func encoded(_ format: ImageFormat, _ path: String, _ encode: Encoder) throws(RasterError) -> [UInt8] {
        guard width <= format.maximalSide, height <= format.maximalSide else {
            throw RasterError(
                path: path, cause: .tooLarge, place: "size", found: "\(width)x\(height)",
                expected: "at most \(format.maximalSide) a side")
        }
        var output: UnsafeMutablePointer<UInt8>?
        var count = 0
        let (result, message) = withImageMessage { encode(&output, &count, $0) }
        guard result == IMAGE_OK else { throw .codec(result, message, format, byteCount: count, path: path) }
        defer { free(output) }
        return Array(UnsafeBufferPointer(start: output, count: count))
    }
}
