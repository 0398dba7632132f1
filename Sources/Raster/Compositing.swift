extension Raster {
    /// RGB: alpha over white, `255 - (255 - value) * alpha / 255` rounded to nearest, as Pillow pastes through a mask.
    /// An RGB image is returned as it is.
    public func compositedOnWhite() -> Raster {
        guard channels == 4 else { return self }
        let count = width * height
        let result = [UInt8](unsafeUninitializedCapacity: count * 3) { target, initialized in
            pixels.withUnsafeBufferPointer { source in
                for i in 0..<count {
                    let alpha = UInt32(source[i * 4 + 3])
                    for c in 0..<3 {
                        target[i * 3 + c] = quotient255(UInt32(source[i * 4 + c]) * alpha + 255 * (255 - alpha))
                    }
                }
            }
            initialized = count * 3
        }
        return Raster(width: width, height: height, channels: 3, pixels: result)
    }

    /// RGBA: the luminance of `mask` (ITU-R 601-2, as Pillow's mode L) as alpha, times the alpha that the mask and
    /// this image already have. White keeps, black removes.
    /// - Throws: `RasterError` when the mask has another size; `path` is the mask's, for its message.
    public func masked(by mask: Raster, path: String) throws(RasterError) -> Raster {
        guard mask.width == width, mask.height == height else {
            throw RasterError(
                path: path, cause: .unsupported, place: "mask size", found: "\(mask.width)x\(mask.height)",
                expected: "\(width)x\(height), the image's")
        }
        let count = width * height
        let result = [UInt8](unsafeUninitializedCapacity: count * 4) { target, initialized in
            pixels.withUnsafeBufferPointer { source in
                mask.pixels.withUnsafeBufferPointer { mask in
                    let maskChannels = mask.count / count
                    for i in 0..<count {
                        let m = i * maskChannels
                        let red = UInt32(mask[m]) * 19595
                        let green = UInt32(mask[m + 1]) * 38470
                        let blue = UInt32(mask[m + 2]) * 7471
                        var alpha = (red + green + blue + 0x8000) >> 16
                        if maskChannels == 4 { alpha = UInt32(quotient255(alpha * UInt32(mask[m + 3]))) }
                        if channels == 4 { alpha = UInt32(quotient255(alpha * UInt32(source[i * 4 + 3]))) }
                        for c in 0..<3 { target[i * 4 + c] = source[i * channels + c] }
                        target[i * 4 + 3] = UInt8(alpha)
                    }
                }
            }
            initialized = count * 4
        }
        return Raster(width: width, height: height, channels: 4, pixels: result)
    }
}

/// value / 255, rounded to nearest, for value up to 255 * 255.
@inline(__always)
func quotient255(_ value: UInt32) -> UInt8 {
    let rounded = value &+ 128
    return UInt8(truncatingIfNeeded: (rounded &+ rounded >> 8) >> 8)
}
