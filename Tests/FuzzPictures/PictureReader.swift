import CImageCodecs
import Raster

/// What reads pictures from outside, as a fuzzer feeds it. It stands apart from the other readers because it needs little of
/// the program: with a sanitizer that is built in a minute.
public enum PictureReader: String, CaseIterable, Sendable {
    /// PNG and JPEG as they come.
    case image
    /// HEIC as it comes.
    case heic
    /// AVIF as it comes.
    case avif
    /// WebP as it comes.
    case webp
    /// An ICC profile, in a JPEG that is sound.
    case colour
    /// PNG whose checksums are made to fit.
    case png
    /// The texts of PNG and JPEG.
    case metadata

    /// Feeds the reader. An input may be refused or accepted; what it must not do is crash, hang or run away with memory.
    public func feed(_ bytes: UnsafeRawBufferPointer) {
        let bytes = [UInt8](bytes)
        switch self {
        case .image: Self.decode(bytes)
        case .heic: Self.decode(bytes, only: .heic)
        case .avif: Self.decode(bytes, only: .avif)
        case .webp: Self.decode(bytes, only: .webp)
        case .colour: Self.decode(Self.photo(profile: bytes))
        case .png: Self.decode(Self.mended(bytes))
        case .metadata: _ = try? ImageMetadata.read(bytes, path: "input")
        }
    }

    /// Small pictures go through the same code as large ones, many times as often.
    private static func decode(_ bytes: [UInt8], only format: ImageFormat? = nil) {
        // A fuzzer would wander off to the formats whose code it can follow.
        if let format, (try? ImageContainer(bytes, path: "input"))?.format != format { return }
        var limits = Raster.Limits()
        limits.pixels = 1 << 14
        _ = try? Raster.decode(bytes, path: "input", limits: limits)
    }

    // MARK: - Making bytes fit

    /// A JPEG with one segment (ICC.1:2022, annex B.4) more.
    private static func photo(profile: [UInt8]) -> [UInt8] {
        let content = Array("ICC_PROFILE\0".utf8) + [1, 1] + profile.prefix(65_000)
        let length = content.count + 2
        return sound.prefix(2) + [0xff, 0xe2, UInt8(length >> 8), UInt8(length & 0xff)] + content + sound.dropFirst(2)
    }

    private static let sound = (try? Raster(width: 8, height: 8, color: (200, 100, 50)).encodedJPEG()) ?? []

    /// A PNG with every chunk's checksum as its bytes ask for.
    private static func mended(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        var position = 8
        while position + 12 <= bytes.count {
            let length = bytes[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
            let end = position + 8 + length
            guard end + 4 <= bytes.count else { break }
            let checksum = bytes.withUnsafeBufferPointer { buffer in
                buffer.baseAddress.map { image_crc32($0 + position + 4, length + 4) } ?? 0
            }
            for index in 0..<4 { bytes[end + index] = UInt8(truncatingIfNeeded: checksum >> (24 - 8 * index)) }
            position = end + 4
        }
        return bytes
    }
}
