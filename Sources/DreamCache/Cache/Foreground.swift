import Diffusion
import Raster
import Vision

/// Which cells of a reference show the subject: what `cache.tokens: foreground` keeps, and what a base without an adapter tells
/// the subject from its background by.
///
/// A cell is the square of pixels that one token of a site stands for: 8 pixels at the first level of Stable Diffusion,
/// twice as many at each further level. It is kept when any of its pixels is at least half opaque, so that thin parts
/// remain at the coarse levels, and a subject that is not empty has a token at every site.
struct Foreground {
    /// Alpha of the reference, fitted as its pixels are.
    let mask: Raster

    /// Nil for a picture without alpha.
    init?(_ reference: Raster, side: Int, fit: Raster.Fit) {
        guard reference.channels == 4 else { return nil }
        // Fitting adds white, which in the inverted alpha means background.
        let inverted = stride(from: 3, to: reference.pixels.count, by: 4).flatMap {
            repeatElement(255 - reference.pixels[$0], count: 3)
        }
        mask = Raster(width: reference.width, height: reference.height, channels: 3, pixels: inverted)
            .fitted(toSquare: side, mode: fit)
    }

    /// Of a fitted picture that stands on white: all but the white that reaches its border. Nil for another.
    init?(onWhite picture: Raster) {
        guard picture.hasPlainBorder else { return nil }
        let (width, height) = (picture.width, picture.height)
        let white = (0..<width * height).map { pixel -> Float in
            let start = pixel * picture.channels
            return picture.pixels[start..<start + 3].allSatisfy { $0 >= Self.white } ? 1 : 0
        }
        let parts = MaskParts(white, width: width, above: 0.5)
        var outside: Set<Int> = []
        for x in 0..<width { outside.formUnion([parts.labels[x], parts.labels[(height - 1) * width + x]]) }
        for y in 0..<height { outside.formUnion([parts.labels[y * width], parts.labels[y * width + width - 1]]) }
        outside.remove(-1)
        mask = Raster(
            width: width, height: height, channels: 3,
            pixels: parts.labels.flatMap { repeatElement(outside.contains($0) ? 255 : 0, count: 3) })
    }

    /// The least of a white pixel's channels: what compression leaves of white is white.
    private static let white: UInt8 = 250

    /// Whether the subject is in the picture at all.
    var isEmpty: Bool { !mask.pixels.contains { $0 < 128 } }

    /// The cells of `cell` pixels a side that are kept, row by row.
    func cells(of cell: Int) -> [Bool] {
        let across = (mask.width + cell - 1) / cell
        var kept = [Bool](repeating: false, count: across * ((mask.height + cell - 1) / cell))
        for y in 0..<mask.height {
            for x in 0..<mask.width where mask.pixels[3 * (y * mask.width + x)] < 128 {
                kept[y / cell * across + x / cell] = true
            }
        }
        return kept
    }

    /// How much of each cell of `cell` pixels a side shows the subject, 0 to 1, row by row.
    func shares(of cell: Int) -> [Float] {
        let across = (mask.width + cell - 1) / cell
        var counts = [Float](repeating: 0, count: across * ((mask.height + cell - 1) / cell))
        for y in 0..<mask.height {
            for x in 0..<mask.width where mask.pixels[3 * (y * mask.width + x)] < 128 {
                counts[y / cell * across + x / cell] += 1
            }
        }
        return counts.map { min(1, $0 / Float(cell * cell)) }
    }

    /// The kept tokens of `[tokens, channels]` at a site; `downscale` is the autoencoder's.
    func kept(_ tokens: [Float], at site: InjectionSite, downscale: Int) -> [Float] {
        let cells = cells(of: downscale << site.level)
        return cells.indices.filter { cells[$0] }.flatMap {
            tokens[$0 * site.channels..<($0 + 1) * site.channels]
        }
    }

    /// How much of each token's cell shows the subject; of the kept tokens alone where `onlyKept`.
    func shares(at site: InjectionSite, downscale: Int, onlyKept: Bool) -> [Float] {
        let cell = downscale << site.level
        let shares = shares(of: cell)
        guard onlyKept else { return shares }
        let cells = cells(of: cell)
        return shares.indices.filter { cells[$0] }.map { shares[$0] }
    }
}
