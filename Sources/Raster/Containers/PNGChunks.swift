import CImageCodecs

/// The chunks of a PNG file (W3C PNG, third edition, section 5), walked without decoding any of them.
struct PNGChunks: Sendable {
    /// A chunk's type and where its data lies.
    struct Chunk: Sendable {
        let type: String
        let data: Range<Int>
    }

    static let signature: [UInt8] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]
    /// The signature and IHDR, after which chunks may be inserted.
    static let headerSize = 33

    let width: Int
    let height: Int
    let chunks: [Chunk]

    /// Walks to IEND; what follows it is ignored. Checksums are libpng's to check, except of ancillary chunks.
    /// - Throws: `RasterError` where a chunk reaches beyond the file or IHDR does not come first.
    init(_ bytes: [UInt8], path: String) throws(RasterError) {
        var chunks: [Chunk] = []
        var position = Self.signature.count
        repeat {
            let type = chunks.last?.type ?? "the signature"
            guard bytes.count - position >= 12 else {
                throw RasterError(
                    path: path, cause: .truncated, place: "PNG after \(type)",
                    found: "\(max(0, bytes.count - position)) bytes",
                    expected: "another chunk, up to IEND")
            }
            let length = Self.u32(bytes, position)
            let name = String(
                decoding: bytes[position + 4..<position + 8].map { (65...122).contains($0) ? $0 : 63 }, as: UTF8.self)
            guard length <= 0x7fff_ffff else {
                throw RasterError(
                    path: path, cause: .corrupt, place: "PNG chunk \(name)", found: "\(length) bytes",
                    expected: "at most 2147483647")
            }
            guard length <= bytes.count - position - 12 else {
                throw RasterError(
                    path: path, cause: .truncated, place: "PNG chunk \(name)",
                    found: "\(bytes.count - position - 12) bytes",
                    expected: "\(length)")
            }
            chunks.append(Chunk(type: name, data: position + 8..<position + 8 + length))
            position += 12 + length
        } while chunks.last?.type != "IEND"
        guard let header = chunks.first, header.type == "IHDR", header.data.count == 13 else {
            throw RasterError(
                path: path, cause: .corrupt, place: "PNG", found: "first chunk \(chunks.first?.type ?? "none")",
                expected: "IHDR of 13 bytes")
        }
        width = Self.u32(bytes, header.data.lowerBound)
        height = Self.u32(bytes, header.data.lowerBound + 4)
        self.chunks = chunks
    }

    /// A chunk as it stands in a file: length, type, data, checksum.
    static func chunk(_ type: String, _ data: [UInt8]) -> [UInt8] {
        let body = Array(type.utf8) + data
        return bigEndian(data.count, 4) + body + bigEndian(Int(image_crc32(body, body.count)), 4)
    }

    /// Whether the checksum behind a chunk's data is the right one.
    static func isSound(_ chunk: Chunk, in bytes: [UInt8]) -> Bool {
        let body = bytes[chunk.data.lowerBound - 4..<chunk.data.upperBound]
        let checksum = body.withUnsafeBufferPointer { image_crc32($0.baseAddress, $0.count) }
        return Int(checksum) == u32(bytes, chunk.data.upperBound)
    }

    private static func u32(_ bytes: [UInt8], _ position: Int) -> Int {
        bytes[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
    }
}
