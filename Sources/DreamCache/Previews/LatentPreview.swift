import Raster

/// A linear map from a latent to a picture of the latent's size: a look at what is being made, for next to nothing.
///
/// It is fitted to a base's own autoencoder, by least squares over pictures that are drawn for it.
public struct LatentPreview: Sendable, Equatable, Codable {
    /// Of the latent.
    public let channels: Int
    /// `[3, channels + 1]`: a weight a channel, then a constant; in levels from 0 to 255.
    let weights: [Double]
    /// Root mean square error over pictures it was not fitted to, in levels.
    public let error: Double

    /// Whether it is a map for latents of so many channels: what was read from a file may be none.
    func isSound(channels: Int) -> Bool {
        self.channels == channels && weights.count == 3 * (channels + 1) && weights.allSatisfy(\.isFinite)
            && error.isFinite
    }

    /// The picture of a latent `[channels, height, width]`; nil where it is of another size.
    func picture(_ latent: [Float], height: Int, width: Int) -> Raster? {
        let count = height * width
        guard latent.count == channels * count, weights.count == 3 * (channels + 1) else { return nil }
        var pixels = [UInt8](repeating: 0, count: 3 * count)
        for color in 0..<3 {
            let first = color * (channels + 1)
            for i in 0..<count {
                var level = weights[first + channels]
                for channel in 0..<channels { level += weights[first + channel] * Double(latent[channel * count + i]) }
                pixels[3 * i + color] = level.isNaN ? 0 : UInt8(min(max(level.rounded(), 0), 255))
            }
        }
        return Raster(width: width, height: height, channels: 3, pixels: pixels)
    }

    /// A latent and the picture it is of, made as small.
    struct Sample {
        let latent: [Float]
        let picture: Raster
    }

    /// The map with the least squared error over samples; nil where they do not determine one.
    ///
    /// - Parameter held: samples for ``error``.
    init?(channels: Int, fittedTo samples: [Sample], held: [Sample]) {
        let n = channels + 1
        var normal = [Double](repeating: 0, count: n * n)
        var right = [Double](repeating: 0, count: n * 3)
        for sample in samples {
            Self.each(sample, channels) { row, colors in
                for i in 0..<n {
                    for j in 0..<n { normal[i * n + j] += row[i] * row[j] }
                    for c in 0..<3 { right[i * 3 + c] += row[i] * colors[c] }
                }
            }
        }
        guard let solution = Self.solved(normal, right, n) else { return nil }
        self.channels = channels
        weights = (0..<3).flatMap { color in (0..<n).map { solution[$0 * 3 + color] } }
        var (squares, count) = (0.0, 0)
        for sample in held {
            Self.each(sample, channels) { row, colors in
                for c in 0..<3 {
                    let level = (0..<n).reduce(0.0) { $0 + row[$1] * solution[$1 * 3 + c] }
                    squares += (level - colors[c]) * (level - colors[c])
                    count += 1
                }
            }
        }
        error = count > 0 ? (squares / Double(count)).squareRoot() : 0
    }

    /// Each place of a sample: its latent with a 1 behind, and its colours.
    private static func each(_ sample: Sample, _ channels: Int, _ body: ([Double], [Double]) -> Void) {
        let count = sample.picture.width * sample.picture.height
        guard sample.latent.count == channels * count else { return }
        for i in 0..<count {
            body(
                (0..<channels).map { Double(sample.latent[$0 * count + i]) } + [1],
                (0..<3).map { Double(sample.picture.pixels[i * sample.picture.channels + $0]) })
        }
    }

    /// x of a x = b for three columns of b, by elimination with pivots.
    private static func solved(_ a: [Double], _ b: [Double], _ n: Int) -> [Double]? {
        var (a, b) = (a, b)
        for column in 0..<n {
            guard let pivot = (column..<n).max(by: { abs(a[$0 * n + column]) < abs(a[$1 * n + column]) }),
                abs(a[pivot * n + column]) > 1e-9
            else { return nil }
            for j in 0..<n { a.swapAt(column * n + j, pivot * n + j) }
            for j in 0..<3 { b.swapAt(column * 3 + j, pivot * 3 + j) }
            for row in 0..<n where row != column {
                let factor = a[row * n + column] / a[column * n + column]
                for j in 0..<n { a[row * n + j] -= factor * a[column * n + j] }
                for j in 0..<3 { b[row * 3 + j] -= factor * b[column * 3 + j] }
            }
        }
        return (0..<n).flatMap { row in (0..<3).map { b[row * 3 + $0] / a[row * n + row] } }
    }
}

/// Pictures to fit a map to: gradients with shapes of many colours on them, always the same.
struct DrawnPictures {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// splitmix64 (Steele et al. 2014), 0 up to 1.
    private mutating func next() -> Double {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return Double((z ^ (z >> 31)) >> 11) / Double(1 << 53)
    }

    private mutating func color() -> [Double] { (0..<3).map { _ in next() * 255 } }

    mutating func picture(side: Int) -> Raster {
        let corners = (0..<4).map { _ in color() }
        var pixels = [Double](repeating: 0, count: side * side * 3)
        for y in 0..<side {
            for x in 0..<side {
                let (u, v) = (Double(x) / Double(side), Double(y) / Double(side))
                for c in 0..<3 {
                    let top = corners[0][c] * (1 - u) + corners[1][c] * u
                    let bottom = corners[2][c] * (1 - u) + corners[3][c] * u
                    pixels[(y * side + x) * 3 + c] = top * (1 - v) + bottom * v
                }
            }
        }
        for _ in 0..<10 {
            let (cx, cy, rx, ry) = (next(), next(), 0.05 + next() / 4, 0.05 + next() / 4)
            let (color, isRound) = (color(), next() < 0.5)
            for y in 0..<side {
                for x in 0..<side {
                    let dx = abs(Double(x) / Double(side) - cx) / rx, dy = abs(Double(y) / Double(side) - cy) / ry
                    guard isRound ? dx * dx + dy * dy < 1 : max(dx, dy) < 1 else { continue }
                    for c in 0..<3 { pixels[(y * side + x) * 3 + c] = color[c] }
                }
            }
        }
        return Raster(width: side, height: side, channels: 3, pixels: pixels.map { UInt8(min(max($0, 0), 255)) })
    }
}
