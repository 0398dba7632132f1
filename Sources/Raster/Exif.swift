/// The fields of EXIF that matter here, read leniently: a damaged block is as none, since pixels do not need it.
/// TIFF 6.0 section 2 (directories) and CIPA DC-008 (tags).
struct Exif: Equatable {
    /// Tag 0x0112, 1 to 8; 1 where the tag is there with another value.
    var orientation: Int?
    /// Tag 0x9286.
    var userComment: String?
    /// Whether the pixels are Adobe RGB: the interoperability index R03 (DCF option file), or 2 in tag 0xA001, as some
    /// cameras write.
    var isAdobeRGB = false

    /// Bytes before the TIFF header in a JPEG's APP1 segment.
    static let jpegPrefix = Array("Exif\0\0".utf8)

    /// Reads a TIFF block, before which the prefix may stand, any number of times.
    init(_ block: ArraySlice<UInt8>) {
        var block = block
        while block.starts(with: Self.jpegPrefix) { block = block.dropFirst(Self.jpegPrefix.count) }
        guard let tiff = TIFF(block), let first = tiff.u32(4), let directory = tiff.directory(at: first) else { return }
        if let entry = directory.last(where: { $0.tag == 0x0112 }) {
            orientation = tiff.value(entry).flatMap { (1...8).contains($0) ? $0 : nil } ?? 1
        }
        guard let pointer = directory.first(where: { $0.tag == 0x8769 }), let offset = tiff.u32(pointer.valueAt),
            let exif = tiff.directory(at: offset)
        else { return }
        isAdobeRGB = Self.isAdobeRGB(exif, tiff)
        if let comment = exif.first(where: { $0.tag == 0x9286 && $0.type == 7 }), comment.count >= 8,
            let start = tiff.u32(comment.valueAt), let value = tiff.slice(start, comment.count)
        {
            userComment = Self.text(of: value, isBigEndian: tiff.isBigEndian)
        }
    }

    private static func isAdobeRGB(_ exif: [TIFF.Entry], _ tiff: TIFF) -> Bool {
        let space = exif.first { $0.tag == 0xa001 }.flatMap(tiff.value)
        if space == 1 || space == 2 { return space == 2 }
        guard let pointer = exif.first(where: { $0.tag == 0xa005 }), let offset = tiff.u32(pointer.valueAt),
            let entry = tiff.directory(at: offset)?.first(where: { $0.tag == 1 && $0.type == 2 }), entry.count >= 3
        else { return false }
        let start = entry.count <= 4 ? entry.valueAt : tiff.u32(entry.valueAt) ?? 0
        return tiff.slice(start, 3)?.elementsEqual("R03".utf8) ?? false
    }

    /// Eight bytes name the encoding of what follows.
    private static func text(of comment: ArraySlice<UInt8>, isBigEndian: Bool) -> String? {
        let content = comment.dropFirst(8)
        if !comment.starts(with: "UNICODE\0".utf8) {
            return String(decoding: content.prefix { $0 != 0 }, as: UTF8.self)
        }
        var bytes = content
        var isBigEndian = isBigEndian
        if bytes.starts(with: [0xfe, 0xff]) { (isBigEndian, bytes) = (true, bytes.dropFirst(2)) }
        if bytes.starts(with: [0xff, 0xfe]) { (isBigEndian, bytes) = (false, bytes.dropFirst(2)) }
        let units = stride(from: bytes.startIndex, to: bytes.endIndex - 1, by: 2).map { index in
            let (first, second) = (UInt16(bytes[index]), UInt16(bytes[index + 1]))
            return isBigEndian ? first << 8 | second : second << 8 | first
        }
        return String(decoding: units, as: UTF16.self)
    }

    /// An EXIF block, big-endian, that holds a user comment as UNICODE (UTF-16): what front ends of Stable Diffusion
    /// write into JPEG files and look for in them.
    ///
    /// A comment that does not fit into `limit` bytes is written as ASCII where it is ASCII, which takes half the room; and
    /// where that does not suffice either, its middle is left out, with a mark. Its end, where `DreamCache: {...}` stands, is
    /// the larger part of what stays.
    static func block(userComment: String, limit: Int) -> [UInt8] {
        // The header, two directories, and the name of the encoding.
        let room = limit - 44 - 8
        let units = Array(userComment.utf16)
        let value: [UInt8]
        if 2 * units.count > room, units.allSatisfy({ (1..<128).contains($0) }) {
            value = Array("ASCII\0\0\0".utf8) + shortened(units, to: room).map { UInt8($0) }
        } else {
            let kept = shortened(units, to: room / 2)
            value = Array("UNICODE\0".utf8) + kept.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] }
        }
        let header = Array("MM".utf8) + bigEndian(42, 2) + bigEndian(8, 4)
        // Two directories of one entry each, 18 bytes, at 8 and 26; the comment follows at 44.
        let image = directory(tag: 0x8769, type: 4, count: 1, value: 26)
        let exif = directory(tag: 0x9286, type: 7, count: value.count, value: 44)
        return header + image + exif + value
    }

    private static func shortened(_ units: [UInt16], to count: Int) -> [UInt16] {
        guard units.count > count else { return units }
        let mark = Array(" [... shortened: JPEG has no room for the whole text ...] ".utf16)
        let head = count / 32
        // Never between the halves of a surrogate pair.
        let start = units.prefix(head).dropLast(UTF16.isLeadSurrogate(units[head - 1]) ? 1 : 0)
        var end = units.suffix(count - head - mark.count)
        if let first = end.first, UTF16.isTrailSurrogate(first) { end = end.dropFirst() }
        return start + mark + end
    }

    private static func directory(tag: Int, type: Int, count: Int, value: Int) -> [UInt8] {
        [(1, 2), (tag, 2), (type, 2), (count, 4), (value, 4), (0, 4)].flatMap { bigEndian($0.0, $0.1) }
    }
}

/// `count` bytes of a number, most significant first.
func bigEndian(_ value: Int, _ count: Int) -> [UInt8] {
    (0..<count).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
}

/// Bounded reads of a TIFF block.
private struct TIFF {
    struct Entry {
        let tag: Int
        let type: Int
        let count: Int
        /// The position of the value, or of its offset when it is longer than four bytes.
        let valueAt: Int
    }

    let bytes: ArraySlice<UInt8>
    let isBigEndian: Bool

    init?(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        if bytes.starts(with: [0x4d, 0x4d, 0, 42]) {
            isBigEndian = true
        } else if bytes.starts(with: [0x49, 0x49, 42, 0]) {
            isBigEndian = false
        } else {
            return nil
        }
    }

    func slice(_ offset: Int, _ count: Int) -> ArraySlice<UInt8>? {
        guard offset >= 0, count >= 0, offset <= bytes.count, count <= bytes.count - offset else { return nil }
        return bytes[bytes.startIndex + offset..<bytes.startIndex + offset + count]
    }

    /// The first number of an entry of any type that holds numbers, where it is a whole one: cameras write SHORT, as they
    /// should, and LONG.
    func value(_ entry: Entry) -> Int? {
        guard entry.count >= 1 else { return nil }
        // Bytes of each type; texts, bytes and undefined are no numbers.
        let sizes = [3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8]
        guard let size = sizes[entry.type] else { return nil }
        let isInPlace = entry.count <= 4 / size
        guard let start = isInPlace ? entry.valueAt : u32(entry.valueAt), let bytes = slice(start, size) else {
            return nil
        }
        let bits = (isBigEndian ? Array(bytes) : bytes.reversed()).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        switch entry.type {
        case 5, 10:
            guard let numerator = u32(start), let denominator = u32(start + 4), denominator > 0,
                numerator % denominator == 0
            else { return nil }
            return numerator / denominator
        case 11: return Int(exactly: Float(bitPattern: UInt32(truncatingIfNeeded: bits)))
        case 12: return Int(exactly: Double(bitPattern: bits))
        default: return Int(exactly: bits)
        }
    }

    func u16(_ offset: Int) -> Int? { number(offset, 2) }
    func u32(_ offset: Int) -> Int? { number(offset, 4) }

    private func number(_ offset: Int, _ count: Int) -> Int? {
        guard let slice = slice(offset, count) else { return nil }
        return isBigEndian ? slice.reduce(0) { $0 << 8 | Int($1) } : slice.reversed().reduce(0) { $0 << 8 | Int($1) }
    }

    func directory(at offset: Int) -> [Entry]? {
        guard let count = u16(offset), slice(offset + 2, count * 12) != nil else { return nil }
        return (0..<count).compactMap { index in
            let at = offset + 2 + index * 12
            guard let tag = u16(at), let type = u16(at + 2), let count = u32(at + 4) else { return nil }
            return Entry(tag: tag, type: type, count: count, valueAt: at + 8)
        }
    }
}
