/// A sheet that shows a set at a glance: references in columns on the left, pictures on the right, a caption under each.
///
/// A cell is as large as the largest picture; references are scaled to fit one.
public struct ContactSheet: Sendable {
    /// A picture and what is written under it.
    public struct Entry: Sendable {
        let picture: Raster
        let caption: String

        /// An entry; the caption is wrapped to the width of its cell, and cut after three lines.
        public init(_ picture: Raster, caption: String) {
            self.picture = picture
            self.caption = caption
        }
    }

    private static let background: (UInt8, UInt8, UInt8) = (255, 255, 255)
    private static let ink: (UInt8, UInt8, UInt8) = (51, 51, 51)
    private static let line: (UInt8, UInt8, UInt8) = (204, 204, 204)
    private static let maximalLines = 3

    private let references, pictures: [Entry]
    private let cellWidth, cellHeight: Int
    /// Pixels of the sheet for one of the font's.
    private let scale: Int

    /// A sheet of `pictures`, or nil when there are none.
    public init?(references: [Entry], pictures: [Entry]) {
        guard let width = pictures.map(\.picture.width).max(), let height = pictures.map(\.picture.height).max() else {
            return nil
        }
        (cellWidth, cellHeight, scale) = (width, height, max(1, width / 300))
        self.pictures = pictures
        self.references = references.map {
            let factor = min(Double(width) / Double($0.picture.width), Double(height) / Double($0.picture.height))
            let size = [$0.picture.width, $0.picture.height].map { max(1, Int((Double($0) * factor).rounded(.down))) }
            return Entry($0.picture.compositedOnWhite().resized(width: size[0], height: size[1]), caption: $0.caption)
        }
    }

    /// The sheet, RGB.
    ///
    /// - Parameter columns: of pictures; nil makes a sheet about half as wide again as it is high.
    public func rendered(columns: Int? = nil) -> Raster {
        let across = min(pictures.count, max(1, columns ?? Int((Double(pictures.count) * 1.5).squareRoot().rounded())))
        let down = (pictures.count + across - 1) / across
        let left = (references.count + down - 1) / down

        let gap = max(4, cellWidth / 32)
        let captions = (references + pictures).map { lines(of: $0.caption) }
        let textHeight = Fixed6x13.height * scale
        let stride = (
            x: cellWidth + gap, y: cellHeight + gap + (captions.map(\.count).max() ?? 0) * textHeight + gap / 2
        )
        // A line between the two sides, with the room of two gaps around it.
        let divider = left > 0 ? 2 * gap : 0
        var canvas = Canvas(
            width: gap + (left + across) * stride.x + divider, height: gap + down * stride.y,
            color: Self.background)
        if left > 0 {
            canvas.fill(
                x: gap / 2 + left * stride.x + gap, y: gap, width: max(1, gap / 4),
                height: canvas.height - 2 * gap, color: Self.line)
        }
        for (index, entry) in (references + pictures).enumerated() {
            let isReference = index < references.count
            // References go down first, so that a few stand in one column.
            let place = isReference ? index : index - references.count
            let column = isReference ? place / down : left + place % across
            let row = isReference ? place % down : place / across
            let x = gap + column * stride.x + (isReference ? 0 : divider)
            let y = gap + row * stride.y
            let picture = entry.picture.compositedOnWhite()
            canvas.draw(
                picture, x: x + (cellWidth - picture.width) / 2, y: y + (cellHeight - picture.height) / 2)
            for (number, line) in captions[index].enumerated() {
                canvas.write(
                    line, x: x, y: y + cellHeight + gap / 2 + number * textHeight, scale: scale, color: Self.ink)
            }
        }
        return canvas.raster
    }

    /// The caption's words in lines that fit a cell.
    private func lines(of caption: String) -> [String] {
        let limit = max(1, cellWidth / (Fixed6x13.width * scale))
        var lines: [String] = []
        for word in caption.split(whereSeparator: \.isWhitespace) {
            if let last = lines.last, last.count + 1 + word.count <= limit {
                lines[lines.count - 1] = last + " " + word
            } else {
                lines.append(String(word))
            }
        }
        if lines.count > Self.maximalLines {
            lines.removeSubrange(Self.maximalLines...)
            lines[lines.count - 1] += " ..."
        }
        return lines.map { $0.count > limit ? $0.prefix(max(0, limit - 3)) + "..." : $0 }
    }
}

/// An RGB image that is drawn into.
private struct Canvas {
    let width, height: Int
    private var pixels: [UInt8]

    init(width: Int, height: Int, color: (UInt8, UInt8, UInt8)) {
        (self.width, self.height) = (width, height)
        pixels = Raster(width: width, height: height, color: color).pixels
    }

    var raster: Raster { Raster(width: width, height: height, channels: 3, pixels: pixels) }

    /// `picture`, RGB, at a place where it fits.
    mutating func draw(_ picture: Raster, x: Int, y: Int) {
        let row = picture.width * 3
        for line in 0..<picture.height {
            let target = ((y + line) * width + x) * 3
            pixels.replaceSubrange(target..<(target + row), with: picture.pixels[(line * row)..<((line + 1) * row)])
        }
    }

    /// A rectangle; what lies outside is left out.
    mutating func fill(x: Int, y: Int, width: Int, height: Int, color: (UInt8, UInt8, UInt8)) {
        for row in max(0, y)..<max(0, y, min(y + height, self.height)) {
            for column in max(0, x)..<max(0, x, min(x + width, self.width)) {
                let start = (row * self.width + column) * 3
                (pixels[start], pixels[start + 1], pixels[start + 2]) = color
            }
        }
    }

    mutating func write(_ text: String, x: Int, y: Int, scale: Int, color: (UInt8, UInt8, UInt8)) {
        for (index, character) in text.enumerated() {
            for (row, bits) in Fixed6x13.rows(of: character).enumerated() {
                for column in 0..<Fixed6x13.width where bits & (0x80 >> column) != 0 {
                    fill(
                        x: x + (index * Fixed6x13.width + column) * scale, y: y + row * scale, width: scale,
                        height: scale, color: color)
                }
            }
        }
    }
}
