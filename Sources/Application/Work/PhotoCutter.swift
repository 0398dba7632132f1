import DreamCache
import Foundation
import Raster
import Spool
import TensorEngine

/// Photos to cut-outs without a model: what `dreamcache cutout` does.
public final class PhotoCutter {
    private let maker: CutOutMaker
    private let background: Background
    private let photos: PhotoReader

    /// - Parameters:
    ///   - settings: the compute path and the number of threads are taken from them.
    ///   - background: `remove`, or `auto`, which leaves alone what needs no cutting out.
    public init(_ settings: Settings, background: CacheSettings.Background) {
        Engine.threadCount = settings.threads > 0 ? settings.threads : ProcessInfo.processInfo.activeProcessorCount
        maker = CutOutMaker(path: settings.compute)
        photos = PhotoReader(limits: settings.spool.references.raster)
        self.background = Background(rawValue: background.rawValue) ?? .remove
    }

    /// Cuts one photo out: `NAME.png` is the subject in its square with alpha, `NAME_white.png` the same on white, as the
    /// model sees it. Of a photo that is kept whole there is only the second.
    ///
    /// - Returns: what was made, for programs, and what is to be said of it.
    /// - Throws: `RendererError`.
    public func cut(
        _ path: String, into folder: String, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws -> (json: JSON, remarks: [String]) {
        let name = URL(fileURLWithPath: path).lastPathComponent
        let stem = URL(fileURLWithPath: name).deletingPathExtension().lastPathComponent
        do {
            let step = RenderProgress(phase: "reading \(name)", step: 0, steps: 1)
            let photo = try photos.photo(path, step, progress, shouldStop)
            let (picture, report) = try maker.prepared(
                photo, name: name, background: background,
                progress: { progress(RenderProgress(phase: "cutting out \(name)", step: $0, steps: $1)) },
                shouldStop: shouldStop)
            if let cutOut = report.cutOut { try JobRunner.write(cutOut.encodedPNG(), to: "\(folder)/\(stem).png") }
            let side = max(picture.width, picture.height)
            try JobRunner.write(picture.fitted(toSquare: side).encodedPNG(), to: "\(folder)/\(stem)_white.png")
            var members = CutOutWriter.json(report, file: report.cutOut == nil ? nil : "\(stem).png").members ?? []
            members.append(JSON.Member("on_white", .string("\(stem)_white.png")))
            return (JSON(.object(members)), report.remarks)
        } catch { throw RendererError(error) }
    }
}
