extension Raster {
    /// The image as it is to be seen, from the pixels as stored and EXIF's orientation (tag 0x0112, CIPA DC-008:
    /// 1 upright, 2 to 8 mirrored or turned). Another value leaves it as it is.
    public func oriented(_ orientation: Int) -> Raster {
        let (w, h) = (width, height)
        // Where the first pixel comes from, and the steps in the source for a step right and a step down.
        let (origin, right, down): (Int, Int, Int)
        switch orientation {
        case 2: (origin, right, down) = (w - 1, -1, w)
        case 3: (origin, right, down) = (w * h - 1, -1, -w)
        case 4: (origin, right, down) = ((h - 1) * w, 1, -w)
        case 5: (origin, right, down) = (0, w, 1)
        case 6: (origin, right, down) = ((h - 1) * w, -w, 1)
        case 7: (origin, right, down) = (w * h - 1, -w, -1)
        case 8: (origin, right, down) = (w - 1, w, -1)
        default: return self
        }
        let (newWidth, newHeight) = orientation < 5 ? (w, h) : (h, w)
        let turned = [UInt8](unsafeUninitializedCapacity: pixels.count) { target, initialized in
            initialized = pixels.count
            pixels.withUnsafeBufferPointer { source in
                guard var out = target.baseAddress, let source = source.baseAddress else { return }
                for y in 0..<newHeight {
                    for x in 0..<newWidth {
                        let from = source + (origin + x * right + y * down) * channels
                        for c in 0..<channels { out[c] = from[c] }
                        out += channels
                    }
                }
            }
        }
        return Raster(width: newWidth, height: newHeight, channels: channels, pixels: turned)
    }
}
