import Raster

/// How far a picture repeats a reference pixel by pixel: 1 where the reference's subject lies in it as it is, at any place and size,
/// mirrored or not; near 0 where nothing agrees.
///
/// It is the greatest correlation between the reference's foreground and the picture under it, over sizes, places and mirroring,
/// of the three channels, each without its mean (normalised
/// cross-correlation; Lewis 1995). Identity says how alike subjects are; this says
/// whether one was pasted.
public struct CopyScore {
    /// At and above it a picture is called copied.
    public static let copied = 0.9
    /// Side of the pictures that are compared, in pixels.
    private static let side = 32
    /// Longer sides of the subject that are tried, in pixels.
    private static let longerSides = 11...side

    private struct Template {
        let width: Int
        let height: Int
        /// Where the pixels of the foreground lie in a picture of `side`, from the template's corner.
        let offsets: [Int]
        /// Three values of each, without their channel's mean; of length one altogether.
        let values: [Float]
    }

    private let templates: [Template]

    /// - Parameter reference: with alpha, or before a white background.
    public init(reference: Raster) {
        let picture = Self.cutToForeground(reference)
        var templates: [Template] = []
        for longer in Self.longerSides {
            let scale = Double(longer) / Double(max(picture.width, picture.height))
            let width = max(1, Int((Double(picture.width) * scale).rounded()))
            let height = max(1, Int((Double(picture.height) * scale).rounded()))
            let small = picture.resized(width: width, height: height)
            for isMirrored in [false, true] { templates.append(Self.template(small, isMirrored: isMirrored)) }
        }
        self.templates = templates.filter { $0.values.count >= 3 * 16 }
    }

    /// The score of a picture, 0 to 1.
    public func callAsFunction(_ picture: Raster) -> Double {
        let side = Self.side
        let pixels = picture.fitted(toSquare: side).pixels.map(Float.init)
        var best: Float = 0
        pixels.withUnsafeBufferPointer { pixels in
            for template in templates {
                for y in 0...(side - template.height) {
                    for x in 0...(side - template.width) {
                        best = max(best, Self.correlation(template, pixels, at: 3 * (y * side + x)))
                    }
                }
            }
        }
        return Double(min(best, 1))
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

    private static func template(_ picture: Raster, isMirrored: Bool) -> Template {
        var offsets: [Int] = []
        var values: [Float] = []
        for y in 0..<picture.height {
            for x in 0..<picture.width {
                let pixel = (y * picture.width + (isMirrored ? picture.width - 1 - x : x)) * 4
                guard picture.pixels[pixel + 3] >= 128 else { continue }
                offsets.append(3 * (y * side + x))
                for c in 0..<3 { values.append(Float(picture.pixels[pixel + c])) }
            }
        }
        let count = Float(max(offsets.count, 1))
        for c in 0..<3 {
            let places = stride(from: c, to: values.count, by: 3)
            let mean = places.reduce(0) { $0 + values[$1] } / count
            for place in places { values[place] -= mean }
        }
        let length = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
        // What has no structure is found everywhere.
        let isPlain = length < count.squareRoot()
        return Template(
            width: picture.width, height: picture.height, offsets: offsets,
            values: isPlain ? [] : values.map { $0 / length })
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
