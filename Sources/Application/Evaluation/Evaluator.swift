import Diffusion
import DreamCache
import Evaluation
import Foundation
import Raster
import Spool
import TensorEngine
import Vision

/// Reads photos and sets of pictures and has them judged: what `dreamcache evaluate` does.
public final class Evaluator {
    /// Where the pictures of one subject lie.
    public struct Subject {
        /// Its name.
        public let name: String
        /// Folder of its photos.
        public let references: String
        /// The photo that the sets were made from.
        public let source: String?
        /// Folders of pictures, with the labels they are compared under.
        public let sets: [(label: String, folder: String)]

        /// A subject.
        public init(name: String, references: String, source: String? = nil, sets: [(label: String, folder: String)]) {
            self.name = name
            self.references = references
            self.source = source
            self.sets = sets
        }
    }

    private let photos: PhotoReader
    private let cutter: CutOutMaker
    private var measures: [Measure] = []
    private var shown: [String: Raster] = [:]
    private let progress: (String) -> Void
    /// What a person should know of how the measures were read.
    public private(set) var remarks: [String] = []

    /// - Parameters:
    ///   - settings: who computes, and the model of the subject match.
    ///   - usesModel: whether the base model judges too.
    ///   - encoders: files or folders of encoders.
    /// - Throws: `RendererError`.
    public init(
        _ settings: Settings, usesModel: Bool, encoders: [String], progress: @escaping (String) -> Void = { _ in }
    ) throws {
        try ThreadProbe.set(settings.threads)
        photos = PhotoReader(limits: settings.spool.references.raster)
        cutter = CutOutMaker(path: settings.compute)
        self.progress = progress
        if usesModel { measures.append(try subjectMatch(settings)) }
        for path in encoders {
            progress("loading \(path)")
            let encoder = try translated { try ImageEncoder(path, compute: settings.compute) }
            remarks += encoder.remarks
            var measure = Measure(encoder)
            let others = measures.count { $0.name == measure.name || $0.name.hasPrefix(measure.name + "-") }
            if others > 0 { measure = measure.renamed("\(measure.name)-\(others + 1)") }
            measures.append(measure)
        }
    }

    private func subjectMatch(_ settings: Settings) throws -> Measure {
        guard let name = settings.defaultModel, let files = settings.models[name] else {
            throw RendererError.rejected(
                field: "$.model", message: "no model is configured; expected one, or --no-model")
        }
        progress("loading the model")
        let pipeline: Pipeline
        do { pipeline = try Pipeline(files: files, path: settings.compute) } catch { throw RendererError(error) }
        let options = settings.cache
        func features(_ picture: Raster) throws -> Features {
            let seen = try pipeline.matchTokens(of: picture, options: options)
            return Features(rows: seen.tokens, width: seen.width, foreground: seen.foreground)
        }
        let site = pipeline.matchSite?.name ?? ""
        return Measure(
            name: "subject_match",
            description:
                "the base model's own features at \(site) (model \(name), SHA-256 \(pipeline.modelHash.prefix(16))), "
                + "masked maximum cosine",
            features: features, reference: { [cutter] in try features(try cutter.subject(of: $0, .auto)) })
    }

    /// Judges subjects.
    ///
    /// - Throws: `RendererError`.
    public func evaluate(_ subjects: [Subject], method: ReferenceProtocol) throws -> Report {
        var evaluation = Evaluation(measures: measures, method: method) { [cutter] in
            try cutter.subject(of: $0, .remove).compositedOnWhite()
        }
        for subject in subjects {
            progress("reading \(subject.name)")
            let references = try pictures(in: subject.references, of: subject.name, label: Evaluation.real)
            guard !references.isEmpty else {
                throw RendererError.rejected(
                    field: nil, message: "\(subject.references): found no pictures, expected photos of the subject")
            }
            if let source = subject.source, !references.contains(where: { $0.name == source }) {
                throw RendererError.rejected(
                    field: nil,
                    message: "\(subject.references): found no \(source), expected the photo that sets were made from")
            }
            let sets = try subject.sets.map { label, folder in
                let result = SetResult(folder: folder)
                let pictures = try pictures(in: folder, of: subject.name, label: label, prompts: result.prompts)
                guard !pictures.isEmpty else {
                    throw RendererError.rejected(field: nil, message: "\(folder): found no pictures, expected a set")
                }
                return EvaluatedSubject.PictureSet(
                    label: label, imageScale: result.imageScale ?? Self.scale(inLabel: label),
                    pictures: pictures)
            }
            progress("judging \(subject.name)")
            try translated {
                try evaluation.add(
                    EvaluatedSubject(name: subject.name, references: references, source: subject.source, sets: sets))
            }
        }
        return evaluation.result
    }

    /// The page of a report that this evaluator made.
    public func page(of report: Report) -> String {
        ReportPage(report) { [shown] in shown[Self.key($0.subject, $0.set, $0.file)] }.html
    }

    private static func key(_ subject: String, _ label: String, _ file: String) -> String {
        "\(subject)\n\(label)\n\(file)"
    }

    private func pictures(
        in folder: String, of subject: String, label: String, prompts: [String: String] = [:]
    ) throws -> [Picture] {
        let names: [String]
        do { names = try FileManager.default.contentsOfDirectory(atPath: folder) } catch {
            throw RendererError.rejected(field: nil, message: "\(folder): \(error.localizedDescription)")
        }
        // A set's sheet is no picture of it, and neither is a mask.
        let chosen = names.sorted().filter { name in
            let stem = URL(fileURLWithPath: name).deletingPathExtension().lastPathComponent
            return !name.hasPrefix(".") && stem != "grid" && !stem.lowercased().hasSuffix("_mask")
                && Self.extensions.contains(URL(fileURLWithPath: name).pathExtension.lowercased())
        }
        return try chosen.map { name in
            let step = RenderProgress(phase: "reading pictures", step: 0, steps: 1)
            let picture = try photos.photo("\(folder)/\(name)", step, { _ in }, { false })
            shown[Self.key(subject, label, name)] = picture.limited(toSide: 128)
            return Picture(name: name, raster: picture, prompt: prompts[name])
        }
    }

    /// `image_scale 0.4` as a label says what a set of `dreamcache render` does not.
    private static func scale(inLabel label: String) -> Double? {
        let words = label.split { $0 == " " || $0 == "=" || $0 == "," }
        return words.firstIndex(of: "image_scale").flatMap { words.dropFirst($0 + 1).first }.flatMap { Double($0) }
    }

    private static let extensions: Set<String> = ["png", "jpg", "jpeg", "heic", "heif", "avif", "webp"]
}

/// Runs a measure's work, whose errors become the renderer's.
private func translated<R>(_ work: () throws -> R) throws -> R {
    do { return try work() } catch let error as VisionError {
        throw RendererError.rejected(field: nil, message: "\(error)")
    } catch { throw RendererError(error) }
}

/// What a set's `result.json` says, where there is one.
private struct SetResult {
    var prompts: [String: String] = [:]
    var imageScale: Double?

    init(folder: String) {
        guard let data = FileManager.default.contents(atPath: "\(folder)/result.json"),
            let json = try? JSONReader.read([UInt8](data))
        else { return }
        for image in json["images"]?.array ?? [] {
            if let file = image["file"]?.string, let prompt = image["prompt"]?.string { prompts[file] = prompt }
        }
        imageScale = json["manifest"]?["image_scale"]?.number
    }
}

extension CutOutMaker {
    /// The subject of a photo on transparent ground; the photo itself where nothing stands out.
    fileprivate func subject(of photo: Raster, _ background: Background) throws -> Raster {
        try prepared(photo, name: "", background: background).picture
    }
}
