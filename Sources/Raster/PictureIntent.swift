import CImageCodecs

/// How the pixels of a file are meant to be seen: which way is up, and in which colours.
struct PictureIntent {
    /// 1 to 8, as EXIF counts (tag 0x0112, CIPA DC-008).
    var orientation = 1
    /// Nil is sRGB.
    var colours: ColourSpace?

    /// Reads what the file's format has for it. HEIC and AVIF have properties of their own for turning (irot, imir), so
    /// that their EXIF does not count for that.
    init(_ file: ImageContainer, _ bytes: [UInt8], _ header: image_header, path: String) throws(RasterError) {
        let exif: Exif?
        switch file.contents {
        case .png(let chunks):
            let texts = ImageMetadata.readPNG(bytes, chunks)
            exif = Self.block(chunks, bytes) ?? Self.rawProfile(texts.texts).map { Exif($0[...]) }
            colours = try ColourSpace(png: chunks, in: bytes, path: path)
            orientation = exif?.orientation ?? texts.xmp.flatMap { Self.orientation(xmp: Array($0.utf8)[...]) } ?? 1
            // Only where the chunks say nothing at all, EXIF is asked.
            if chunks.chunks.contains(where: { ["cICP", "iCCP", "sRGB", "gAMA"].contains($0.type) }) { return }
        case .jpeg(let segments):
            exif = segments.exif(in: bytes).map(Exif.init)
            colours = segments.profile(in: bytes).map(ColourSpace.profile)
            orientation = exif?.orientation ?? segments.xmp(in: bytes).flatMap(Self.orientation) ?? 1
        case .webp(let chunks):
            exif = chunks.first("EXIF", in: bytes).map(Exif.init)
            colours = chunks.first("ICCP", in: bytes).map { .profile(Array($0)) }
            orientation = exif?.orientation ?? chunks.first("XMP ", in: bytes).flatMap(Self.orientation) ?? 1
        case .boxes:
            orientation = max(1, Int(header.orientation))
            exif = Self.copy(header.exif, header.exif_count).map { Exif($0[...]) }
            // The transfer is looked at first: a profile beside PQ describes the same light.
            let points = try ColourSpace(
                primaries: Int(header.primaries), transfer: Int(header.transfer), path: path)
            colours = Self.copy(header.icc, header.icc_count).map(ColourSpace.profile) ?? points
            if header.primaries != 0 { return }
        }
        if colours == nil, exif?.isAdobeRGB == true { colours = .adobeRGB }
    }

    private static func copy(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> [UInt8]? {
        bytes.map { Array(UnsafeBufferPointer(start: $0, count: count)) }
    }

    private static func block(_ file: PNGChunks, _ bytes: [UInt8]) -> Exif? {
        file.chunks.last { $0.type == "eXIf" && PNGChunks.isSound($0, in: bytes) }.map { Exif(bytes[$0.data]) }
    }

    /// EXIF as ImageMagick and exiftool write it into a text of a PNG: a line that is empty, one of the name, one of the
    /// length, and lines of hexadecimal digits.
    private static func rawProfile(_ texts: [ImageMetadata.Text]) -> [UInt8]? {
        guard
            let text = texts.last(where: { $0.keyword == "Raw profile type exif" })
                ?? texts.last(where: { $0.keyword == "Raw profile type APP1" })
        else { return nil }
        let digits = text.text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            .dropFirst(3).joined().compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
        return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }

    /// The first `tiff:Orientation` of an XMP packet, as attribute or as element.
    private static func orientation(xmp packet: ArraySlice<UInt8>) -> Int? {
        let name = Array("tiff:Orientation".utf8)
        var rest = packet
        while let start = rest.firstIndex(of: name[0]) {
            rest = rest[start...]
            guard rest.starts(with: name) else {
                rest = rest.dropFirst()
                continue
            }
            rest = rest.dropFirst(name.count)
            for opening in ["=\"", ">"] where rest.starts(with: opening.utf8) {
                guard let digit = rest.dropFirst(opening.utf8.count).first, (48...57).contains(digit) else { continue }
                return (1...8).contains(digit - 48) ? Int(digit - 48) : 1
            }
        }
        return nil
    }
}
