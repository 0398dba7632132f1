/// One number for each pixel of a picture, rows from the top.
public struct Plane: Sendable, Equatable {
    /// Columns.
    public let width: Int
    /// Rows.
    public let height: Int
    /// `width * height` values.
    public var values: [Float]

    /// A plane of `values`, of which there must be width * height, at least one.
    public init(width: Int, height: Int, values: [Float]) {
        precondition(
            width > 0 && height > 0 && values.count == width * height, "\(values.count) for \(width)x\(height)")
        self.width = width
        self.height = height
        self.values = values
    }

    /// A plane of one value.
    public init(width: Int, height: Int, repeating value: Float) {
        self.init(width: width, height: height, values: [Float](repeating: value, count: width * height))
    }

    /// One channel of a picture, 0 to 1.
    init(_ raster: Raster, channel: Int) {
        let count = raster.width * raster.height
        let values = [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            raster.pixels.withUnsafeBufferPointer { pixels in
                for i in 0..<count { buffer[i] = Float(pixels[i * raster.channels + channel]) / 255 }
            }
            initialized = count
        }
        self.init(width: raster.width, height: raster.height, values: values)
    }

    /// `f` of every value of this plane and `other`'s, of one size.
    func combined(_ other: Plane, _ f: (Float, Float) -> Float) -> Plane {
        precondition(width == other.width && height == other.height)
        let result = [Float](unsafeUninitializedCapacity: values.count) { buffer, initialized in
            values.withUnsafeBufferPointer { a in
                other.values.withUnsafeBufferPointer { b in
                    for i in 0..<a.count { buffer[i] = f(a[i], b[i]) }
                }
            }
            initialized = values.count
        }
        return Plane(width: width, height: height, values: result)
    }

    /// `f` of every value.
    public func mapped(_ f: (Float) -> Float) -> Plane { Plane(width: width, height: height, values: values.map(f)) }

    /// The part of the given columns and rows; what lies beyond the plane is `outside`.
    public func part(columns: Range<Int>, rows: Range<Int>, outside: Float = 0) -> Plane {
        var part = Plane(width: columns.count, height: rows.count, repeating: outside)
        let inside = columns.clamped(to: 0..<width)
        for y in rows.clamped(to: 0..<height) where !inside.isEmpty {
            let target = (y - rows.lowerBound) * columns.count + inside.lowerBound - columns.lowerBound
            part.values.replaceSubrange(
                target..<target + inside.count,
                with: values[y * width + inside.lowerBound..<y * width + inside.upperBound])
        }
        return part
    }

    /// Bilinear interpolation with half-pixel centres, without antialiasing.
    public func resized(width newWidth: Int, height newHeight: Int) -> Plane {
        if newWidth == width, newHeight == height { return self }
        func places(_ inputs: Int, _ outputs: Int) -> [(first: Int, second: Int, share: Float)] {
            (0..<outputs).map {
                let at = max(0, (Float($0) + 0.5) * Float(inputs) / Float(outputs) - 0.5)
                let first = min(Int(at), inputs - 1)
                return (first, min(first + 1, inputs - 1), at - Float(first))
            }
        }
        let (columns, rows) = (places(width, newWidth), places(height, newHeight))
        let result = [Float](unsafeUninitializedCapacity: newWidth * newHeight) { buffer, initialized in
            values.withUnsafeBufferPointer { values in
                for (y, row) in rows.enumerated() {
                    let (top, bottom) = (row.first * width, row.second * width)
                    for (x, column) in columns.enumerated() {
                        let above =
                            values[top + column.first]
                            + column.share * (values[top + column.second] - values[top + column.first])
                        let below =
                            values[bottom + column.first]
                            + column.share * (values[bottom + column.second] - values[bottom + column.first])
                        buffer[y * newWidth + x] = above + row.share * (below - above)
                    }
                }
            }
            initialized = newWidth * newHeight
        }
        return Plane(width: newWidth, height: newHeight, values: result)
    }
}
