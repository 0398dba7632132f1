import Checkpoint
import Diffusion
import Foundation

/// An adapter's file, in the authors' format (torch) or in ours (safetensors with ModelSpec metadata): the tensors have the
/// same names in both.
public struct AdapterFile: Sendable {
    /// The opened file.
    public let checkpoint: Checkpoint
    /// The base it says it was trained on; the authors' format does not say it.
    public let architecture: BaseArchitecture?
    /// Channels at each of its sites, by the site's name.
    public let sites: [String: Int]

    /// What `modelspec.architecture` has behind the base's name.
    package static let suffix = "/dreamcache"
    private static let begin = "diffusion_model."
    private static let end = ".transformer_blocks.0.linear_cat.bias"

    /// Opens the file and finds its sites.
    /// - Throws: `DreamCacheError` when it is no adapter, or one for a base that has no name here.
    public init(path: String) throws(DreamCacheError) {
        do { checkpoint = try Checkpoint.open(path) } catch { throw .diffusion(.checkpoint(error)) }
        var sites: [String: Int] = [:]
        for tensor in checkpoint.tensors.values
        where tensor.name.hasPrefix(Self.begin) && tensor.name.hasSuffix(Self.end) && tensor.shape.count == 1 {
            sites[String(tensor.name.dropFirst(Self.begin.count).dropLast(Self.end.count))] = tensor.shape[0]
        }
        guard !sites.isEmpty else {
            throw .mismatch(
                path: path, field: "tensors",
                found: FileKind.of(checkpoint.tensors.keys.sorted()) ?? "no \(Self.begin)...\(Self.end)",
                expected: "a DreamCache adapter")
        }
        self.sites = sites
        guard let name = checkpoint.metadata["modelspec.architecture"] else {
            architecture = nil
            return
        }
        guard name.hasSuffix(Self.suffix),
            let known = BaseArchitecture(rawValue: String(name.dropLast(Self.suffix.count)))
        else {
            throw .mismatch(
                path: path, field: "modelspec.architecture", found: name,
                expected: BaseArchitecture.allCases.map { $0.rawValue + Self.suffix }.joined(separator: " or "))
        }
        architecture = known
    }

    /// Refuses an adapter of another base, by name. Stable Diffusion 1 and 2 have sites of equal shapes, so that between
    /// those only the metadata of our own format tells.
    func check(_ model: StableDiffusion) throws(DreamCacheError) {
        try check(
            sites: Dictionary(model.unet.sites.map { ($0.name, $0.channels) }) { first, _ in first },
            base: model.configuration.architecture)
    }

    /// The same for a model of these sites.
    func check(sites own: [String: Int], base: BaseArchitecture?) throws(DreamCacheError) {
        guard sites == own, architecture == nil || base == nil || architecture == base else {
            throw .mismatch(
                path: checkpoint.path, field: "adapter",
                found: "an adapter for \(Self.describe(architecture, sites))",
                expected: "one for the model, which is \(Self.describe(base, own))")
        }
    }

    /// Name, then channels in the order of the decoder.
    private static func describe(_ architecture: BaseArchitecture?, _ sites: [String: Int]) -> String {
        let ordered = sites.sorted {
            $0.key.compare($1.key, options: .numeric) == .orderedAscending
        }
        let channels = ordered.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        let middle = ordered.first?.value ?? 0
        let full = ordered.map(\.value) == [1280, 1280, 640, 640, 320]
        let name = architecture?.title ?? (full ? "Stable Diffusion 1 or 2" : "another base")
        return "\(name) (\(middle) channels; \(channels))"
    }

    /// Writes the adapter in our format: safetensors with ModelSpec metadata.
    ///
    /// - Parameters:
    ///   - path: the file to make or to replace.
    ///   - architecture: the base, where the file does not say it.
    ///   - title: `modelspec.title`.
    ///   - type: element type; nil keeps each tensor's.
    /// - Throws: `DreamCacheError` when the base is not known, or the file cannot be written.
    public func writeSafetensors(
        to path: String, architecture: BaseArchitecture? = nil, title: String? = nil, type: StoredElementType? = nil
    ) throws(DreamCacheError) {
        guard let base = architecture ?? self.architecture else {
            throw .request(
                field: "architecture", found: "nothing, and \(checkpoint.path) does not say it",
                expected: BaseArchitecture.allCases.map(\.rawValue).joined(separator: " or "))
        }
        var metadata = checkpoint.metadata.filter { $0.key.hasPrefix("modelspec.") }
        metadata["modelspec.sai_model_spec"] = "1.0.1"
        metadata["modelspec.architecture"] = base.rawValue + Self.suffix
        metadata["modelspec.implementation"] = "DreamCache for Linux \(Version.current)"
        metadata["modelspec.title"] = title ?? metadata["modelspec.title"] ?? "DreamCache adapter"
        try Conversion.write(checkpoint, to: path, type: type, metadata: metadata)
    }

    /// Writes the adapter in the authors' format, which holds no metadata.
    ///
    /// - Parameters:
    ///   - path: the file to make or to replace.
    ///   - type: element type; nil keeps each tensor's.
    /// - Throws: `DreamCacheError` when the file cannot be written, or a number is too large for `type`.
    public func writeTorch(to path: String, type: StoredElementType? = nil) throws(DreamCacheError) {
        let tensors = checkpoint.tensors.values.sorted { $0.name < $1.name }
        if type == .f16, let name = tensors.first(where: Conversion.overflowsHalf)?.name {
            throw Conversion.overflow(of: name, in: path)
        }
        do { try TorchWriter(tensors, type: type).write(toPath: path) } catch { throw .diffusion(.checkpoint(error)) }
    }
}
