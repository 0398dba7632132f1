import Bytes
import Crypto
import Raster

/// Between 8-bit pictures and what the autoencoder reads and writes.
extension Raster {
    /// x / 127.5 - 1, `[height, width, 3]`; an alpha channel is dropped.
    package var normalised: [Float] {
        var values: [Float] = []
        values.reserveCapacity(width * height * 3)
        for start in stride(from: 0, to: pixels.count, by: channels) {
            for channel in 0..<3 { values.append(Float(pixels[start + channel]) / 127.5 - 1) }
        }
        return values
    }

    /// 255 (x + 1) / 2, clamped and, as the authors' script does it, cut to whole levels.
    init(normalised values: [Float], width: Int, height: Int) {
        self.init(
            width: width, height: height, channels: 3,
            pixels: values.map { value in
                let level = (value + 1) / 2 * 255
                return level.isNaN ? 0 : UInt8(min(max(level, 0), 255))
            })
    }

    /// SHA-256 over the pixels and their size.
    var pixelHash: String {
        var hash = SHA256()
        hash.update(data: Array("\(width)x\(height)x\(channels):".utf8))
        hash.update(data: pixels)
        return hexadecimal(hash.finalize())
    }
}
