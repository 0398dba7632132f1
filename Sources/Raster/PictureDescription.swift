import CImageCodecs

/// What a picture's file says of it, without a pixel being decoded.
public struct PictureDescription: Sendable, Equatable {
    /// The format, told by content.
    public let format: String
    /// Columns of the upright picture.
    public let width: Int
    /// Rows of the upright picture.
    public let height: Int
    /// Bits of a sample, as the file has it.
    public let depth: Int
    /// "grey", "RGB" or "CMYK", with " and alpha" where there is some.
    public let samples: String
    /// What the samples mean: "sRGB", or what is converted to it.
    public let colours: String
    /// 1 to 8, as EXIF counts (tag 0x0112, CIPA DC-008).
    public let orientation: Int

    /// Reads the header of a picture; `path` serves for messages only.
    /// - Throws: `RasterError` as `Raster.decode` does before it decodes.
    public init(_ bytes: [UInt8], path: String, limits: Raster.Limits = Raster.Limits()) throws(RasterError) {
        self = try ImageDecoder.opened(bytes, path: path, limits: limits) { decoder, file throws(RasterError) in
            PictureDescription(
                file, decoder.header, try PictureIntent(file, bytes, decoder.header, path: path))
        }
    }

    /// A description whose parts are known.
    public init(
        format: String, width: Int, height: Int, depth: Int, samples: String, colours: String, orientation: Int
    ) {
        (self.format, self.width, self.height, self.depth) = (format, width, height, depth)
        (self.samples, self.colours, self.orientation) = (samples, colours, orientation)
    }

    private init(_ file: ImageContainer, _ header: image_header, _ intent: PictureIntent) {
        format = file.format.rawValue
        // HEIC is turned by its decoder, whose header is that of the upright picture.
        let isTurned = file.format != .heic && intent.orientation > 4
        width = Int(isTurned ? header.height : header.width)
        height = Int(isTurned ? header.width : header.height)
        depth = Int(header.depth)
        let model =
            switch header.model {
            case IMAGE_GREY: "grey"
            case IMAGE_CMYK: "CMYK"
            default: "RGB"
            }
        samples = model + (header.has_alpha == 0 ? "" : " and alpha")
        colours = intent.colours?.name ?? "sRGB"
        if case .boxes(let turning) = file.contents, file.format == .heic {
            orientation = turning
        } else {
            orientation = intent.orientation
        }
    }
}

extension ColourSpace {
    /// For people.
    fileprivate var name: String {
        switch self {
        case .adobeRGB: return "Adobe RGB (1998)"
        case .profile(let bytes):
            let (_, text) = withImageMessage {
                image_profile_name(bytes, bytes.count, $0, Int(IMAGE_MESSAGE_SIZE))
                return IMAGE_OK
            }
            return text.isEmpty ? "an ICC profile without a name" : "ICC profile '\(text)'"
        case .values(let chromaticities, let gamma):
            let primaries = Self.names[chromaticities] ?? "primaries of its own"
            return "\(primaries), \(gamma.map { "gamma \(($0 * 100).rounded() / 100)" } ?? "the curve of sRGB")"
        }
    }
}
