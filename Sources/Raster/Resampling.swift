import Glibc

extension Raster {
    /// How an image becomes a square.
    public enum Fit: String, Sendable, CaseIterable {
        /// Keeps the proportions; white beside or above and below.
        case pad
        /// Stretches both sides to the square, as the authors of DreamCache do.
        case squash
    }

    /// An RGB square of `side` pixels: composited onto white, then resized. The numbers are those of Pillow's
    /// `ImageOps.pad(image, (side, side), BILINEAR, "white")` and `image.resize((side, side), BILINEAR)`.
    public func fitted(toSquare side: Int, mode: Fit = .pad) -> Raster {
        let opaque = compositedOnWhite()
        guard mode == .pad, width != height else { return opaque.resized(width: side, height: side) }
        func scaled(_ short: Int, _ long: Int) -> Int {
            max(1, Int((Double(short) / Double(long) * Double(side)).rounded(.toNearestOrEven)))
        }
        let inner = opaque.resized(
            width: width > height ? side : scaled(width, height), height: height > width ? side : scaled(height, width))
        func margin(_ extent: Int) -> Int { Int((Double(side - extent) / 2).rounded(.toNearestOrEven)) }
        return Raster(width: side, height: side, color: (255, 255, 255))
            .overlaid(inner, x: margin(inner.width), y: margin(inner.height))
    }

    /// The weights of pixels by their distance.
    public enum Filter: Sendable {
        /// A triangle.
        case bilinear
        /// Keys' cubic convolution with a = -1/2 (Pillow's `BICUBIC`).
        case bicubic
        /// A windowed sinc of three lobes on each side (Pillow's `LANCZOS`).
        case lanczos
    }

    /// Antialiased resizing, bit-equal to `Image.resize(size, BILINEAR)`, `BICUBIC` or `LANCZOS` of Pillow 11: a filter whose width
    /// grows with the reduction, weights in 22-bit fixed point, along rows first, rounded to 8 bits between the passes.
    /// (Pillow 13 takes the passes in the other order for some sizes, which moves values by one level at most.)
    /// RGBA is premultiplied for the passes, also as Pillow does. `width` and `height` must be positive.
    public func resized(width newWidth: Int, height newHeight: Int, filter: Filter = .bilinear) -> Raster {
        precondition(newWidth > 0 && newHeight > 0, "\(newWidth)x\(newHeight)")
        if newWidth == width && newHeight == height { return self }
        var values = channels == 4 ? premultiplied(pixels) : pixels
        if newWidth != width {
            values = resampledColumns(values, to: newWidth, filter)
        }
        if newHeight != height {
            values = resampledRows(values, width: newWidth, to: newHeight, filter)
        }
        if channels == 4 { values = unpremultiplied(values) }
        return Raster(width: newWidth, height: newHeight, channels: channels, pixels: values)
    }

    /// [height, width] to [height, newWidth].
    private func resampledColumns(_ values: [UInt8], to newWidth: Int, _ filter: Filter) -> [UInt8] {
        let taps = Taps(from: width, to: newWidth, filter)
        return [UInt8](unsafeUninitializedCapacity: height * newWidth * channels) { target, initialized in
            initialized = height * newWidth * channels
            guard var out = target.baseAddress else { return }
            values.withUnsafeBufferPointer { source in
                taps.weights.withUnsafeBufferPointer { weights in
                    guard let source = source.baseAddress, let weights = weights.baseAddress else { return }
                    for y in 0..<height {
                        let row = source + y * width * channels
                        for x in 0..<newWidth {
                            let weight = weights + x * taps.size
                            let first = row + taps.starts[x] * channels
                            for c in 0..<channels {
                                var sum = Taps.half
                                var pixel = first + c
                                for k in 0..<taps.counts[x] {
                                    sum &+= Int32(pixel.pointee) &* weight[k]
                                    pixel += channels
                                }
                                out.pointee = Taps.rounded(sum)
                                out += 1
                            }
                        }
                    }
                }
            }
        }
    }

    /// [height, width] to [newHeight, width].
    private func resampledRows(_ values: [UInt8], width: Int, to newHeight: Int, _ filter: Filter) -> [UInt8] {
        let taps = Taps(from: height, to: newHeight, filter)
        let rowSize = width * channels
        return [UInt8](unsafeUninitializedCapacity: newHeight * rowSize) { target, initialized in
            initialized = newHeight * rowSize
            values.withUnsafeBufferPointer { source in
                withUnsafeTemporaryAllocation(of: Int32.self, capacity: rowSize) { sums in
                    guard let target = target.baseAddress, let source = source.baseAddress, let sums = sums.baseAddress
                    else { return }
                    for y in 0..<newHeight {
                        sums.initialize(repeating: Taps.half, count: rowSize)
                        for k in 0..<taps.counts[y] {
                            let weight = taps.weights[y * taps.size + k]
                            let row = source + (taps.starts[y] + k) * rowSize
                            for i in 0..<rowSize { sums[i] &+= Int32(row[i]) &* weight }
                        }
                        let out = target + y * rowSize
                        for i in 0..<rowSize { out[i] = Taps.rounded(sums[i]) }
                    }
                }
            }
        }
    }

    private func premultiplied(_ values: [UInt8]) -> [UInt8] {
        var result = values
        for i in stride(from: 0, to: values.count, by: 4) {
            let alpha = UInt32(values[i + 3])
            for c in i..<i + 3 { result[c] = quotient255(UInt32(values[c]) * alpha) }
        }
        return result
    }

    private func unpremultiplied(_ values: [UInt8]) -> [UInt8] {
        var result = values
        for i in stride(from: 0, to: values.count, by: 4) where values[i + 3] != 0 && values[i + 3] != 255 {
            for c in i..<i + 3 { result[c] = UInt8(min(255, 255 * Int(values[c]) / Int(values[i + 3]))) }
        }
        return result
    }
}

extension Raster.Filter {
    /// Pixels on each side that have a weight, where nothing is reduced.
    fileprivate var support: Double {
        switch self {
        case .bilinear: 1
        case .bicubic: 2
        case .lanczos: 3
        }
    }

    /// The weight at a distance, 1 being a pixel of the smaller of both pictures.
    fileprivate func weight(_ distance: Double) -> Double {
        switch self {
        case .bilinear: return max(0, 1 - abs(distance))
        case .bicubic:
            let x = abs(distance)
            if x < 1 { return (1.5 * x - 2.5) * x * x + 1 }
            return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0
        case .lanczos:
            guard distance > -3, distance < 3 else { return 0 }
            func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(x * .pi) / (x * .pi) }
            return sinc(distance) * sinc(distance / 3)
        }
    }
}

/// A filter along one axis: for each output the first input, how many follow, and their weights.
private struct Taps {
    /// 32 bits less 8 of the value and 2 for the sum of weights.
    static let precision: Int32 = 22
    /// One half, so that the shift rounds.
    static let half: Int32 = 1 << (precision - 1)

    let size: Int
    var starts: [Int] = []
    var counts: [Int] = []
    /// [outputs, size].
    var weights: [Int32] = []

    init(from inputs: Int, to outputs: Int, _ filter: Raster.Filter) {
        let scale = Double(inputs) / Double(outputs)
        let width = max(scale, 1)
        let support = filter.support * width
        size = Int(support.rounded(.up)) * 2 + 1
        weights.reserveCapacity(outputs * size)
        for output in 0..<outputs {
            let center = (Double(output) + 0.5) * scale
            let start = max(0, Int(center - support + 0.5))
            let end = min(inputs, Int(center + support + 0.5))
            let inverse = 1 / width
            let shares = (start..<end).map { filter.weight((Double($0) - center + 0.5) * inverse) }
            let sum = shares.reduce(0, +)
            starts.append(start)
            counts.append(shares.count)
            weights += shares.map {
                let share = (sum == 0 ? $0 : $0 / sum) * Double(1 << Self.precision)
                return Int32(share < 0 ? share - 0.5 : share + 0.5)
            }
            weights += repeatElement(0, count: size - shares.count)
        }
    }

    @inline(__always)
    static func rounded(_ sum: Int32) -> UInt8 {
        UInt8(truncatingIfNeeded: max(0, min(255, sum >> precision)))
    }
}
