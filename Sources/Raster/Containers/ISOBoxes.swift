/// The boxes of a HEIF file (ISO/IEC 14496-12 and 23008-12), as far as they say how large its pictures are and whether
/// every byte they need is there.
struct ISOBoxes {
    let width: Int
    let height: Int
    /// What the first irot and imir properties make together, as EXIF counts (1 to 8).
    let orientation: Int

    /// Brands of files with still pictures that name the coding; those of AVIF win where there are both.
    private static let brands: [(names: Set<String>, format: ImageFormat)] = [
        (["avif", "avis"], .avif),
        (["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs"], .heic),
    ]
    /// Brands that name no coding.
    private static let generalBrands: Set = ["mif1", "mif2", "msf1", "miaf"]

    /// The format that the first box says by its brands, if it is one that is read.
    static func format(of bytes: [UInt8]) -> ImageFormat? {
        guard let (_, found) = brands(in: bytes) else { return nil }
        if let named = brands.first(where: { !$0.names.isDisjoint(with: found) }) { return named.format }
        guard !generalBrands.isDisjoint(with: found) else { return nil }
        let types = meta(of: bytes).map { itemTypes(bytes, $0) } ?? []
        return types.contains("av01") && !types.contains("hvc1") ? .avif : .heic
    }

    /// An AVIF with a brand that says so, which libavif asks for: the major one, where there is none.
    static func branded(_ bytes: [UInt8]) -> [UInt8] {
        guard let (place, found) = brands(in: bytes), brands[0].names.isDisjoint(with: found), place.count >= 4 else {
            return bytes
        }
        return bytes[..<place.lowerBound] + Array("avif".utf8) + bytes[(place.lowerBound + 4)...]
    }

    /// The major brand and the compatible ones, and where they stand; the major one's version stands between them.
    private static func brands(in bytes: [UInt8]) -> (place: Range<Int>, names: [String])? {
        guard let first = Box(bytes, at: 0, end: .max), first.type == "ftyp", first.content.upperBound <= 4096 else {
            return nil
        }
        let place = first.content.clamped(to: 0..<bytes.count)
        let names = stride(from: place.lowerBound, to: place.upperBound - 3, by: 4)
            .filter { $0 != place.lowerBound + 4 }.map { String(decoding: bytes[$0..<$0 + 4], as: UTF8.self) }
        return (place, names)
    }

    /// The content of the first meta box that is whole.
    private static func meta(of bytes: [UInt8]) -> Range<Int>? {
        var position = 0
        while let box = Box(bytes, at: position, end: .max) {
            if box.type == "meta", box.content.upperBound <= bytes.count { return box.content }
            position = box.content.upperBound
        }
        return nil
    }

    /// The types of the items (ISO/IEC 14496-12, 8.11.6).
    private static func itemTypes(_ bytes: [UInt8], _ meta: Range<Int>) -> Set<String> {
        // Full boxes: version and flags come first. A list counts its entries in two bytes, from version 1 on in four.
        let lists = boxes(bytes, meta.dropFirst(4)).filter { $0.type == "iinf" && $0.content.count >= 8 }
        let entries = lists.flatMap { boxes(bytes, $0.content.dropFirst(bytes[$0.content.lowerBound] == 0 ? 6 : 8)) }
        return Set(
            entries.filter { $0.type == "infe" && !$0.content.isEmpty }.compactMap { entry in
                // Behind the item's number, of two bytes up to version 2 and four from then on, and two for its protection.
                let type = entry.content.dropFirst(bytes[entry.content.lowerBound] < 3 ? 8 : 10).prefix(4)
                return type.count == 4 ? String(decoding: bytes[type], as: UTF8.self) : nil
            })
    }

    /// Walks the boxes until the picture's data are known to be there.
    /// - Throws: `RasterError` where the file ends before, or has no still picture.
    init(_ bytes: [UInt8], _ format: ImageFormat, path: String) throws(RasterError) {
        guard let meta = Self.meta(of: bytes) else {
            var (position, isSequence) = (0, false)
            while let box = Box(bytes, at: position, end: .max) {
                if box.type == "moov" { isSequence = true }
                position = box.content.upperBound
            }
            let isWhole = isSequence && position == bytes.count
            throw RasterError(
                path: path, cause: isWhole ? .unsupported : .truncated, place: format.rawValue,
                found: isWhole ? "a sequence without a still picture" : "\(bytes.count) bytes without a whole meta box",
                expected: isWhole ? "a still picture" : "the rest of the image")
        }
        // A full box: version and flags come before the boxes in it.
        let boxes = Self.boxes(bytes, meta.dropFirst(4))
        let end = boxes.first { $0.type == "iloc" }.map { Self.lastByte(bytes, $0.content) } ?? 0
        guard end <= UInt64(bytes.count) else {
            throw RasterError(
                path: path, cause: .truncated, place: format.rawValue,
                found: "\(bytes.count) bytes of a picture that reaches to \(end)", expected: "the rest of the image")
        }
        let properties = boxes.filter { $0.type == "iprp" }.flatMap { Self.boxes(bytes, $0.content) }
            .filter { $0.type == "ipco" }.flatMap { Self.boxes(bytes, $0.content) }
        let sizes = properties.filter { $0.type == "ispe" && $0.content.count >= 12 }.map { box in
            (
                width: Int(clamping: Self.number(bytes, box.content.lowerBound + 4, 4)),
                height: Int(clamping: Self.number(bytes, box.content.lowerBound + 8, 4))
            )
        }
        guard
            let largest = sizes.max(by: { Double($0.width) * Double($0.height) < Double($1.width) * Double($1.height) })
        else {
            throw RasterError(
                path: path, cause: .corrupt, place: format.rawValue, found: "a file without a picture",
                expected: "one")
        }
        (width, height) = (largest.width, largest.height)
        orientation = Self.orientation(properties, bytes)
    }

    /// A rotation against the clock in quarters, then a mirror: of sides where its axis is 1, else of top and bottom.
    private static func orientation(_ properties: [Box], _ bytes: [UInt8]) -> Int {
        func value(_ type: String) -> Int? {
            properties.first { $0.type == type && !$0.content.isEmpty }.map { Int(bytes[$0.content.lowerBound]) }
        }
        let quarters = (value("irot") ?? 0) & 3
        guard let axis = value("imir") else { return [1, 8, 3, 6][quarters] }
        return axis & 1 == 1 ? [2, 7, 4, 5][quarters] : [4, 5, 2, 7][quarters]
    }

    private struct Box {
        let type: String
        /// What follows size and type; it may reach beyond the bytes there are.
        let content: Range<Int>

        init?(_ bytes: [UInt8], at position: Int, end: Int) {
            guard position >= 0, position + 8 <= min(end, bytes.count) else { return nil }
            type = String(decoding: bytes[position + 4..<position + 8], as: UTF8.self)
            var size = number(bytes, position, 4)
            var header = 8
            if size == 1 {
                guard position + 16 <= min(end, bytes.count) else { return nil }
                (size, header) = (number(bytes, position + 8, 8), 16)
            }
            // 0: to the end of the file.
            if size == 0 { size = UInt64(max(bytes.count, position + header) - position) }
            guard size >= header, size <= 1 << 40, position + Int(size) <= end else { return nil }
            content = position + header..<position + Int(size)
        }
    }

    private static func boxes(_ bytes: [UInt8], _ range: Range<Int>) -> [Box] {
        var (boxes, position): ([Box], Int) = ([], range.lowerBound)
        // No file has so many boxes in one.
        while boxes.count < 20_000, let box = Box(bytes, at: position, end: range.upperBound) {
            boxes.append(box)
            position = box.content.upperBound
        }
        return boxes
    }

    /// One past the last byte of the file that an item needs (ISO/IEC 14496-12, 8.11.3).
    private static func lastByte(_ bytes: [UInt8], _ content: Range<Int>) -> UInt64 {
        var position = content.lowerBound
        func next(_ count: Int) -> UInt64? {
            guard position + count <= content.upperBound else { return nil }
            defer { position += count }
            return number(bytes, position, count)
        }
        guard let version = next(1), next(3) != nil, let sizes = next(2), version <= 2 else { return 0 }
        func field(_ shift: UInt64) -> Int { Int(sizes >> shift & 15) }
        let (offsetSize, lengthSize, baseSize) = (field(12), field(8), field(4))
        let indexSize = version > 0 ? field(0) : 0
        var last: UInt64 = 0
        // An extent may take no bytes in the table, so that a file could name any number of them.
        var extentsLeft: UInt64 = 100_000
        guard offsetSize <= 8, lengthSize <= 8, baseSize <= 8, indexSize <= 8, let items = next(version == 2 ? 4 : 2)
        else { return 0 }
        for _ in 0..<min(items, 100_000) {
            var method: UInt64 = 0
            guard next(version == 2 ? 4 : 2) != nil else { return last }
            if version > 0 {
                guard let value = next(2) else { return last }
                method = value & 15
            }
            guard next(2) != nil, let base = next(baseSize), let extents = next(2) else { return last }
            guard extents <= extentsLeft else { return last }
            extentsLeft -= extents
            for _ in 0..<extents {
                guard next(indexSize) != nil, let offset = next(offsetSize), let length = next(lengthSize) else {
                    return last
                }
                // Only 0 counts from the beginning of the file.
                if method == 0 { last = max(last, base &+ offset &+ length) }
            }
        }
        return last
    }

    private static func number(_ bytes: [UInt8], _ position: Int, _ count: Int) -> UInt64 {
        bytes[position..<position + count].reduce(0) { $0 << 8 | UInt64($1) }
    }
}
