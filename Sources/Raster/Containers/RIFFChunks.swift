/// The chunks of a WebP file (RFC 9649), walked without decoding any of them.
struct RIFFChunks: Sendable {
    /// A chunk's type and where its data lies.
    struct Chunk: Sendable {
        let type: String
        let data: Range<Int>
    }

    let width: Int
    let height: Int
    let chunks: [Chunk]

    /// Walks to the end that the file's header says; what follows it is ignored.
    /// - Throws: `RasterError` where the file ends before, or has no picture.
    init(_ bytes: [UInt8], path: String) throws(RasterError) {
        let end = 8 + Self.little(bytes, 4, 4)
        guard bytes.count >= end else {
            throw RasterError(
                path: path, cause: .truncated, place: ImageFormat.webp.rawValue,
                found: "\(bytes.count) bytes of a WebP of \(end)", expected: "the rest of the image")
        }
        var chunks: [Chunk] = []
        var position = 12
        while position + 8 <= end {
            let length = Self.little(bytes, position + 4, 4)
            guard length <= end - position - 8 else {
                throw RasterError(
                    path: path, cause: .corrupt, place: "WebP chunk", found: "\(length) bytes",
                    expected: "at most \(end - position - 8)")
            }
            let type = String(decoding: bytes[position..<position + 4], as: UTF8.self)
            chunks.append(Chunk(type: type, data: position + 8..<position + 8 + length))
            position += 8 + length + length % 2
        }
        guard let size = chunks.lazy.compactMap({ Self.size($0, bytes) }).first else {
            throw RasterError(
                path: path, cause: .corrupt, place: ImageFormat.webp.rawValue, found: "a WebP without a picture",
                expected: "one")
        }
        (width, height) = size
        self.chunks = chunks
    }

    /// The data of the first chunk of a type.
    func first(_ type: String, in bytes: [UInt8]) -> ArraySlice<UInt8>? {
        chunks.first { $0.type == type }.map { bytes[$0.data] }
    }

    /// Width and height where a chunk says them.
    private static func size(_ chunk: Chunk, _ bytes: [UInt8]) -> (Int, Int)? {
        let at = chunk.data.lowerBound
        switch chunk.type {
        case "VP8X" where chunk.data.count >= 10: return (little(bytes, at + 4, 3) + 1, little(bytes, at + 7, 3) + 1)
        case "VP8 " where chunk.data.count >= 10:
            return (little(bytes, at + 6, 2) & 0x3fff, little(bytes, at + 8, 2) & 0x3fff)
        case "VP8L" where chunk.data.count >= 5:
            let bits = little(bytes, at + 1, 4)
            return (bits & 0x3fff + 1, bits >> 14 & 0x3fff + 1)
        default: return nil
        }
    }

    private static func little(_ bytes: [UInt8], _ position: Int, _ count: Int) -> Int {
        guard position + count <= bytes.count else { return 0 }
        return bytes[position..<position + count].reversed().reduce(0) { $0 << 8 | Int($1) }
    }
}
