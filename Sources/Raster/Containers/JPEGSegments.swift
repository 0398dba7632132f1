/// The segments of a JPEG (ITU-T T.81, annex B) up to the end of its first picture, found without decoding. Markers are
/// looked for as libjpeg does: bytes between two segments, which some cameras write, are passed over.
struct JPEGSegments: Sendable {
    /// Payloads of APP1 and APP2 before the first scan, in order.
    private(set) var app1: [Range<Int>] = []
    private(set) var app2: [Range<Int>] = []
    /// Where a segment may be inserted: after SOI, and after JFIF's APP0, which must come first.
    private(set) var insertion = 2
    /// Of the first frame header.
    private(set) var size: (width: Int, height: Int)?
    private(set) var ending = Ending.truncated

    enum Ending: Sendable {
        case whole
        case truncated
        /// A segment that is shorter than its own length field.
        case corrupt(length: Int)
    }

    init(_ bytes: [UInt8]) {
        var position = 2
        var isScanSeen = false
        while let code = Self.marker(bytes, &position) {
            switch code {
            case 0xd9:
                ending = .whole
                return
            case 0x01, 0xd0...0xd8: continue
            default: break
            }
            guard position + 2 <= bytes.count else { return }
            let length = Int(bytes[position]) << 8 | Int(bytes[position + 1])
            guard length >= 2 else {
                ending = .corrupt(length: length)
                return
            }
            guard position + length <= bytes.count else { return }
            let payload = position + 2..<position + length
            if !isScanSeen {
                if code == 0xe1 { app1.append(payload) }
                if code == 0xe2 { app2.append(payload) }
                if code == 0xe0 && position == 4 { insertion = payload.upperBound }
            }
            if Self.isFrame(code), size == nil, payload.count >= 5 {
                let first = payload.lowerBound
                size = (
                    Int(bytes[first + 3]) << 8 | Int(bytes[first + 4]),
                    Int(bytes[first + 1]) << 8 | Int(bytes[first + 2])
                )
            }
            position = payload.upperBound
            if code == 0xda {
                isScanSeen = true
                Self.skipEntropyCodedData(bytes, &position)
            }
        }
    }

    /// SOF0 to SOF15 without DHT, JPG and DAC, which lie between them.
    private static func isFrame(_ code: UInt8) -> Bool {
        (0xc0...0xcf).contains(code) && ![0xc4, 0xc8, 0xcc].contains(code)
    }

    /// The code of the next marker: 0xff, any number of times, and a byte that is neither 0xff nor 0.
    private static func marker(_ bytes: [UInt8], _ position: inout Int) -> UInt8? {
        while true {
            while position < bytes.count, bytes[position] != 0xff { position += 1 }
            while position < bytes.count, bytes[position] == 0xff { position += 1 }
            guard position < bytes.count else { return nil }
            position += 1
            if bytes[position - 1] != 0 { return bytes[position - 1] }
        }
    }

    /// To the next marker that is neither a stuffed zero nor a restart.
    private static func skipEntropyCodedData(_ bytes: [UInt8], _ position: inout Int) {
        while true {
            while position < bytes.count, bytes[position] != 0xff { position += 1 }
            guard position + 1 < bytes.count else {
                position = bytes.count
                return
            }
            let next = bytes[position + 1]
            if next != 0x00, next != 0xff, !(0xd0...0xd7).contains(next) { return }
            position += next == 0xff ? 1 : 2
        }
    }

    /// Width and height of a file that is whole.
    func checkedSize(path: String) throws(RasterError) -> (width: Int, height: Int) {
        switch ending {
        case .truncated:
            throw RasterError(
                path: path, cause: .truncated, place: ImageFormat.jpeg.rawValue,
                found: "a JPEG that ends without its EOI marker", expected: "the rest of the image")
        case .corrupt(let length):
            throw RasterError(
                path: path, cause: .corrupt, place: "JPEG segment", found: "\(length) bytes", expected: "at least 2")
        case .whole:
            guard let size else {
                throw RasterError(
                    path: path, cause: .corrupt, place: ImageFormat.jpeg.rawValue, found: "a JPEG without a frame",
                    expected: "a picture")
            }
            return size
        }
    }

    /// The EXIF block, if any; several segments are parts of one.
    func exif(in bytes: [UInt8]) -> ArraySlice<UInt8>? {
        let parts = app1.map { bytes[$0] }.filter { $0.starts(with: Exif.jpegPrefix) }
            .map { $0.dropFirst(Exif.jpegPrefix.count) }
        return parts.count > 1 ? ArraySlice(parts.joined()) : parts.first
    }

    /// The last XMP packet, if any.
    func xmp(in bytes: [UInt8]) -> ArraySlice<UInt8>? {
        app1.last { bytes[$0].starts(with: ImageMetadata.xmpSegmentPrefix) }
            .map { bytes[$0].dropFirst(ImageMetadata.xmpSegmentPrefix.count) }
    }

    /// The ICC profile (ICC.1:2022, annex B.4), whose parts say their number and how many there are; nil where one is
    /// missing.
    func profile(in bytes: [UInt8]) -> [UInt8]? {
        let prefix = Array("ICC_PROFILE\0".utf8)
        let parts = app2.map { bytes[$0] }.filter { $0.starts(with: prefix) && $0.count > prefix.count + 2 }
            .map { $0.dropFirst(prefix.count) }.sorted { ($0.first ?? 0) < ($1.first ?? 0) }
        guard let first = parts.first, Int(first[first.startIndex + 1]) == parts.count else { return nil }
        return Array(parts.map { $0.dropFirst(2) }.joined())
    }
}
