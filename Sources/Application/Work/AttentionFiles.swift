import DreamCache
import Foundation
import Raster
import Spool

/// What is written of a picture's attention to its references, beside the picture.
public struct AttentionFiles {
    /// The overlays' file, or nil where no reference can be shown; and that of the maps.
    public let overlay: String?, maps: String
    /// The numbers, by site and in the mean.
    public let numbers: JSON

    /// The path of a file that goes with a picture: `0000.attention.png` beside `0000.png`.
    static func path(of ending: String, beside picture: String) -> String {
        URL(fileURLWithPath: picture).deletingPathExtension().path + ".attention." + ending
    }

    /// Writes overlays and maps beside a picture.
    static func write(
        _ reading: AttentionReading, of picture: Raster, references: [AttentionOverlay.Reference], beside path: String
    ) throws -> AttentionFiles {
        let overlay = AttentionOverlay(reading, references: references)
        let (image, maps) = (Self.path(of: "png", beside: path), Self.path(of: "safetensors", beside: path))
        let drawn = overlay.picture(picture)
        if let drawn { try JobRunner.write(drawn.encodedPNG(), to: image) }
        try reading.write(toPath: maps)
        return AttentionFiles(overlay: drawn == nil ? nil : image, maps: maps, numbers: json(overlay, reading.steps))
    }

    private static func json(_ overlay: AttentionOverlay, _ steps: Int) -> JSON {
        func json(_ numbers: AttentionReading.Numbers) -> JSON {
            .object([
                "localisation": .number(numbers.localisation), "leak": .number(numbers.leak),
                "coverage": .number(numbers.coverage), "area": .number(numbers.area),
            ])
        }
        let all = overlay.numbers
        func mean(_ value: (AttentionReading.Numbers) -> Double) -> Double {
            all.map { value($0.numbers) }.reduce(0, +) / Double(max(1, all.count))
        }
        let means = AttentionReading.Numbers(
            localisation: mean(\.localisation), coverage: mean(\.coverage), area: mean(\.area))
        return .object([
            "steps": .integer(steps), "mean": all.isEmpty ? nil : json(means),
            "sites": JSON(.object(all.map { JSON.Member($0.site, json($0.numbers)) })),
        ])
    }
}

extension JobRunner {
    /// Makes one image, and records every `interval` steps what it reads of its references, which are those of its caches in
    /// their order.
    public func attend(
        _ request: RenderRequest, interval: Int, references: [GridRequest.Reference],
        progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) -> (image: RenderedImage, files: AttentionFiles) {
        let (report, picture, reading) = try render(
            request, checkpoint: .none, attentionInterval: interval, progress: progress, shouldStop: shouldStop)
        var shown: [AttentionOverlay.Reference] = []
        var counts: [String: Int] = [:]
        for reference in references {
            let index = counts[reference.subject, default: 0]
            counts[reference.subject] = index + 1
            shown.append(
                AttentionOverlay.Reference(
                    subject: reference.subject, index: index, picture: try seen(reference, progress, shouldStop)))
        }
        guard let reading else { throw .transient(message: "no attention was recorded") }
        do {
            let files = try AttentionFiles.write(reading, of: picture, references: shown, beside: request.output)
            return (report, files)
        } catch { throw RendererError(error) }
    }

    /// A reference as the model saw it: its cut-out, if there is one.
    private func seen(
        _ reference: GridRequest.Reference, _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws(RendererError) -> Raster {
        if let cutOut = reference.cutOut, FileManager.default.fileExists(atPath: cutOut) {
            do { return try Raster.decode(path: cutOut) } catch { throw RendererError(error) }
        }
        return try photo(reference.path, progress, shouldStop)
    }
}
