import Bytes
import Checkpoint
import DreamCache
import Foundation
import Glibc
import Raster
import Spool
import TensorEngine

/// A description of one file for a person and for a program.
public struct FileDescription {
    /// For programs.
    public let json: JSON
    /// For people: one fact per line.
    public let text: String

    /// Describes a `.dcache`, a checkpoint, an adapter or an image, told apart by content.
    /// - Throws: the error of the reader that knows the kind.
    public init(path: String) throws {
        if ImageFormat.isPicture(beginning: try Self.beginning(of: path)) {
            self = try Self.image(path)
            return
        }
        let file = try Checkpoint.open(path)
        let isCache = file.metadata[FeatureCache.Key.formatVersion.rawValue] != nil
        let isAdapter = file.tensors.keys.contains { $0.contains(".attn_mem.") }
        let kind =
            switch (isCache, isAdapter) {
            case (true, _): "DreamCache features"
            case (false, true): "DreamCache adapter"
            case (false, false): "checkpoint"
            }
        if isCache { _ = try FeatureCache.open(path) }
        let tensors = file.tensors.values.sorted { $0.name < $1.name }
        let numbers = tensors.reduce(0) { $0 + $1.count }
        let metadata = file.metadata.sorted { $0.key < $1.key }
        let beside = isCache ? CutOutsDescription(beside: path) : nil
        json = .object([
            "kind": .string(kind), "format": .string(file.format.rawValue), "numbers": .integer(numbers),
            "metadata": JSON(.object(metadata.map { .init($0.key, .string($0.value)) })),
            "tensors": .array(
                tensors.map {
                    .object([
                        "name": .string($0.name), "type": .string($0.elementType.rawValue),
                        "shape": .array($0.shape.map(JSON.integer)),
                    ])
                }),
            "cut_outs": beside?.json,
        ])
        var lines = ["\(kind) (\(file.format.rawValue)): \(tensors.count) tensors, \(numbers) numbers"]
        lines += metadata.map { "  \($0.key): \($0.value)".printable }
        lines += (beside?.lines ?? []).map(\.printable)
        lines += tensors.map { "  \($0.name) \($0.elementType.rawValue) \($0.shape)".printable }
        text = lines.joined(separator: "\n")
    }

    /// The first bytes of a file.
    private static func beginning(of path: String) throws -> [UInt8] {
        func failure(_ fault: RegularFile.Fault) -> CheckpointError {
            CheckpointError(
                path: path, cause: .unsupported, place: "file", found: fault.found, expected: "a file that can be read")
        }
        let file = try RegularFile.open(path).mapError(failure).get()
        defer { file.close() }
        return try file.bytes(12).mapError(failure).get()
    }

    private init(json: JSON, text: String) {
        self.json = json
        self.text = text
    }

    private static func image(_ path: String) throws -> FileDescription {
        let metadata = try ImageMetadata.read(path: path)
        let picture = try ConfinedDecoder.describe(path: path)
        // Whether its pixels can be read is part of what it is.
        _ = try ConfinedDecoder.decode(path: path, neededSide: 1)
        let document = metadata.parameters.flatMap { ImageDocument.json(in: $0) }
        let json = JSON.object([
            "kind": .string("image"), "format": .string(picture.format), "width": .integer(picture.width),
            "height": .integer(picture.height), "depth": .integer(picture.depth), "samples": .string(picture.samples),
            "colours": .string(picture.colours), "orientation": .integer(picture.orientation),
            "parameters": metadata.parameters.map(JSON.string), "dreamcache": document,
            "declares_ai_generated": .bool(metadata.xmp?.contains("trainedAlgorithmicMedia") ?? false),
        ])
        let parameters = metadata.parameters?.printableLines ?? "no parameters"
        let turning = picture.orientation == 1 ? "" : ", turned upright (EXIF orientation \(picture.orientation))"
        let text =
            "image: \(picture.width)x\(picture.height)\(turning)\n"
            + "  \(picture.format), \(picture.depth) bits, \(picture.samples), \(picture.colours)".printable + "\n"
            + parameters
        return FileDescription(json: json, text: text)
    }

    /// The manifest that makes an image again.
    /// - Throws: where the image cannot be read or carries none.
    public static func manifest(ofImage path: String) throws -> JSON {
        let metadata = try ImageMetadata.read(path: path)
        guard let manifest = metadata.parameters.flatMap({ ImageDocument.json(in: $0) })?["manifest"] else {
            throw RasterError(
                path: path, cause: .metadata, place: "text parameters",
                found: metadata.parameters == nil ? "none" : "no DreamCache entry",
                expected: "an image made by DreamCache with output.metadata full")
        }
        // Earlier versions did not read prompts in chunks, and used the first chunk alone.
        guard let members = manifest.members, manifest["prompt_mode"] == nil else { return manifest }
        return JSON(.object(members + [JSON.Member("prompt_mode", .string("truncate"))]))
    }
}

/// The cut-outs that stand beside a `.dcache`.
struct CutOutsDescription {
    /// The list as it was written, with the folder's path.
    let json: JSON
    /// For people: one reference per line.
    let lines: [String]

    /// Nil where there are none.
    init?(beside cache: String) {
        // The spool's caches are links into its own folders.
        let folder = CutOuts.folder(beside: URL(fileURLWithPath: cache).resolvingSymlinksInPath().path)
        guard let data = FileManager.default.contents(atPath: "\(folder)/\(CutOuts.listFile)"),
            let list = try? JSONReader.read([UInt8](data)), let members = list.members
        else { return nil }
        json = JSON(.object([JSON.Member("folder", .string(folder))] + members))
        lines = (list["references"]?.array ?? []).map { reference in
            let remarks = (reference["remarks"]?.array ?? []).compactMap(\.string)
            return "  \(reference["name"]?.string ?? ""): "
                + (reference["file"]?.string.map { "cut out as \(folder)/\($0)" } ?? "used as it is")
                + remarks.map { "; \($0)" }.joined()
        }
    }
}

/// A `.dcache` by its metadata.
public struct CacheDescription {
    /// For programs.
    public let json: JSON
    /// What is to be said of the references, a sentence each, with the reference's name.
    public let remarks: [(reference: String, text: String)]

    /// Opens and verifies a `.dcache`.
    public init(path: String) throws {
        let cache = try FeatureCache.open(path)
        json = .object([
            "path": .string(path), "references": .integer(cache.referenceCount),
            "cut_outs": CutOutsDescription(beside: path)?.json,
            "metadata": JSON(
                .object(cache.metadata.sorted { $0.key < $1.key }.map { .init($0.key, .string($0.value)) })),
        ])
        remarks = (cache[.remarks] ?? "").split(separator: "\n").map { line in
            let end = line.firstRange(of: ": ")
            return (
                String(line[..<(end?.lowerBound ?? line.startIndex)]),
                String(line[(end?.upperBound ?? line.startIndex)...])
            )
        }
    }
}

/// Whether a model loads, and what it is.
public struct ModelSummary {
    /// Whether it loads.
    public let isWell: Bool
    /// What it is, or why it does not load.
    public let text: String

    /// Loads a model to look at it.
    public static func load(_ files: ModelFiles, compute: ComputePath) -> ModelSummary {
        do {
            let pipeline = try Pipeline(files: files, path: compute)
            let error = try pipeline.previewMap()?.error
            let previews = error.map { "off by \(Int($0.rounded())) of 255 levels" } ?? "none"
            return ModelSummary(
                isWell: true,
                text:
                    "\(pipeline.imageSize)x\(pipeline.imageSize) pixels, adapter \(pipeline.adapterName ?? "trained"), "
                    + "previews \(previews), SHA-256 \(pipeline.modelHash)")
        } catch { return ModelSummary(isWell: false, text: "\(error)") }
    }
}
