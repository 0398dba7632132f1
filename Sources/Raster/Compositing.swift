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

    /// RGBA: what `mask` keeps as alpha, times the alpha this image already has. White keeps, black removes.
    ///
    /// What a mask keeps is its luminance (ITU-R 601-2, as Pillow's mode L) times its alpha. The cut-out picture itself will
    /// do as a mask too: then its alpha alone counts (`hasShapeInAlpha`). A black mask keeps nothing, whatever its alpha is.
    /// - Throws: `RasterError` when the mask has another size, or nothing is kept; `path` is the mask's, for its message.
    public func masked(by mask: Raster, path: String) throws(RasterError) -> Raster {
        guard mask.width == width, mask.height == height else {
            throw RasterError(
                path: path, cause: .unsupported, place: "mask size", found: "\(mask.width)x\(mask.height)",
                expected: "\(width)x\(height), the image's")
        }
        let count = width * height
        let usesAlphaAlone = mask.hasShapeInAlpha
        let result = [UInt8](unsafeUninitializedCapacity: count * 4) { target, initialized in
            pixels.withUnsafeBufferPointer { source in
                mask.pixels.withUnsafeBufferPointer { mask in
                    let maskChannels = mask.count / count
                    for i in 0..<count {
                        let m = i * maskChannels
                        var alpha = usesAlphaAlone ? 255 : luminance(mask[m], mask[m + 1], mask[m + 2])
                        if maskChannels == 4 { alpha = UInt32(quotient255(alpha * UInt32(mask[m + 3]))) }
                        if channels == 4 { alpha = UInt32(quotient255(alpha * UInt32(source[i * 4 + 3]))) }
                        for c in 0..<3 { target[i * 4 + c] = source[i * channels + c] }
                        target[i * 4 + 3] = UInt8(alpha)
                    }
                }
            }
            initialized = count * 4
        }
        let masked = Raster(width: width, height: height, channels: 4, pixels: result)
        guard mask.keepsSomething, masked.hasForeground else {
            throw RasterError(
                path: path, cause: .unsupported, place: "mask", found: "a mask without foreground",
                expected: "white where the subject is, black elsewhere")
        }
        return masked
    }

    /// Whether any pixel is at least half opaque.
    public var hasForeground: Bool {
        channels != 4 || stride(from: 3, to: pixels.count, by: 4).contains { pixels[$0] >= 128 }
    }

    /// Refuses a picture of transparent pixels alone; `path` is for the message.
    public func checkForeground(path: String) throws(RasterError) {
        guard hasForeground else {
            throw RasterError(
                path: path, cause: .unsupported, place: "alpha", found: "a picture without foreground",
                expected: "pixels that are at least half opaque where the subject is")
        }
    }

    /// Whether a mask keeps any pixel: whether one is at least half white and half opaque.
    private var keepsSomething: Bool {
        stride(from: 0, to: pixels.count, by: channels).contains { i in
            let alpha = channels == 4 ? UInt32(pixels[i + 3]) : 255
            return quotient255(luminance(pixels[i], pixels[i + 1], pixels[i + 2]) * alpha) >= 128
        }
    }

    /// Whether a mask's shape is in its alpha: it is transparent somewhere, and what is visible is no drawing in black and
    /// white that keeps something.
    private var hasShapeInAlpha: Bool {
        guard channels == 4 else { return false }
        var (isTransparent, keepsSomething, visible, drawn) = (false, false, 0, 0)
        for i in stride(from: 0, to: pixels.count, by: 4) {
            if pixels[i + 3] < 255 { isTransparent = true }
            guard pixels[i + 3] >= 128 else { continue }
            let isGrey = pixels[i] == pixels[i + 1] && pixels[i] == pixels[i + 2]
            visible += 1
            if isGrey, pixels[i] < 16 || pixels[i] >= 240 { drawn += 1 }
            if isGrey, pixels[i] >= 240 { keepsSomething = true }
        }
        return isTransparent && !(keepsSomething && 10 * drawn >= 9 * visible)
    }
}

/// value / 255, rounded to nearest, for value up to 255 * 255.
@inline(__always)
func quotient255(_ value: UInt32) -> UInt8 {
    let rounded = value &+ 128
    return UInt8(truncatingIfNeeded: (rounded &+ rounded >> 8) >> 8)
}

/// ITU-R 601-2, as Pillow's mode L.
@inline(__always)
private func luminance(_ red: UInt8, _ green: UInt8, _ blue: UInt8) -> UInt32 {
    (UInt32(red) * 19595 + UInt32(green) * 38470 + UInt32(blue) * 7471 + 0x8000) >> 16
}
