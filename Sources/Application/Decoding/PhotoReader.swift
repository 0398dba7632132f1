import Bytes
import Foundation
import Raster
import Spool

/// Reads people's photos for a model, in the confined decoder.
struct PhotoReader: Sendable {
    /// What is refused without being decoded.
    let limits: Raster.Limits

    /// The side of the largest square that a model takes, in pixels. Very large photos are read at a reduced size that
    /// still fills it.
    private static let neededSide = 1024

    /// A picture as it is.
    func picture(_ path: String, shouldStop: () -> Bool) throws(RendererError) -> Raster {
        try ConfinedDecoder.decode(path: path, limits: limits, neededSide: Self.neededSide, shouldStop: shouldStop)
    }

    /// A photo: RGBA where its alpha or the mask beside it says what is subject, else RGB; `step` is reported as long as that
    /// takes.
    func photo(
        _ path: String, _ step: RenderProgress, _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws(RendererError) -> Raster {
        func decoded(_ path: String) throws(RendererError) -> Raster {
            progress(step)
            return try picture(path) {
                progress(step)
                return shouldStop()
            }
        }
        let photo = try decoded(path)
        let url = URL(fileURLWithPath: path)
        let mask = url.deletingLastPathComponent().appendingPathComponent(
            ReferenceNames.maskName(of: url.lastPathComponent)
        ).path
        do {
            let hasMask = try FilePresence.of(mask) != .nothing
            // An alpha channel that hides nothing says nothing of the subject; a mask that keeps all does.
            let own = photo.hasTransparency ? photo : photo.opaque
            let cut = hasMask ? try photo.masked(by: try decoded(mask), path: mask) : own
            try cut.checkForeground(path: path)
            return cut
        } catch { throw RendererError(error) }
    }
}
