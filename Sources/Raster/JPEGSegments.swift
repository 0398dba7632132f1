/// The APP1 segments before a JPEG's first scan (ITU-T T.81, annex B), found without decoding. A damaged structure
/// ends the search: libjpeg is the judge of the file.
struct JPEGSegments {
    /// Payloads of APP1, in order.
    private(set) var app1: [Range<Int>] = []
    /// Where a segment may be inserted: after SOI, and after JFIF's APP0, which must come first.
    private(set) var insertion = 2

    init(_ bytes: [UInt8]) {
        var position = 2
        while position + 4 <= bytes.count, bytes[position] == 0xff {
            let marker = bytes[position + 1]
            if marker == 0xff {
                position += 1
                continue
            }
            // Start of scan, end of image, and markers without a length that do not belong before a scan.
            if marker == 0xda || marker == 0xd9 || marker < 0xc0 { return }
            let length = Int(bytes[position + 2]) << 8 | Int(bytes[position + 3])
            guard length >= 2, position + 2 + length <= bytes.count else { return }
            let payload = position + 4..<position + 2 + length
            if marker == 0xe1 { app1.append(payload) }
            if marker == 0xe0 && position == 2 { insertion = payload.upperBound }
            position = payload.upperBound
        }
    }

    /// The EXIF block, if any.
    func exif(in bytes: [UInt8]) -> ArraySlice<UInt8>? {
        app1.lazy.map { bytes[$0] }.first { $0.starts(with: Exif.jpegPrefix) }?.dropFirst(Exif.jpegPrefix.count)
    }
}
