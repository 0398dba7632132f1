import DreamCache
import Foundation
import Glibc
import Raster
import Spool
import TensorEngine

/// Photos to cut-outs without a model: what `dreamcache cutout` does.
public final class PhotoCutter {
    private let maker: CutOutMaker
    private let background: Background
    private let photos: PhotoReader
    private var names: CutOutNames

    /// - Parameters:
    ///   - settings: the compute path and the number of threads are taken from them.
    ///   - background: `remove`, or `auto`, which leaves alone what needs no cutting out.
    ///   - folder: where the cut-outs go.
    ///   - given: paths of files that must stay as they are, wherever they lie.
    public init(_ settings: Settings, background: CacheSettings.Background, into folder: String, given: [String]) {
        Engine.threadCount = settings.threads > 0 ? settings.threads : ProcessInfo.processInfo.activeProcessorCount
        maker = CutOutMaker(path: settings.compute)
        photos = PhotoReader(limits: settings.spool.references.raster)
        self.background = Background(rawValue: background.rawValue) ?? .remove
        names = CutOutNames(folder: folder, given: given)
    }

    /// Cuts one photo out: `NAME.png` is the subject in its square with alpha, `NAME_white.png` the same on white, as the
    /// model sees it. Of a photo that is kept whole there is only the second.
    ///
    /// - Parameters:
    ///   - path: the photo, beside it its mask where there is one.
    ///   - name: what the person calls it.
    /// - Returns: what was made, for programs, and what is to be said of it.
    /// - Throws: `RendererError`.
    public func cut(
        _ path: String, name: String, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws -> (json: JSON, remarks: [String]) {
        do {
            let step = RenderProgress(phase: "reading \(name)", step: 0, steps: 1)
            let photo = try photos.photo(path, step, progress, shouldStop)
            let (picture, report) = try maker.prepared(
                photo, name: name, background: background,
                progress: { progress(RenderProgress(phase: "cutting out \(name)", step: $0, steps: $1)) },
                shouldStop: shouldStop)
            let stem = names.next(for: name)
            if let cutOut = report.cutOut {
                try JobRunner.write(cutOut.encodedPNG(isQuick: true), to: "\(names.folder)/\(stem).png")
            }
            let side = max(picture.width, picture.height)
            try JobRunner.write(
                picture.fitted(toSquare: side).encodedPNG(isQuick: true), to: "\(names.folder)/\(stem)_white.png")
            var members = CutOutWriter.json(report, file: report.cutOut == nil ? nil : "\(stem).png").members ?? []
            members.append(JSON.Member("on_white", .string("\(stem)_white.png")))
            return (JSON(.object(members)), report.remarks)
        } catch { throw RendererError(error) }
    }
}

/// The names of cut-outs in one folder: those of the photos without their extensions. Where that would meet another photo's
/// cut-out, or a file that was given, the extension becomes part of the name, and then a number.
struct CutOutNames {
    let folder: String
    private let kept: Set<FileIdentity>
    private var taken: Set<String> = []

    private struct FileIdentity: Hashable {
        let device: dev_t, inode: ino_t

        init?(_ path: String) {
            var status = stat()
            guard stat(path, &status) == 0 else { return nil }
            (device, inode) = (status.st_dev, status.st_ino)
        }
    }

    init(folder: String, given: [String]) {
        self.folder = folder
        kept = Set(given.compactMap(FileIdentity.init))
    }

    /// The name, without extension, of the next photo's cut-out.
    mutating func next(for name: String) -> String {
        let url = URL(fileURLWithPath: "/" + name)
        let stem = Self.limited(url.deletingPathExtension().lastPathComponent)
        let full = url.pathExtension.isEmpty ? stem : "\(stem)-\(url.pathExtension)"
        var (candidate, number) = (stem, 1)
        while !isFree(candidate) {
            candidate = number == 1 ? full : "\(full)-\(number)"
            number += 1
        }
        taken.formUnion(Self.files(candidate))
        return candidate
    }

    private func isFree(_ stem: String) -> Bool {
        Self.files(stem).allSatisfy { file in
            !taken.contains(file) && !(FileIdentity("\(folder)/\(file)").map(kept.contains) ?? false)
        }
    }

    private static func files(_ stem: String) -> [String] { ["\(stem).png", "\(stem)_white.png"] }

    /// So much of it that a file's name, of 255 bytes at most, has room for what is added.
    private static func limited(_ stem: String) -> String {
        var stem = stem
        while stem.utf8.count > 220 { stem.removeLast() }
        return stem
    }
}
