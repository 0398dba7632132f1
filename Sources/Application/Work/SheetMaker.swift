import DreamCache
import Foundation
import Raster
import Spool

/// Makes contact sheets, a picture at a time. Belongs to the renderer's thread.
struct SheetMaker {
    /// References as the last sheets showed them: the sets of a subject show the same ones.
    private var shown: [(key: Key, picture: Raster)] = []
    private static let remembered = 64

    private struct Key: Equatable {
        let path: String, state: FileIdentity?, width: Int, height: Int
    }

    /// The sheet of a set: its references, and its images with their prompts. A reference that cannot be read leaves its cell
    /// empty.
    ///
    /// - Parameters:
    ///   - note: what stands under each reference's name.
    ///   - decode: reads a reference, with its mask.
    mutating func sheet(
        _ request: GridRequest, note: String? = nil, progress: (RenderProgress) -> Void, shouldStop: () -> Bool,
        decode: (String) throws(RendererError) -> Raster
    ) throws(RendererError) -> Raster {
        let steps = request.references.count + request.images.count
        func begin(_ step: Int) throws(RendererError) {
            if shouldStop() { throw .stopped }
            progress(RenderProgress(phase: "contact sheet", step: step, steps: steps))
        }
        func image(_ index: Int) throws(RendererError) -> Raster {
            do { return try Raster.decode(path: request.images[index]) } catch { throw RendererError(error) }
        }
        try begin(0)
        guard !request.images.isEmpty else {
            throw .transient(message: "a contact sheet of no pictures cannot be made")
        }
        let first = try image(0)
        let sheet = ContactSheet(
            references: request.references.map { $0.subject + (note.map { " (\($0))" } ?? "") },
            pictures: Self.captions(request),
            size: (first.width, first.height))
        guard var sheet else { throw .transient(message: "a contact sheet of no pictures cannot be made") }
        sheet.draw(picture: first, at: 0)
        for index in 1..<max(1, sheet.shown.pictures) {
            try begin(index)
            sheet.draw(picture: try image(index), at: index)
        }
        for index in 0..<sheet.shown.references {
            try begin(request.images.count + index)
            let reference = request.references[index]
            let cutOut = reference.existingCutOut
            let path = cutOut ?? reference.path
            let key = Key(
                path: path, state: FileIdentity(path: path), width: sheet.cell.width, height: sheet.cell.height)
            do throws(RendererError) {
                if let picture = remembered(key) {
                    sheet.draw(reference: picture, at: index)
                } else {
                    sheet.draw(reference: remember(key, sheet.fitted(try decode(path))), at: index)
                }
            } catch {
                if case .rejected = error { continue }
                throw error
            }
        }
        return sheet.raster
    }

    /// The prompt of each picture, and what is to be said of it.
    private static func captions(_ request: GridRequest) -> [String] {
        request.manifest.images(seed: 0).prefix(request.images.count).enumerated().map { index, plan in
            request.remarks.indices.contains(index) ? "\(plan.prompt) (\(request.remarks[index]))" : plan.prompt
        }
    }

    private func remembered(_ key: Key) -> Raster? { shown.first { $0.key == key }?.picture }

    private mutating func remember(_ key: Key, _ picture: Raster) -> Raster {
        if shown.count >= Self.remembered { shown.removeFirst() }
        shown.append((key, picture))
        return picture
    }
}
