/// An image of 8-bit RGB or RGBA in sRGB, alpha not premultiplied.
public struct Raster: Sendable, Equatable {
    /// Columns.
    public let width: Int
    /// Rows.
    public let height: Int
    /// 3 for RGB, 4 for RGBA.
    public let channels: Int
    /// height * width * channels values, rows from the top, interleaved.
    public let pixels: [UInt8]

    /// An image of `pixels`, of which there must be width * height * channels, at least one pixel.
    public init(width: Int, height: Int, channels: Int, pixels: [UInt8]) {
        precondition(width > 0 && height > 0 && (channels == 3 || channels == 4), "\(width)x\(height)x\(channels)")
        precondition(pixels.count == width * height * channels, "\(pixels.count) for \(width)x\(height)x\(channels)")
        self.width = width
        self.height = height
        self.channels = channels
        self.pixels = pixels
    }

    /// An RGB image of one colour.
    public init(width: Int, height: Int, color: (UInt8, UInt8, UInt8)) {
        let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 3) { buffer, count in
            count = width * height * 3
            for i in stride(from: 0, to: count, by: 3) {
                (buffer[i], buffer[i + 1], buffer[i + 2]) = color
            }
        }
        self.init(width: width, height: height, channels: 3, pixels: pixels)
    }

    /// The part of the given columns and rows, or nil when it is empty or reaches beyond the image.
    public func cropped(columns: Range<Int>, rows: Range<Int>) -> Raster? {
        guard !columns.isEmpty, !rows.isEmpty, columns.lowerBound >= 0, rows.lowerBound >= 0,
            columns.upperBound <= width, rows.upperBound <= height
        else { return nil }
        var part: [UInt8] = []
        part.reserveCapacity(columns.count * rows.count * channels)
        for y in rows {
            let start = (y * width + columns.lowerBound) * channels
            part += pixels[start..<start + columns.count * channels]
        }
        return Raster(width: columns.count, height: rows.count, channels: channels, pixels: part)
    }

    /// This RGB image with `other`, RGB too, laid over it at a place where it fits.
    func overlaid(_ other: Raster, x: Int, y: Int) -> Raster {
        precondition(channels == 3 && other.channels == 3)
        precondition(x >= 0 && y >= 0 && x + other.width <= width && y + other.height <= height)
        var result = pixels
        let rowSize = other.width * 3
        for row in 0..<other.height {
            let target = ((y + row) * width + x) * 3
            result.replaceSubrange(target..<target + rowSize, with: other.pixels[row * rowSize..<(row + 1) * rowSize])
        }
        return Raster(width: width, height: height, channels: 3, pixels: result)
    }
}
