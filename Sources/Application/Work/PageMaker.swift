import DreamCache
import Foundation
import Pages
import Raster
import Spool

/// Makes the pages of sets. Belongs to the renderer's thread.
struct PageMaker {
    /// References as the last pages showed them: the sets of a subject show the same ones.
    private var shown: [(key: Key, picture: EmbeddedPicture)] = []
    private static let remembered = 128
    /// Of a reference in a page, in pixels.
    private static let side = 192

    private struct Key: Equatable {
        let path: String, state: FileIdentity?
    }

    /// The page of a set. A reference that cannot be read is named, and not shown.
    ///
    /// - Parameter decode: reads a reference, with its mask.
    mutating func page(
        _ request: PageRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool,
        decode: (String) throws(RendererError) -> Raster
    ) throws(RendererError) -> String {
        let references = request.references.prefix(SetPage.shownReferences)
        var page = SetPage(
            title: Self.title(request.manifest, request.job), manifest: request.document)
        page.isInSpool = request.job != nil
        page.sheet = request.sheet
        page.facts = Self.facts(request)
        page.notes = Self.notes(request)
        page.pictures = Self.pictures(request)
        for (index, reference) in references.enumerated() {
            if shouldStop() { throw .stopped }
            progress(RenderProgress(phase: "page", step: index, steps: references.count))
            page.references.append(
                SetPage.Reference(
                    subject: reference.subject, name: URL(fileURLWithPath: reference.path).lastPathComponent,
                    picture: try thumbnail(reference.path, decode),
                    cutOut: try reference.existingCutOut.flatMap { (path) throws(RendererError) in
                        return try thumbnail(path) { (path) throws(RendererError) in
                            do { return try Raster.decode(path: path) } catch { throw RendererError(error) }
                        }
                    }))
        }
        do throws(PageError) { return try page.html() } catch { throw .transient(message: "\(error)") }
    }

    /// A picture small enough to stand in the page itself; nil when it cannot be read.
    private mutating func thumbnail(
        _ path: String, _ decode: (String) throws(RendererError) -> Raster
    ) throws(RendererError) -> EmbeddedPicture? {
        let key = Key(path: path, state: FileIdentity(path: path))
        if let known = shown.first(where: { $0.key == key }) { return known.picture }
        do throws(RendererError) {
            let picture = try decode(path).compositedOnWhite()
            let factor = min(1, Double(Self.side) / Double(max(picture.width, picture.height)))
            func scaled(_ length: Int) -> Int { max(1, Int((Double(length) * factor).rounded())) }
            let small = picture.resized(width: scaled(picture.width), height: scaled(picture.height))
            let embedded: EmbeddedPicture
            do {
                embedded = EmbeddedPicture(try small.encodedJPEG(quality: 85), type: "image/jpeg")
            } catch { throw RendererError(error) }
            if shown.count >= Self.remembered { shown.removeFirst() }
            shown.append((key, embedded))
            return embedded
        } catch {
            if case .rejected = error { return nil }
            throw error
        }
    }

    // MARK: - Words

    private static func title(_ manifest: JobManifest, _ job: String?) -> String {
        let subjects = manifest.subjects.map(\.name).joined(separator: ", ")
        return subjects.isEmpty ? job ?? "A set" : subjects
    }

    private static func number(_ value: Double) -> String { JSON.number(value).text(pretty: false) }

    private static func seconds(_ value: Double) -> String {
        value < 10 ? String(format: "%.1f s", value) : "\(Int(value.rounded())) s"
    }

    private static func facts(_ request: PageRequest) -> [PageFact] {
        let manifest = request.manifest
        let metadata = request.pictures.first?.report.metadata ?? [:]
        let scales = manifest.subjects.map { subject in
            guard subject.imageScale == nil, let tuned = metadata["image_scale"] else {
                return (subject.imageScale ?? manifest.imageScale).text
            }
            return "\(tuned), chosen by a pilot"
        }
        let adapter =
            metadata["adapter"] ?? metadata["adapter_sha256"].map { "SHA-256 \($0.prefix(10))" }
            ?? (manifest.subjects.isEmpty ? nil : "none")
        let hash = metadata["model_sha256"].map { ", SHA-256 \($0.prefix(10))" } ?? ""
        let known: [(String, String?)] = [
            ("Model", metadata["model"].map { $0 + hash }), ("Adapter", adapter),
            ("Sampler", manifest.scheduler?.label ?? "the model's"), ("Steps", "\(manifest.inferenceSteps)"),
            ("Guidance scale", number(manifest.guidanceScale)),
            ("Image scale", scales.isEmpty ? nil : scales.joined(separator: ", ")),
            ("Negative prompt", manifest.negativePrompt.isEmpty ? nil : manifest.negativePrompt),
            ("Chosen", manifest.select.map { "the best of \($0.candidates) by \($0.criterion.name)" }),
            ("Begun with", manifest.initialImage.map { "\($0.subject), strength \(number($0.strength))" }),
            ("Computed by", metadata["compute"]), ("Job", request.job),
        ]
        return known.compactMap { name, value in value.map { PageFact(name, $0) } } + timings(request)
    }

    private static func timings(_ request: PageRequest) -> [PageFact] {
        let parts = [("denoise", "Denoising"), ("decode", "Decoding"), ("write", "Writing")]
        return parts.compactMap { key, name in
            let times = request.pictures.compactMap { $0.report.seconds[key] }
            guard !times.isEmpty else { return nil }
            let mean = times.reduce(0, +) / Double(times.count)
            return PageFact(name, times.count == 1 ? seconds(mean) : "\(seconds(mean)) a picture")
        }
    }

    private static func notes(_ request: PageRequest) -> [String] {
        var notes = request.notes + request.pictures.compactMap { $0.report.tuning?.summary }
        for picture in request.pictures {
            for key in ["prompt_note", "negative_prompt_note"] {
                if let note = picture.report.metadata[key], !notes.contains(note) { notes.append(note) }
            }
            if let error = picture.report.attention?.error.map({ "no attention is shown: \($0)" }),
                !notes.contains(error)
            {
                notes.append(error)
            }
        }
        return notes
    }

    private static func pictures(_ request: PageRequest) -> [SetPage.Picture] {
        let first = request.pictures.first.flatMap { try? Raster.decode(path: $0.path) }
        let size = first.map { (width: $0.width, height: $0.height) }
        return request.pictures.enumerated().map { index, picture in
            var facts = [PageFact("seed", "\(picture.seed)")]
            let choice = picture.report.choice
            if let choice { facts.append(PageFact("chosen", choice.summary)) }
            if let time = picture.report.seconds["denoise"] { facts.append(PageFact("time", seconds(time))) }
            return SetPage.Picture(
                file: URL(fileURLWithPath: picture.path).lastPathComponent, prompt: picture.prompt, size: size,
                facts: facts,
                overlays: attention(of: picture) + (choice.map { others(of: $0, image: index, request.manifest) } ?? [])
            )
        }
    }

    private static func attention(of picture: PageRequest.Picture) -> [SetPage.Overlay] {
        guard let overlay = picture.overlay else { return [] }
        return [
            SetPage.Overlay(
                file: URL(fileURLWithPath: overlay).lastPathComponent,
                caption: caption(picture.report.attention))
        ]
    }

    /// The candidates that were not chosen, where they are kept.
    private static func others(of choice: Choice, image: Int, _ manifest: JobManifest) -> [SetPage.Overlay] {
        guard manifest.select?.keepsAll == true else { return [] }
        return choice.candidates.indices.filter { $0 != choice.best }.map { number in
            let candidate = choice.candidates[number]
            return SetPage.Overlay(
                file: manifest.fileName(image: image, candidate: number), folder: Selection.folder,
                caption: "not chosen: \(candidate.summary), seed \(candidate.seed)")
        }
    }

    /// What an overlay shows, with its numbers.
    private static func caption(_ report: AttentionReport?) -> String {
        let what = "Where it read its references, and on the right which of its places read the subject."
        guard let localisation = report?.mean["localisation"], let area = report?.mean["area"] else { return what }
        func percent(_ value: Double) -> String { "\(Int((100 * value).rounded())) %" }
        return what
            + " \(percent(localisation)) of the reading falls on the subject, which covers \(percent(area)) of them."
    }
}
