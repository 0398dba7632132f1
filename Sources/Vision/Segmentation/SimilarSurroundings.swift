import Foundation

/// How much of what lies around a mask, and touches it, has the subject's colours rather than the background's: where a
/// network has lost a part of the subject, that part shows so.
public struct SimilarSurroundings: Sendable, Equatable {
    /// Its area, as a share of the mask's.
    public let share: Double

    /// Width and height of the pictures that are compared, in pixels.
    public static let side = 160
    /// Bins of each channel, over its square root: the dark has as many as the light.
    private static let bins = 12
    /// From which likelihood on a colour counts as the subject's.
    private static let likely: Float = 0.6

    /// - Parameters:
    ///   - mask: 0 to 1, `side * side` values, of the whole photo.
    ///   - pixels: the photo, RGB of 8 bits, `side * side` of them.
    public init(mask: [Float], pixels: [UInt8]) {
        precondition(mask.count == Self.side * Self.side && pixels.count == 3 * mask.count, "\(mask.count) pixels")
        let inside = mask.map { $0 > 0.5 }
        let area = inside.count { $0 }
        guard area > 0 else {
            share = 0
            return
        }
        // A rim of both is left out.
        let outside = Self.grown(Self.grown(inside)).map { !$0 }
        let bins = mask.indices.map { pixel in
            (0..<3).reduce(0) { bin, channel in
                let value = (Float(pixels[3 * pixel + channel]) / 255).squareRoot()
                return bin * Self.bins + min(Int(value * Float(Self.bins)), Self.bins - 1)
            }
        }
        let (subject, background) = (Self.histogram(bins, inside), Self.histogram(bins, outside))
        let likelihoods = Self.smoothed(bins.map { subject[$0] / (subject[$0] + background[$0] + 1e-7) })
        var similar = mask.indices.map { !inside[$0] && likelihoods[$0] > Self.likely }
        // Without what is thinner than five pixels.
        for _ in 0..<2 { similar = Self.grown(similar.map { !$0 }, border: true).map { !$0 } }
        for _ in 0..<2 { similar = Self.grown(similar) }
        let parts = MaskParts(
            mask.indices.map { inside[$0] || similar[$0] ? 1 : 0 }, width: Self.side, above: 0.5)
        let touching = Set(mask.indices.filter { inside[$0] }.map { parts.labels[$0] })
        let found = mask.indices.count { similar[$0] && outside[$0] && touching.contains(parts.labels[$0]) }
        share = Double(found) / Double(area)
    }

    /// With the neighbours at each side; `border` is what lies around the picture.
    private static func grown(_ pixels: [Bool], border: Bool = false) -> [Bool] {
        func at(_ x: Int, _ y: Int) -> Bool {
            (0..<side).contains(x) && (0..<side).contains(y) ? pixels[y * side + x] : border
        }
        return pixels.indices.map { i in
            let (x, y) = (i % side, i / side)
            return pixels[i] || at(x - 1, y) || at(x + 1, y) || at(x, y - 1) || at(x, y + 1)
        }
    }

    /// How often each bin's colours occur, nearby colours with it; the sum is 1.
    private static func histogram(_ colours: [Int], _ chosen: [Bool]) -> [Float] {
        var counts = [Float](repeating: 0, count: bins * bins * bins)
        for (pixel, bin) in colours.enumerated() where chosen[pixel] { counts[bin] += 1 }
        let weights = (-3...3).map { exp(-Float($0 * $0) / (2 * 0.7 * 0.7)) }
        let sum = weights.reduce(0, +)
        for stride in [1, bins, bins * bins] {
            counts = counts.indices.map { bin in
                let place = bin / stride % bins
                return (-3...3).reduce(Float(0)) { total, step in
                    // Beyond the first and last bin it is mirrored.
                    var other = place + step
                    if other < 0 { other = -1 - other }
                    if other >= bins { other = 2 * bins - 1 - other }
                    return total + weights[step + 3] / sum * counts[bin + (other - place) * stride]
                }
            }
        }
        let total = max(counts.reduce(0, +), 1)
        return counts.map { $0 / total }
    }

    /// The mean of five by five pixels.
    private static func smoothed(_ values: [Float]) -> [Float] {
        values.indices.map { i in
            let (x, y) = (i % side, i / side)
            let (columns, rows) = (max(0, x - 2)...min(side - 1, x + 2), max(0, y - 2)...min(side - 1, y + 2))
            let sum = rows.reduce(Float(0)) { sum, row in columns.reduce(sum) { $0 + values[row * side + $1] } }
            return sum / Float(columns.count * rows.count)
        }
    }
}
