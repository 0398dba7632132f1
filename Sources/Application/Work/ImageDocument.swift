import DreamCache
import Foundation
import Raster
import Spool

/// What an image tells of how it was made: the `parameters` line that image tools know (AUTOMATIC1111's format), with one
/// more entry, `DreamCache: {json}`, from which `dreamcache replay` makes a manifest again. Never an absolute path.
public struct ImageDocument {
    /// The manifest of this one image, and what it was run on.
    public let json: JSON
    /// The text under `parameters`.
    public let parameters: String

    /// - Parameters:
    ///   - candidate: the scores of the one that this is, where candidates were judged.
    ///   - tuning: how its scale was chosen, where a pilot did that.
    init(
        request: RenderRequest, pipeline: Pipeline, modelName: String, size: (width: Int, height: Int),
        candidate: Choice.Candidate? = nil, tuning: Tuning? = nil
    ) {
        let manifest = request.manifest
        json = .object([
            "version": .string(Version.current),
            "manifest": manifest.singleImage(request.image, model: modelName, size: size),
            "image": .integer(request.image.index),
            "model_sha256": .string(pipeline.modelHash),
            "adapter": pipeline.adapterName.map(JSON.string),
            "adapter_sha256": pipeline.adapterHash.map(JSON.string),
            "identity": .string(pipeline.identity),
            "tuning": tuning?.json,
            "select": candidate.flatMap { manifest.json(of: $0) },
            "init_image_sha256": request.initialImage.map { .string($0.sha256) },
        ])
        let strength =
            request.initialImage == nil
            ? ""
            : manifest.initialImage.map {
                ", Denoising strength: " + JSON.number($0.strength).text(pretty: false)
            } ?? ""
        let imageScale =
            request.caches.isEmpty
            ? ""
            : ", Image CFG scale: "
                + request.caches.map(\.imageScale.text).joined(separator: " ")
        parameters =
            request.image.prompt + "\nNegative prompt: \(manifest.negativePrompt)\nSteps: \(manifest.inferenceSteps)"
            + ", Sampler: \((manifest.scheduler ?? .ddim).label), CFG scale: \(JSON.number(manifest.guidanceScale).text(pretty: false))"
            + imageScale + ", Seed: \(request.image.seed), Size: \(size.width)x\(size.height)"
            + ", Model hash: \(pipeline.modelHash.prefix(10)), Model: \(modelName)\(strength), Version: DreamCache \(Version.current)"
            + ", DreamCache: " + json.text(pretty: false)
    }

    /// Reads the entry `DreamCache: {json}` out of a `parameters` text.
    public static func json(in parameters: String) -> JSON? {
        guard let range = parameters.range(of: "DreamCache: {", options: .backwards) else { return nil }
        let text = parameters[parameters.index(before: range.upperBound)...]
        return try? JSONReader.read(Array(text.utf8))
    }

    /// The metadata that a file carries at a level of `output.metadata`.
    func metadata(_ level: OutputSettings.Metadata) -> ImageMetadata {
        let xmp = XMP.generatedImage(creatorTool: "DreamCache for Linux \(Version.current)")
        return switch level {
        case .full: ImageMetadata(parameters: parameters, xmp: xmp)
        case .minimal: ImageMetadata(xmp: xmp)
        case .none: ImageMetadata()
        }
    }
}

extension JobManifest {
    /// Among how many candidates an image was chosen, by what, and its scores.
    fileprivate func json(of candidate: Choice.Candidate) -> JSON? {
        select.map {
            .object([
                "best_of": .integer($0.candidates), "by": .string($0.criterion.name),
                "scores": Choice.json(candidate.scores),
            ])
        }
    }

    /// The manifest that makes this one image again.
    func singleImage(_ image: ImagePlan, model: String, size: (width: Int, height: Int)) -> JSON {
        let uses = subjects.map { subject in
            JSON.object([
                "name": .string(subject.name), "image_scale": (subject.imageScale ?? imageScale).json,
                "references": subject.references.map { .array($0.map(JSON.string)) },
            ])
        }
        let cache = JSON.object([
            "mode": cache.mode.map { .string($0.rawValue) }, "seed": cache.seed.map(JSON.integer),
            "prompt": cache.prompt.map(JSON.string), "fit": cache.fit.map { .string($0.rawValue) },
            "tokens": cache.tokens.map { .string($0.rawValue) },
        ])
        return .object([
            "schema_version": .integer(schemaVersion),
            "subjects": uses.isEmpty ? nil : .array(uses),
            "init_image": initialImage.map { .string($0.subject) },
            "strength": initialImage.map { .number($0.strength) },
            "prompt": .string(image.prompt),
            "negative_prompt": .string(negativePrompt),
            "guidance_scale": .number(guidanceScale),
            "guidance_interval": guidanceInterval.map { .array([.number($0.lowerBound), .number($0.upperBound)]) },
            "image_scale": imageScale.json,
            "prompt_mode": .string(promptMode.rawValue),
            "prompt_syntax": .string(promptSyntax.rawValue),
            "num_inference_steps": .integer(inferenceSteps),
            "seed": .integer(image.seed),
            "noise_seed": noiseSeed.map(JSON.integer),
            "random": .string(random.rawValue),
            "eta": .number(eta),
            "scheduler": .string((scheduler ?? .ddim).rawValue),
            "width": .integer(size.width),
            "height": .integer(size.height),
            "model": .string(model),
            "references": self.cache.background.map { .object(["background": .string($0.rawValue)]) },
            "cache": cache.members?.isEmpty == false ? cache : nil,
        ])
    }
}
