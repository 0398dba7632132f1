import Diffusion
import Raster

/// Which cells of a reference show the subject: what `cache.tokens: foreground` keeps.
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

    /// The kept tokens of `[tokens, channels]` at a site; `downscale` is the autoencoder's.
    func kept(_ tokens: [Float], at site: InjectionSite, downscale: Int) -> [Float] {
        let cells = cells(of: downscale << site.level)
        return cells.indices.filter { cells[$0] }.flatMap {
            tokens[$0 * site.channels..<($0 + 1) * site.channels]
        }
    }
}
