/// What a file says its samples mean. Without a word of it they are sRGB.
enum ColourSpace: Equatable {
    /// An embedded ICC profile.
    case profile([UInt8])
    /// Chromaticities as x, y of white, red, green and blue; a curve as its exponent, nil for that of sRGB.
    case values(chromaticities: [Double], gamma: Double?)

    private static let d65 = [0.3127, 0.3290]
    private static let rec709 = [0.64, 0.33, 0.30, 0.60, 0.15, 0.06]

    /// Of chromaticities that have a name.
    static let names = [
        d65 + rec709: "primaries of sRGB", d65 + [0.680, 0.320, 0.265, 0.690, 0.150, 0.060]: "primaries of Display P3",
        d65 + [0.708, 0.292, 0.170, 0.797, 0.131, 0.046]: "primaries of BT.2020",
        d65 + [0.64, 0.33, 0.21, 0.71, 0.15, 0.06]: "primaries of Adobe RGB",
    ]

    /// Adobe RGB (1998): its exponent is 2 + 51 / 256.
    static let adobeRGB = ColourSpace.values(
        chromaticities: d65 + [0.64, 0.33, 0.21, 0.71, 0.15, 0.06], gamma: 563.0 / 256)

    /// By code points of ITU-T H.273, which PNG's cICP and the nclx of HEIC and AVIF carry; nil is sRGB, or unspecified.
    ///
    /// The curves of BT.709, BT.601 and BT.2020 count as that of sRGB: cameras name them and mean it, and browsers show them
    /// so.
    /// - Throws: `RasterError` for PQ and HLG, whose light has no place in sRGB without a tone mapping.
    init?(primaries: Int, transfer: Int, path: String) throws(RasterError) {
        if transfer == 16 || transfer == 18 {
            throw RasterError(
                path: path, cause: .unsupported, place: "colours",
                found: "an HDR picture (ITU-R BT.2100 \(transfer == 16 ? "PQ" : "HLG"))",
                expected: "one of standard dynamic range, as cameras and phones export it")
        }
        let gamma: Double? =
            switch transfer {
            case 4: 2.2
            case 5: 2.8
            case 8: 1
            default: nil
            }
        let chromaticities = Self.chromaticities[primaries] ?? Self.d65 + Self.rec709
        if gamma == nil, chromaticities == Self.d65 + Self.rec709 { return nil }
        self = .values(chromaticities: chromaticities, gamma: gamma)
    }

    /// Of H.273, table 2: white, red, green, blue.
    private static let chromaticities: [Int: [Double]] = [
        1: d65 + rec709,
        4: [0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08],
        5: d65 + [0.64, 0.33, 0.29, 0.60, 0.15, 0.06],
        6: d65 + [0.630, 0.340, 0.310, 0.595, 0.155, 0.070],
        7: d65 + [0.630, 0.340, 0.310, 0.595, 0.155, 0.070],
        8: [0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049],
        9: d65 + [0.708, 0.292, 0.170, 0.797, 0.131, 0.046],
        11: [0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060],
        12: d65 + [0.680, 0.320, 0.265, 0.690, 0.150, 0.060],
        22: d65 + [0.630, 0.340, 0.295, 0.605, 0.155, 0.077],
    ]

    /// Of a PNG, in the order of its specification (third edition, section 12.1): cICP, iCCP, sRGB, gAMA with cHRM. Chunks
    /// with a wrong checksum are as none.
    init?(png file: PNGChunks, in bytes: [UInt8], path: String) throws(RasterError) {
        func data(_ type: String) -> ArraySlice<UInt8>? {
            file.chunks.first { $0.type == type && PNGChunks.isSound($0, in: bytes) }.map { bytes[$0.data] }
        }
        func numbers(_ data: ArraySlice<UInt8>) -> [Double] {
            stride(from: data.startIndex, to: data.endIndex - 3, by: 4).map { at in
                Double(data[at..<at + 4].reduce(0) { $0 << 8 | Int($1) }) / 100_000
            }
        }
        if let points = data("cICP"), points.count == 4, let primaries = points.first {
            guard
                let space = try ColourSpace(
                    primaries: Int(primaries), transfer: Int(points[points.startIndex + 1]), path: path)
            else { return nil }
            self = space
        } else if let profile = data("iCCP").flatMap(Self.profile) {
            self = .profile(profile)
        } else if data("sRGB") == nil, let gamma = data("gAMA").map(numbers)?.first, gamma > 0 {
            let given = data("cHRM").map(numbers).flatMap { $0.count == 8 && !$0.contains(0) ? $0 : nil }
            let chromaticities = given ?? Self.d65 + Self.rec709
            let isRec709 = zip(chromaticities, Self.d65 + Self.rec709).allSatisfy { abs($0 - $1) < 0.001 }
            // 0.45455 beside the primaries of sRGB is how a file says sRGB to readers that do not know that chunk.
            if isRec709, abs(gamma - 0.45455) < 0.005 { return nil }
            self = .values(chromaticities: chromaticities, gamma: 1 / gamma)
        } else {
            return nil
        }
    }

    /// iCCP: a name, NUL, method 0, and the profile compressed.
    private static func profile(_ chunk: ArraySlice<UInt8>) -> [UInt8]? {
        guard let end = chunk.firstIndex(of: 0), chunk.endIndex - end > 2, chunk[end + 1] == 0 else { return nil }
        return ImageMetadata.inflated(chunk[(end + 2)...], limit: 16 << 20)
    }
}
