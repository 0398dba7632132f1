extension Plane {
    /// The columns and rows that hold every value above `threshold`; nil where there is none.
    public func bounds(above threshold: Float) -> (columns: Range<Int>, rows: Range<Int>)? {
        var (left, right, top, bottom) = (width, -1, height, -1)
        for y in 0..<height {
            for x in 0..<width where values[y * width + x] > threshold {
                (left, right, top, bottom) = (min(left, x), max(right, x), min(top, y), max(bottom, y))
            }
        }
        return right < 0 ? nil : (left..<right + 1, top..<bottom + 1)
    }

    /// The square around what alpha shows, `margin` times as wide as its longer side; it may reach beyond the picture. Nil
    /// where nothing is at least half opaque.
    public func subjectSquare(margin: Double) -> (columns: Range<Int>, rows: Range<Int>)? {
        guard let found = bounds(above: 0.5) else { return nil }
        let side = Int((Double(max(found.columns.count, found.rows.count)) * margin).rounded(.up))
        func around(_ range: Range<Int>) -> Range<Int> {
            let start = range.lowerBound - (side - range.count) / 2
            return start..<start + side
        }
        return (around(found.columns), around(found.rows))
    }
}

extension Raster {
    /// Whether some pixel is not opaque.
    public var hasTransparency: Bool {
        channels == 4 && stride(from: 3, to: pixels.count, by: 4).contains { pixels[$0] < 255 }
    }

    /// Whether the picture stands on white already: nearly all pixels of its border are nearly white.
    public var hasPlainBorder: Bool {
        let depth = max(1, min(width, height) / 100)
        var (plain, count) = (0, 0)
        for y in 0..<height {
            let isEdge = y < depth || y >= height - depth
            let sides = Array(0..<min(depth, width)) + Array(max(depth, width - depth)..<max(depth, width))
            for x in isEdge ? Array(0..<width) : sides {
                let start = (y * width + x) * channels
                count += 1
                if pixels[start..<start + 3].allSatisfy({ $0 >= Self.nearlyWhite }) { plain += 1 }
            }
        }
        return Double(plain) >= 0.98 * Double(count)
    }

    private static let nearlyWhite: UInt8 = 236

    /// RGB, alpha left out.
    public var opaque: Raster {
        guard channels == 4 else { return self }
        let rgb = pixels.indices.filter { $0 % 4 < 3 }.map { pixels[$0] }
        return Raster(width: width, height: height, channels: 3, pixels: rgb)
    }

    /// No side longer than `side`; the picture itself where that is so.
    public func limited(toSide side: Int) -> Raster {
        let longest = max(width, height)
        guard longest > side else { return self }
        func scaled(_ extent: Int) -> Int { max(1, extent * side / longest) }
        return resized(width: scaled(width), height: scaled(height))
    }

    /// The part of the given columns and rows, which may reach beyond the picture: there it is white, or transparent.
    public func part(columns: Range<Int>, rows: Range<Int>) -> Raster {
        var part = [UInt8](
            repeating: channels == 4 ? 0 : 255, count: columns.count * rows.count * channels)
        let inside = columns.clamped(to: 0..<width)
        for y in rows.clamped(to: 0..<height) where !inside.isEmpty {
            let target = ((y - rows.lowerBound) * columns.count + inside.lowerBound - columns.lowerBound) * channels
            let from = (y * width + inside.lowerBound) * channels
            part.replaceSubrange(
                target..<target + inside.count * channels, with: pixels[from..<from + inside.count * channels])
        }
        return Raster(width: columns.count, height: rows.count, channels: channels, pixels: part)
    }

    /// This RGBA picture's subject in the middle of a square, `margin` times as wide as its longer side; nil where nothing is
    /// at least half opaque.
    public func croppedToSubject(margin: Double) -> Raster? {
        guard channels == 4, let place = Plane(self, channel: 3).subjectSquare(margin: margin) else { return nil }
        return part(columns: place.columns, rows: place.rows)
    }
}
