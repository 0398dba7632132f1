import Raster

/// Pictures of a reading: on the left the references and how much of them was read, on the right the picture and how much each
/// place read of the subject; a row for each resolution, coarse to fine (DreamCache, figure 5).
public struct AttentionOverlay {
    /// A reference as the model saw it.
    public struct Reference {
        let subject: String, index: Int
        let picture: Raster

        /// A reference; `picture` is composited onto white and fitted to a square.
        public init(subject: String, index: Int, picture: Raster) {
            self.subject = subject
            self.index = index
            let side = max(picture.width, picture.height)
            self.picture = picture.compositedOnWhite().fitted(toSquare: side)
        }

        /// How much of each token is not white, as references are prepared: 0 to 1.
        func mask(_ grid: AttentionReading.Size) -> [Float] {
            var sums = [Float](repeating: 0, count: grid.count)
            var counts = sums
            for y in 0..<picture.height {
                for x in 0..<picture.width {
                    let cell = y * grid.height / picture.height * grid.width + x * grid.width / picture.width
                    let first = (y * picture.width + x) * 3
                    counts[cell] += 1
                    if picture.pixels[first..<(first + 3)].contains(where: { $0 < 247 }) { sums[cell] += 1 }
                }
            }
            return zip(sums, counts).map { $1 > 0 ? $0 / $1 : 0 }
        }
    }

    private let reading: AttentionReading
    private let references: [Reference]

    /// A reading and the references it is of; those without a picture are left out.
    public init(_ reading: AttentionReading, references: [Reference]) {
        (self.reading, self.references) = (reading, references)
    }

    private func reference(_ part: AttentionReading.Part) -> Reference? {
        references.first { $0.subject == part.subject && $0.index == part.reference }
    }

    /// The numbers of each site.
    public var numbers: [(site: String, numbers: AttentionReading.Numbers)] {
        reading.sites.compactMap { site in
            reading.numbers(site) { part, grid in reference(part)?.mask(grid) }.map {
                (site: site.name, numbers: $0)
            }
        }
    }

    /// References shown at most.
    private static let shown = 4

    /// The picture of all of it; nil where no reference has a picture or a grid.
    public func picture(_ generated: Raster) -> Raster? {
        let side = min(256, max(generated.width, generated.height, 128))
        let shown = Array(references.prefix(Self.shown))
        var rows: [[Raster]] = []
        let sizes = Set(reading.sites.compactMap { $0.parts.first?.grid }).sorted { $0.count < $1.count }
        for size in sizes {
            let sites = reading.sites.filter { $0.parts.first?.grid == size }
            var row = shown.map { reference in
                let maps = sites.flatMap(\.parts).filter {
                    $0.subject == reference.subject && $0.reference == reference.index
                }.map(\.read)
                return Self.overlaid(reference.picture, side: side, Self.mean(maps), size)
            }
            guard let cells = sites.first?.cells, !row.isEmpty else { continue }
            let maps = sites.filter { $0.cells == cells }.map { site in
                Self.sum(
                    site.parts.compactMap { part in
                        guard let grid = part.grid, let reference = reference(part) else { return nil }
                        return part.reading(reference.mask(grid))
                    })
            }
            row.append(Self.overlaid(generated, side: side, Self.mean(maps), cells))
            rows.append(row)
        }
        guard !rows.isEmpty else { return nil }
        return Self.table(rows, side: side)
    }

    private static func sum(_ maps: [[Float]]) -> [Float] {
        guard var total = maps.first else { return [] }
        for map in maps.dropFirst() { for i in total.indices { total[i] += map[i] } }
        return total
    }

    private static func mean(_ maps: [[Float]]) -> [Float] {
        sum(maps).map { $0 / Float(max(1, maps.count)) }
    }

    // MARK: - Drawing

    /// A picture in a square of `side` pixels with a map over it, from its least value to its greatest.
    private static func overlaid(
        _ picture: Raster, side: Int, _ map: [Float], _ size: AttentionReading.Size
    ) -> Raster {
        let base = picture.compositedOnWhite().resized(width: side, height: side)
        guard map.count == size.count, let low = map.min(), let high = map.max() else { return base }
        let gray = map.map { value -> UInt8 in
            let share = high > low ? (value - low) / (high - low) : 0
            return share.isNaN ? 0 : UInt8(min(max(255 * share, 0), 255))
        }
        let heat = Raster(width: size.width, height: size.height, channels: 3, pixels: gray.flatMap { [$0, $0, $0] })
            .resized(width: side, height: side)
        var pixels = base.pixels
        for i in 0..<(side * side) {
            let value = Float(heat.pixels[3 * i]) / 255
            let color = color(value)
            for c in 0..<3 {
                let luminance =
                    Float(base.pixels[3 * i]) * 0.3 + Float(base.pixels[3 * i + 1]) * 0.59
                    + Float(base.pixels[3 * i + 2]) * 0.11
                pixels[3 * i + c] = UInt8(min(255, 0.45 * luminance + 0.55 * color[c]))
            }
        }
        return Raster(width: side, height: side, channels: 3, pixels: pixels)
    }

    /// Dark blue over violet and orange to yellow, ever lighter, so that it reads in grey too.
    private static let scale: [[Float]] = [
        [10, 10, 60], [90, 20, 120], [190, 50, 90], [245, 130, 30], [255, 235, 120],
    ]

    private static func color(_ value: Float) -> [Float] {
        let place = min(max(value, 0), 1) * Float(scale.count - 1)
        let index = min(Int(place), scale.count - 2)
        return zip(scale[index], scale[index + 1]).map { $0 + ($1 - $0) * (place - Float(index)) }
    }

    /// Rows of squares with white between them, and more of it before the last column.
    private static func table(_ rows: [[Raster]], side: Int) -> Raster {
        let (gap, columns) = (8, rows.map(\.count).max() ?? 1)
        let width = columns * (side + gap) + 3 * gap
        let height = rows.count * (side + gap) + gap
        var pixels = [UInt8](repeating: 255, count: width * height * 3)
        for (row, pictures) in rows.enumerated() {
            for (column, picture) in pictures.enumerated() {
                let x = gap + column * (side + gap) + (column == pictures.count - 1 ? 2 * gap : 0)
                let y = gap + row * (side + gap)
                for line in 0..<side {
                    let target = ((y + line) * width + x) * 3
                    pixels.replaceSubrange(
                        target..<(target + side * 3), with: picture.pixels[(line * side * 3)..<((line + 1) * side * 3)])
                }
            }
        }
        return Raster(width: width, height: height, channels: 3, pixels: pixels)
    }
}
