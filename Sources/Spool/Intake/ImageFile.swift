import Glibc

/// Whether a dropped image is whole and within the limits, told from its structure without decoding a pixel.
///
/// PNG: chunks up to IEND (PNG specification, third edition, 5). JPEG: marker segments and entropy-coded data up to EOI
/// (ITU-T T.81, annex B). The picture itself is for the renderer to decode.
struct ImageFile: Sendable, Equatable {
    enum Format: String, Sendable {
        case png = "PNG"
        case jpeg = "JPEG"
    }

    /// Why a file will not do.
    enum Fault: Error, Sendable, Equatable {
        /// It is cut off: more bytes could make it whole.
        case incomplete(String)
        /// It changed while it was read.
        case changing
        /// It is no PNG or JPEG; what it looks like instead.
        case notAnImage(found: String)
        /// It is one, but will never do.
        case refused(found: String, expected: String)
    }

    let format: Format
    let width: Int
    let height: Int

    /// Examines the bytes of a file.
    static func examine(_ bytes: [UInt8], limits: SpoolConfiguration.ReferenceLimits) throws(Fault) -> ImageFile {
        let image: ImageFile
        if bytes.starts(with: pngSignature) {
            image = try png(bytes)
        } else if bytes.starts(with: [0xFF, 0xD8]) {
            image = try jpeg(bytes)
        } else if bytes.count < 8, pngSignature.starts(with: bytes) || bytes == [0xFF] {
            throw .incomplete(bytes.isEmpty ? "an empty file" : "only \(bytes.count) bytes")
        } else {
            throw .notAnImage(found: guess(bytes))
        }
        guard image.width <= limits.side, image.height <= limits.side, image.width * image.height <= limits.pixels
        else {
            throw .refused(
                found: "\(image.width) x \(image.height) pixels",
                expected: "at most \(limits.side) a side and \(limits.pixels) in all")
        }
        return image
    }

    private static let pngSignature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

    private static func png(_ bytes: [UInt8]) throws(Fault) -> ImageFile {
        var position = 8
        var size: (Int, Int)?
        while true {
            guard position + 12 <= bytes.count else { throw .incomplete("a PNG without its IEND chunk") }
            let length = bigEndian(bytes, position, 4)
            let type = bytes[position + 4..<position + 8]
            guard length <= 0x7FFF_FFFF else {
                throw .refused(found: "a PNG chunk of \(length) bytes", expected: "at most 2147483647")
            }
            guard position + 12 + length <= bytes.count else { throw .incomplete("a PNG without its IEND chunk") }
            if size == nil {
                guard type.elementsEqual("IHDR".utf8), length == 13 else {
                    throw .refused(found: "a PNG whose first chunk is not IHDR", expected: "IHDR")
                }
                size = (bigEndian(bytes, position + 8, 4), bigEndian(bytes, position + 12, 4))
            }
            if type.elementsEqual("IEND".utf8), let (width, height) = size {
                return try checked(.png, width, height)
            }
            position += 12 + length
        }
    }

    private static func jpeg(_ bytes: [UInt8]) throws(Fault) -> ImageFile {
        let incomplete = Fault.incomplete("a JPEG that ends without its EOI marker")
        var position = 2
        var size: (Int, Int)?
        while true {
            // A marker: 0xFF, any number of fill bytes 0xFF, then the code.
            guard position < bytes.count else { throw incomplete }
            guard bytes[position] == 0xFF else {
                throw .refused(found: "a JPEG with stray bytes at \(position)", expected: "a marker")
            }
            while position < bytes.count, bytes[position] == 0xFF { position += 1 }
            guard position < bytes.count else { throw incomplete }
            let code = bytes[position]
            position += 1
            switch code {
            case 0xD9:
                guard let (width, height) = size else {
                    throw .refused(found: "a JPEG without a frame", expected: "a picture")
                }
                return try checked(.jpeg, width, height)
            case 0x01, 0xD0...0xD7: continue
            default: break
            }
            guard position + 2 <= bytes.count else { throw incomplete }
            let length = bigEndian(bytes, position, 2)
            guard length >= 2 else {
                throw .refused(found: "a JPEG segment of \(length) bytes", expected: "at least 2")
            }
            if (0xC0...0xCF).contains(code), ![0xC4, 0xC8, 0xCC].contains(code), size == nil {
                guard position + 7 <= bytes.count else { throw incomplete }
                size = (bigEndian(bytes, position + 5, 2), bigEndian(bytes, position + 3, 2))
            }
            position += length
            guard code == 0xDA else { continue }
            // Entropy-coded data runs to the next marker that is neither a stuffed zero nor a restart.
            while true {
                while position < bytes.count, bytes[position] != 0xFF { position += 1 }
                guard position + 1 < bytes.count else { throw incomplete }
                let next = bytes[position + 1]
                if next != 0x00, next != 0xFF, !(0xD0...0xD7).contains(next) { break }
                position += next == 0xFF ? 1 : 2
            }
        }
    }

    private static func checked(_ format: Format, _ width: Int, _ height: Int) throws(Fault) -> ImageFile {
        guard width > 0, height > 0 else {
            throw .refused(found: "\(width) x \(height) pixels", expected: "at least 1 x 1")
        }
        return ImageFile(format: format, width: width, height: height)
    }

    private static func bigEndian(_ bytes: [UInt8], _ position: Int, _ count: Int) -> Int {
        bytes[position..<position + count].reduce(0) { $0 << 8 | Int($1) }
    }

    /// What a file that is neither looks like, for the message.
    private static func guess(_ bytes: [UInt8]) -> String {
        func has(_ text: String, at offset: Int) -> Bool {
            bytes.dropFirst(offset).starts(with: Array(text.utf8))
        }
        if bytes.isEmpty { return "an empty file" }
        if has("RIFF", at: 0), has("WEBP", at: 8) { return "a WebP image" }
        if has("ftyp", at: 4) { return "a HEIF, AVIF or MP4 file" }
        if has("GIF8", at: 0) { return "a GIF image" }
        if has("BM", at: 0) { return "a BMP image" }
        if has("II*\0", at: 0) || has("MM\0*", at: 0) { return "a TIFF image" }
        if has("PK", at: 0) { return "a zip archive" }
        if has("%PDF", at: 0) { return "a PDF document" }
        return
            "a file that begins with \(bytes.prefix(4).map { "0x" + String($0, radix: 16, uppercase: true) }.joined(separator: " "))"
    }

    /// Whether a name promises an image, so that one that is none is the author's mistake and not a stray file.
    static func isImageName(_ name: String) -> Bool {
        let lower = name.lowercased()
        return [".png", ".jpg", ".jpeg", ".webp", ".heic", ".heif", ".avif", ".gif", ".bmp", ".tif", ".tiff"]
            .contains { lower.hasSuffix($0) }
    }
}
