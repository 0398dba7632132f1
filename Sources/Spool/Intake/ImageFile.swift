import Raster

/// Whether a dropped image is whole and within the limits, told from its structure without decoding a pixel: by the same
/// rule that the renderer's decoder goes by before it decodes (`ImageContainer`).
package struct ImageFile: Sendable, Equatable {
    /// Why a file will not do.
    package enum Fault: Error, Sendable, Equatable {
        /// It is cut off: more bytes could make it whole.
        case incomplete(String)
        /// It changed while it was read.
        case changing
        /// It is of no format that is read; what it looks like instead.
        case notAnImage(found: String)
        /// It is an image, but one that is refused.
        case refused(found: String, expected: String)
    }

    package let format: ImageFormat
    package let width: Int
    package let height: Int

    /// Examines the bytes of a file.
    package static func examine(_ bytes: [UInt8], limits: SpoolConfiguration.ReferenceLimits) throws(Fault) -> ImageFile
    {
        do throws(RasterError) {
            let file = try ImageContainer(bytes, path: "")
            try limits.raster.check(width: file.width, height: file.height, path: "")
            return ImageFile(format: file.format, width: file.width, height: file.height)
        } catch {
            switch error.cause {
            case .truncated: throw .incomplete(error.found)
            case .unsupported where error.place == ImageFormat.place: throw .notAnImage(found: error.found)
            default: throw .refused(found: "\(error.found) (\(error.place))", expected: error.expected)
            }
        }
    }
}
