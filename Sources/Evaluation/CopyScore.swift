import Raster

/// How far a picture repeats a reference pixel by pixel: 1 where the reference's subject lies in it as it is, at any place and size,
/// mirrored or not; near 0 where nothing agrees.
///
/// It is the greatest correlation between the reference's foreground and the picture under it, over sizes, places and mirroring,
/// of the three channels, each without its mean (normalised
/// cross-correlation; Lewis 1995). The likeliest places are found in small pictures, and looked at again in larger ones, where a
/// pasted subject still agrees and another pose of it no longer does. The subject's outline does not count: what is blended with
/// one ground in the reference is blended with another in the picture. Identity says how alike subjects are; this says
/// whether one was pasted.
public struct CopyScore {
    /// At and above it a picture is called copied.
    public static let copied = 0.94
    /// Side of the pictures in which places are looked for, and of those in which the likeliest are looked at, in pixels.
    private static let side = 32, fineSide = 128
    /// Longer sides of the subject that are tried, in pixels of the small picture.
    private static let longerSides = 11...side
    /// How many places are looked at again.
    private static let kept = 3

    /// A subject of one size, mirrored or not.
    private struct Template {
        /// Of the subject, in pixels of the small picture.
        let longer: Int
        let isMirrored: Bool
        let width: Int
        let height: Int
        /// Where the pixels of the foreground lie in the picture, from the template's corner.
        let offsets: [Int]
        /// Three values of each, without their channel's mean; of length one altogether.
        let values: [Float]
    }

    private struct Place {
        let score: Float
        let template: Template
        let x: Int, y: Int
    }

    /// The reference, RGBA, without the margins that show nothing of the subject.
    private let subject: Raster
    private let templates: [Template]

    /// - Parameter reference: with alpha, or before a white background.
    public init(reference: Raster) {
        subject = Self.cutToForeground(reference)
        var templates: [Template] = []
        for longer in Self.longerSides {
            for isMirrored in [false, true] {
                templates.append(
                    Self.template(
                        subject, longer: longer, fraction: Double(longer), isMirrored: isMirrored, side: Self.side))
            }
        }
        self.templates = templates.filter { !$0.values.isEmpty }
    }

    /// The score of a picture, 0 to 1.
    public func callAsFunction(_ picture: Raster) -> Double {
        let small = picture.fitted(toSquare: Self.side).pixels.map(Float.init)
        let places = templates.compactMap { template in
            Self.best(
                template, small, side: Self.side, columns: 0...Self.side - template.width,
                rows: 0...Self.side - template.height)
        }.sorted { $0.score > $1.score }.prefix(Self.kept)
        guard !places.isEmpty else { return 0 }
        let large = picture.fitted(toSquare: Self.fineSide).pixels.map(Float.init)
        let best = places.map { lookedAtAgain($0, large) }.max() ?? 0
        return Double(min(max(best, 0), 1))
    }

    /// The greatest correlation near a place: at most a pixel of the small picture away, and as much larger or smaller.
    private func lookedAtAgain(_ place: Place, _ pixels: [Float]) -> Float {
        let factor = Self.fineSide / Self.side
        let longer = place.template.longer
        var best: Float = 0
        for fraction in (longer - 1) * factor...min((longer + 1) * factor, Self.fineSide) {
            let template = Self.template(
                subject, longer: longer, fraction: Double(fraction), isMirrored: place.template.isMirrored,
                side: Self.fineSide)
            func range(_ start: Int, _ length: Int) -> ClosedRange<Int>? {
                let (low, high) = (max(0, (start - 1) * factor), min(Self.fineSide - length, (start + 1) * factor + 1))
                return low <= high ? low...high : nil
            }
            guard !template.values.isEmpty, let columns = range(place.x, template.width),
                let rows = range(place.y, template.height)
            else { continue }
            let found = Self.best(template, pixels, side: Self.fineSide, columns: columns, rows: rows)
            best = max(best, found?.score ?? 0)
        }
        return best
    }

    /// The place of the greatest correlation.
    private static func best(
        _ template: Template, _ pixels: [Float], side: Int, columns: ClosedRange<Int>, rows: ClosedRange<Int>
    ) -> Place? {
        var best: Place?
        pixels.withUnsafeBufferPointer { pixels in
            for y in rows {
                for x in columns {
                    let score = correlation(template, pixels, at: 3 * (y * side + x))
                    if score > best?.score ?? 0 { best = Place(score: score, template: template, x: x, y: y) }
                }
            }
        }
        return best
    }

    private static func correlation(
        _ template: Template, _ pixels: UnsafeBufferPointer<Float>, at start: Int
    ) -> Float {
        var sums: (Float, Float, Float) = (0, 0, 0)
        var (squares, product): (Float, Float) = (0, 0)
        let count = template.offsets.count
        template.offsets.withUnsafeBufferPointer { offsets in
            template.values.withUnsafeBufferPointer { values in
                for i in 0..<count {
                    let at = start + offsets[i]
                    let (r, g, b) = (pixels[at], pixels[at + 1], pixels[at + 2])
                    sums = (sums.0 + r, sums.1 + g, sums.2 + b)
                    squares += r * r + g * g + b * b
                    product += r * values[3 * i] + g * values[3 * i + 1] + b * values[3 * i + 2]
                }
            }
        }
        let squaredSums = sums.0 * sums.0 + sums.1 * sums.1 + sums.2 * sums.2
        let variance = squares - squaredSums / Float(count)
        return variance > Float(count) ? product / variance.squareRoot() : 0
    }

    /// - Parameters:
    ///   - longer: what ``Template/longer`` says.
    ///   - fraction: of the subject, in pixels of a picture of `side`.
    private static func template(
        _ subject: Raster, longer: Int, fraction: Double, isMirrored: Bool, side: Int
    ) -> Template {
        let scale = fraction / Double(max(subject.width, subject.height))
        let width = max(1, Int((Double(subject.width) * scale).rounded()))
        let height = max(1, Int((Double(subject.height) * scale).rounded()))
        let picture = subject.resized(width: width, height: height)
        var offsets: [Int] = []
        var values: [Float] = []
        for (x, y) in inside(picture) {
            offsets.append(3 * (y * side + (isMirrored ? width - 1 - x : x)))
            for c in 0..<3 { values.append(Float(picture.pixels[(y * width + x) * 4 + c])) }
        }
        let count = Float(max(offsets.count, 1))
        for c in 0..<3 {
            let places = stride(from: c, to: values.count, by: 3)
            let mean = places.reduce(0) { $0 + values[$1] } / count
            for place in places { values[place] -= mean }
        }
        let length = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
        // What has no structure, or hardly a pixel, is found everywhere.
        let isPlain = length < count.squareRoot() || offsets.count < 16
        return Template(
            longer: longer, isMirrored: isMirrored, width: width, height: height, offsets: offsets,
            values: isPlain ? [] : values.map { $0 / length })
    }

    /// The pixels that are of the subject alone: opaque, and not at its outline where there are enough others.
    private static func inside(_ picture: Raster) -> [(x: Int, y: Int)] {
        let (width, height) = (picture.width, picture.height)
        func isOpaque(_ x: Int, _ y: Int) -> Bool {
            (0..<width).contains(x) && (0..<height).contains(y) && picture.pixels[(y * width + x) * 4 + 3] >= 250
        }
        let opaque = (0..<width * height).map { ($0 % width, $0 / width) }.filter(isOpaque)
        let inner = opaque.filter { x, y in
            isOpaque(x - 1, y) && isOpaque(x + 1, y) && isOpaque(x, y - 1) && isOpaque(x, y + 1)
        }
        return (max(width, height) > side && inner.count >= 16 ? inner : opaque).map { (x: $0.0, y: $0.1) }
    }

    /// RGBA, without the margins that show nothing of the subject.
    private static func cutToForeground(_ reference: Raster) -> Raster {
        let reference = reference.limited(toSide: 4 * side)
        let (width, height, channels) = (reference.width, reference.height, reference.channels)
        var pixels: [UInt8] = []
        pixels.reserveCapacity(width * height * 4)
        var (left, right, top, bottom) = (width, 0, height, 0)
        for y in 0..<height {
            for x in 0..<width {
                let start = (y * width + x) * channels
                let color = reference.pixels[start..<start + 3]
                let isShown = channels == 4 ? reference.pixels[start + 3] >= 128 : color.contains { $0 < 250 }
                pixels.append(contentsOf: color)
                pixels.append(isShown ? 255 : 0)
                guard isShown else { continue }
                (left, right, top, bottom) = (min(left, x), max(right, x + 1), min(top, y), max(bottom, y + 1))
            }
        }
        let cut = Raster(width: width, height: height, channels: 4, pixels: pixels)
        guard left < right, top < bottom else { return cut }
        return cut.cropped(columns: left..<right, rows: top..<bottom) ?? cut
    }
}
