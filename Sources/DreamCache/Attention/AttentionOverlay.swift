import Raster

/// A picture of a reading: on the left the references and how much of them was read, on the right the picture and how much each
/// place read of the subject; a row for each resolution, coarse to fine (DreamCache, figure 5).
public struct AttentionOverlay {
    private let reading: AttentionReading
    private let references: [Int: Raster]

    /// References shown at most.
    public static let shown = 4

    /// - Parameter references: square pictures, as the model saw them, by their numbers; those that are missing are left out.
    public init(_ reading: AttentionReading, references: [Int: Raster]) {
        (self.reading, self.references) = (reading, references)
    }

    /// The picture of all of it; nil where nothing was read.
    public func picture(_ generated: Raster) -> Raster? {
        let longer = max(generated.width, generated.height)
        let side = min(256, max(longer, 128))
        let frame = (
            width: max(1, generated.width * side / longer), height: max(1, generated.height * side / longer)
        )
        let shown = references.keys.sorted().prefix(Self.shown)
        // Sites whose tokens lie alike, coarse to fine.
        let kinds = Set(reading.sites.map(\.cells)).sorted { $0.count < $1.count }
        let rows = kinds.map { cells in
            let sites = reading.sites.filter { $0.cells == cells }
            let read = shown.map { number in
                let parts = sites.compactMap { $0.parts.first { $0.reference == number } }
                let grid = parts.first?.grid
                return Self.overlaid(
                    references[number]?.resized(width: side, height: side), grid == nil ? [] : parts.map(\.read).mean,
                    grid)
            }
            let picture = generated.compositedOnWhite().resized(width: frame.width, height: frame.height)
            return (read, Self.overlaid(picture, sites.map(\.subjectRead).mean, cells))
        }
        guard !rows.isEmpty else { return nil }
        return Self.table(rows, side: side, frame: frame)
    }

    // MARK: - Drawing

    /// A picture with a map over it, from its least value to its greatest; nil where there is no picture.
    private static func overlaid(_ picture: Raster?, _ map: [Float], _ size: AttentionReading.Size?) -> Raster? {
        guard let picture, let size, map.count == size.count, let low = map.min(), let high = map.max(), high > low
        else {
            return picture
        }
        let gray = map.map { value -> UInt8 in
            let share = 255 * (value - low) / (high - low)
            return share.isFinite ? UInt8(min(max(share, 0), 255)) : 0
        }
        let heat = Raster(width: size.width, height: size.height, channels: 3, pixels: gray.flatMap { [$0, $0, $0] })
            .resized(width: picture.width, height: picture.height)
        var pixels = picture.pixels
        for i in 0..<(picture.width * picture.height) {
            let rgb = (0..<3).map { Float(picture.pixels[3 * i + $0]) }
            let luminance = rgb[0] * 0.3 + rgb[1] * 0.59 + rgb[2] * 0.11
            let color = color(Float(heat.pixels[3 * i]) / 255)
            for c in 0..<3 { pixels[3 * i + c] = UInt8(min(255, 0.45 * luminance + 0.55 * color[c])) }
        }
        return Raster(width: picture.width, height: picture.height, channels: 3, pixels: pixels)
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

    /// Rows of references and a picture, with white between them, and more of it before the picture.
    private static func table(
        _ rows: [(references: [Raster?], picture: Raster?)], side: Int, frame: (width: Int, height: Int)
    ) -> Raster {
        let gap = 8
        let columns = rows.first?.references.count ?? 0
        let left = columns * (side + gap) + (columns > 0 ? 2 * gap : 0)
        let line = (columns > 0 ? side : frame.height) + gap
        let (width, height) = (gap + left + frame.width + gap, rows.count * line + gap)
        var pixels = [UInt8](repeating: 255, count: width * height * 3)
        func put(_ picture: Raster?, _ x: Int, _ y: Int) {
            guard let picture else { return }
            let row = picture.width * 3
            for line in 0..<picture.height {
                let target = ((y + line) * width + x) * 3
                pixels.replaceSubrange(
                    target..<(target + row), with: picture.pixels[(line * row)..<((line + 1) * row)])
            }
        }
        for (number, row) in rows.enumerated() {
            let y = gap + number * line
            for (column, picture) in row.references.enumerated() { put(picture, gap + column * (side + gap), y) }
            put(row.picture, gap + left, y)
        }
        return Raster(width: width, height: height, channels: 3, pixels: pixels)
    }
}
