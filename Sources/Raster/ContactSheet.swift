/// A sheet that shows a set at a glance: references in columns on the left, pictures on the right, a caption under each.
///
/// A cell is as large as the pictures; references are scaled to fit one. Cells shrink where the sheet would be larger than
/// 50 megapixels. Where the smallest cells are too many, the sheet shows the first of them
/// and says how many it leaves out. It is drawn a picture at a time, so that only one need be in memory.
public struct ContactSheet: Sendable {
    private static let ink: (UInt8, UInt8, UInt8) = (51, 51, 51)
    private static let line: (UInt8, UInt8, UInt8) = (204, 204, 204)
    private static let maximalLines = 3
    /// Of the sheet: 150 MB in memory.
    static let maximalPixels = 50_000_000
    /// Of the sheet's width and height.
    static let maximalSide = min(Raster.Limits().side, ImageFormat.jpeg.maximalSide, ImageFormat.png.maximalSide)
    /// Of a cell, so that sixteen letters of its caption stand in a line.
    static let minimalCellWidth = 96

    private let layout: Layout
    private var canvas: Canvas

    /// How many references and pictures the sheet shows: the first ones.
    public var shown: (references: Int, pictures: Int) { (layout.references.count, layout.pictures.count) }
    /// The room for one of them, in pixels.
    public var cell: (width: Int, height: Int) { layout.cell }

    /// A sheet with all of its captions and none of its pictures, or nil when there are no pictures.
    ///
    /// - Parameters:
    ///   - references: a caption each; it is wrapped to the width of its cell, and cut after three lines.
    ///   - pictures: likewise.
    ///   - size: of a picture, in pixels.
    ///   - columns: of pictures; nil makes a sheet about half as wide again as it is high.
    public init?(
        references: [String], pictures: [String], size: (width: Int, height: Int), columns: Int? = nil
    ) {
        self.init(
            references: references, pictures: pictures, size: size, columns: columns,
            maximalPixels: Self.maximalPixels)
    }

    init?(
        references: [String], pictures: [String], size: (width: Int, height: Int), columns: Int? = nil,
        maximalPixels: Int
    ) {
        guard !pictures.isEmpty, size.width > 0, size.height > 0 else { return nil }
        layout = Self.layout(references, pictures, size, columns, maximalPixels)
        canvas = Canvas(width: layout.size.width, height: layout.size.height)
        drawCaptions()
    }

    /// The sheet as it is now, RGB.
    public var raster: Raster { canvas.raster }

    /// Draws a reference, scaled to fit its cell; one that is not shown is left out.
    public mutating func draw(reference: Raster, at index: Int) {
        guard layout.references.indices.contains(index) else { return }
        draw(fitted(reference), in: layout.place(reference: index))
    }

    /// Draws a picture, made smaller where its cell is; one that is not shown is left out.
    public mutating func draw(picture: Raster, at index: Int) {
        guard layout.pictures.indices.contains(index) else { return }
        let fits = picture.width <= cell.width && picture.height <= cell.height
        draw(fits ? picture.compositedOnWhite() : fitted(picture), in: layout.place(picture: index))
    }

    /// A picture on white in the largest size that fits a cell.
    public func fitted(_ picture: Raster) -> Raster {
        let factor = min(
            Double(cell.width) / Double(picture.width), Double(cell.height) / Double(picture.height))
        let size = [picture.width, picture.height].map { max(1, Int((Double($0) * factor).rounded(.down))) }
        return picture.compositedOnWhite().resized(
            width: min(cell.width, size[0]), height: min(cell.height, size[1]))
    }

    private mutating func draw(_ picture: Raster, in place: (x: Int, y: Int)) {
        canvas.draw(
            picture, x: place.x + (cell.width - picture.width) / 2, y: place.y + (cell.height - picture.height) / 2)
    }

    private mutating func drawCaptions() {
        let (gap, scale) = (layout.gap, layout.scale)
        if layout.left > 0 {
            canvas.fill(
                x: gap / 2 + layout.left * layout.stride.x + gap, y: gap, width: max(1, gap / 4),
                height: layout.grid.height - 2 * gap, color: Self.line)
        }
        let captions =
            layout.references.indices.map { (layout.place(reference: $0), layout.references[$0]) }
            + layout.pictures.indices.map { (layout.place(picture: $0), layout.pictures[$0]) }
        for (place, lines) in captions {
            for (number, line) in lines.enumerated() {
                canvas.write(
                    line, x: place.x, y: place.y + cell.height + gap / 2 + number * layout.lineHeight, scale: scale,
                    color: Self.ink)
            }
        }
        if let remark = layout.remark {
            canvas.write(remark, x: gap, y: layout.grid.height + gap / 2, scale: scale, color: Self.ink)
        }
    }

    // MARK: Layout

    /// The largest cells with which the sheet is not too large.
    static func layout(
        _ references: [String], _ pictures: [String], _ size: (width: Int, height: Int), _ columns: Int?,
        _ maximalPixels: Int = maximalPixels
    ) -> Layout {
        let smallest = min(minimalCellWidth, size.width)
        var width = size.width
        // More cells than the sheet has pixels for are not even counted.
        let most = maximalPixels / (smallest * smallest * size.height / size.width + 1) + 1
        var (referenceCount, pictureCount) = (min(references.count, most), min(pictures.count, most))
        while true {
            let cell = (width: width, height: max(1, size.height * width / size.width))
            let layout = Layout(
                references: references.prefix(referenceCount).map { lines(of: $0, cell.width) },
                pictures: pictures.prefix(pictureCount).map { lines(of: $0, cell.width) }, cell: cell, columns: columns,
                leftOut: (references.count - referenceCount, pictures.count - pictureCount))
            let (w, h) = layout.size
            if max(w, h) <= maximalSide, w * h <= maximalPixels { return layout }
            if width > smallest {
                width = max(smallest, width * 15 / 16)
            } else if pictureCount > 1 || referenceCount > 0 {
                // References first: the sheet is the set's.
                if referenceCount > pictureCount / 4 {
                    referenceCount = referenceCount * 7 / 8
                } else {
                    pictureCount = max(1, pictureCount * 15 / 16)
                }
            } else {
                return layout
            }
        }
    }

    struct Layout: Sendable {
        /// Lines of caption of each.
        let references, pictures: [[String]]
        let cell: (width: Int, height: Int)
        /// Pixels of the sheet for one of the font's.
        let scale: Int
        let gap: Int
        let stride: (x: Int, y: Int)
        /// Columns of references, columns and rows of pictures.
        let left, across, down: Int
        let grid: (width: Int, height: Int)
        let remark: String?

        init(
            references: [[String]], pictures: [[String]], cell: (width: Int, height: Int), columns: Int?,
            leftOut: (references: Int, pictures: Int)
        ) {
            self.references = references
            self.pictures = pictures
            self.cell = cell
            scale = max(1, cell.width / 300)
            gap = max(4, cell.width / 32)
            across = min(
                pictures.count, max(1, columns ?? Int((Double(pictures.count) * 1.5).squareRoot().rounded())))
            let rows = (pictures.count + across - 1) / across
            // Where references are many and pictures few, references alone make a sheet half as wide again as high.
            let tall = Int((Double(references.count) / 1.5).squareRoot().rounded(.up))
            let isWide = (references.count + rows - 1) / rows > max(4, 2 * across)
            down = isWide ? max(rows, tall) : rows
            left = (references.count + down - 1) / down
            let lines = (references + pictures).map(\.count).max() ?? 0
            stride = (cell.width + gap, cell.height + gap + lines * Fixed6x13.height * scale + gap / 2)
            grid = (gap + (left + across) * stride.x + (left > 0 ? 2 * gap : 0), gap + down * stride.y)
            let parts = [(leftOut.pictures, "pictures"), (leftOut.references, "references")].filter { $0.0 > 0 }
            remark =
                parts.isEmpty
                ? nil : "not shown: " + parts.map { "\($0.0) more \($0.1)" }.joined(separator: ", ")
        }

        var lineHeight: Int { Fixed6x13.height * scale }

        var size: (width: Int, height: Int) {
            (grid.width, grid.height + (remark == nil ? 0 : lineHeight + gap))
        }

        /// References go down first, so that a few stand in one column.
        func place(reference index: Int) -> (x: Int, y: Int) {
            (gap + index / down * stride.x, gap + index % down * stride.y)
        }

        /// A line between the two sides has the room of two gaps around it.
        func place(picture index: Int) -> (x: Int, y: Int) {
            let divider = left > 0 ? 2 * gap : 0
            return (gap + (left + index % across) * stride.x + divider, gap + index / across * stride.y)
        }
    }

    /// The caption's words in lines that fit a cell.
    private static func lines(of caption: String, _ cellWidth: Int) -> [String] {
        let limit = max(1, cellWidth / (Fixed6x13.width * max(1, cellWidth / 300)))
        var lines: [String] = []
        for word in caption.split(whereSeparator: \.isWhitespace) {
            if let last = lines.last, last.count + 1 + word.count <= limit {
                lines[lines.count - 1] = last + " " + word
            } else {
                // What follows is cut anyway.
                if lines.count > maximalLines { break }
                lines.append(String(word))
            }
        }
        if lines.count > maximalLines {
            lines.removeSubrange(maximalLines...)
            lines[lines.count - 1] += " ..."
        }
        return lines.map { $0.count > limit ? $0.prefix(max(0, limit - 3)) + "..." : $0 }
    }
}
