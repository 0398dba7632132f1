import Bytes
import Checkpoint
import Crypto
import Diffusion
import Glibc

/// The features of a subject's references: what a `.dcache` file holds.
///
/// A `.dcache` is a safetensors file. One tensor per site and reference, `sites.<site>.<reference>` as
/// `[tokens, channels]`; where the reference's subject is known from its background, another, `foreground.<site>.<reference>` as
/// `[tokens]`, and `latent.<reference>` as `[channels, height, width]` with `foreground.latent.<reference>` as `[height, width]`.
/// All else is string metadata, whose keys are in ``Key``.
public struct FeatureCache: Sendable {
    /// Metadata keys of a `.dcache`.
    public enum Key: String, CaseIterable, Sendable {
        /// Version of this layout, "1".
        case formatVersion = "dreamcache.format_version"
        /// Name of the subject.
        case subject = "dreamcache.subject"
        /// SHA-256 of the base model's file.
        case baseModel = "dreamcache.base_model_sha256"
        /// `paper` or `official`.
        case cacheMode = "dreamcache.cache_mode"
        /// Index of the timestep of the reference pass.
        case timestep = "dreamcache.timestep"
        /// Prompt of the reference pass.
        case prompt = "dreamcache.prompt"
        /// Seed of each reference's generator.
        case seed = "dreamcache.seed"
        /// Fit and size, such as `pad 512x512 bilinear`.
        case preprocessing = "dreamcache.preprocessing"
        /// Which tokens were kept, `all` or `foreground`.
        case tokens = "dreamcache.tokens"
        /// What became of the photos' backgrounds: `auto`, `keep` or `remove`, with the version of what cut them out.
        case background = "dreamcache.background"
        /// What is to be said of the references, one per line: `photo.jpg: ...`. The key is left out where there is nothing to say.
        case remarks = "dreamcache.remarks"
        /// SHA-256 of each reference's pixels as they were encoded, separated by commas; where tokens were dropped, with `+`
        /// and the SHA-256 of the mask behind.
        case references = "dreamcache.reference_sha256s"
        /// SHA-256 of the file's data section.
        case data = "dreamcache.data_sha256"
        /// Program and version that wrote the file.
        case creator = "dreamcache.creator"
    }

    /// Where it was read from; for messages.
    public let path: String
    /// All string metadata.
    public let metadata: [String: String]
    /// Number of references.
    public let referenceCount: Int
    private let tensors: [String: StoredTensor]

    /// The value of a metadata key.
    public subscript(key: Key) -> String? { metadata[key.rawValue] }

    /// Name of the tensor of a site and a reference.
    static func tensorName(_ site: InjectionSite, _ reference: Int) -> String { "sites.\(site.name).\(reference)" }

    /// Name of the tensor that says how much of each token's cell shows the subject, `[tokens]`, 0 to 1.
    static func foregroundName(_ site: InjectionSite, _ reference: Int) -> String {
        "foreground.\(site.name).\(reference)"
    }

    /// Name of the tensor of a reference's latent, `[channels, height, width]`.
    static func latentName(_ reference: Int) -> String { "latent.\(reference)" }

    /// Name of the tensor that says how much of each place of the latent shows the subject, `[height, width]`, 0 to 1.
    static func latentForegroundName(_ reference: Int) -> String { "foreground.latent.\(reference)" }

    /// Opens and verifies a `.dcache`: its format, its version, and the hash of its data.
    /// - Throws: `DreamCacheError.cache` naming what is wrong, or the errno where the machine could not read it.
    public static func open(_ path: String) throws(DreamCacheError) -> FeatureCache {
        let file: Checkpoint
        do { file = try Checkpoint.open(path) } catch {
            // A cache that is gone or damaged is made again. Where the machine could not read it, it is kept.
            if case .system(let code) = error.cause, code != ENOENT { throw .diffusion(.checkpoint(error)) }
            throw .cache(path: path, field: error.place, found: error.found, expected: error.expected)
        }
        guard file.metadata[Key.formatVersion.rawValue] == "1" else {
            throw .cache(
                path: path, field: Key.formatVersion.rawValue,
                found: file.metadata[Key.formatVersion.rawValue] ?? "nothing", expected: "1")
        }
        let hash = file.withUnsafeDataSection { hexadecimal(SHA256.hash(data: $0)) }
        guard let expected = file.metadata[Key.data.rawValue], expected == hash else {
            throw .cache(
                path: path, field: "data section", found: "SHA-256 \(hash)",
                expected: file.metadata[Key.data.rawValue] ?? "a hash under \(Key.data.rawValue)")
        }
        let references = Set(file.tensors.keys.compactMap { $0.split(separator: ".").last.flatMap { Int($0) } })
        return FeatureCache(
            path: path, metadata: file.metadata, referenceCount: references.count, tensors: file.tensors)
    }

    /// Checks that the cache was made with this model and has all of its sites.
    /// - Throws: `DreamCacheError.cache` naming the first difference.
    public func check(modelHash: String, sites: [InjectionSite]) throws(DreamCacheError) {
        guard self[.baseModel] == modelHash else {
            throw .cache(
                path: path, field: Key.baseModel.rawValue, found: self[.baseModel] ?? "nothing",
                expected: "\(modelHash), the model in use")
        }
        guard referenceCount > 0 else {
            throw .cache(path: path, field: "tensors", found: "no references", expected: "at least one")
        }
        for site in sites {
            for reference in 0..<referenceCount {
                let name = Self.tensorName(site, reference)
                let shape = tensors[name]?.shape
                guard let shape, shape.count == 2, shape[0] > 0, shape[1] == site.channels else {
                    throw .cache(
                        path: path, field: name, found: shape.map { "shape \($0)" } ?? "no such tensor",
                        expected: "shape [tokens, \(site.channels)]")
                }
            }
        }
    }

    /// The tokens of all references at a site, one after another: `[tokens, channels]`.
    public func tokens(at site: InjectionSite) -> [Float] {
        (0..<referenceCount).flatMap { tensors[Self.tensorName(site, $0)]?.floats() ?? [] }
    }

    /// The same reference by reference, with what is known of where each shows the subject.
    func references(at site: InjectionSite) -> [CachedTokens] {
        (0..<referenceCount).map { reference in
            CachedTokens(
                tokens: tensors[Self.tensorName(site, reference)]?.floats() ?? [],
                foreground: foreground(at: site, reference: reference))
        }
    }

    /// How many tokens of a reference there are at a site.
    func tokenCount(at site: InjectionSite, reference: Int) -> Int {
        tensors[Self.tensorName(site, reference)]?.shape.first ?? 0
    }

    /// How much of each token's cell shows the subject, 0 to 1; nil where that is not known.
    func foreground(at site: InjectionSite, reference: Int) -> [Float]? {
        let shares = tensors[Self.foregroundName(site, reference)]
        return shares?.shape == [tokenCount(at: site, reference: reference)] ? shares?.floats() : nil
    }

    /// What tells it from other caches.
    var identity: String { self[.data] ?? path }

    /// The latents of the references whose subject is known from its background.
    var sketches: [SubjectSketch] {
        (0..<referenceCount).compactMap { reference in
            guard let latent = tensors[Self.latentName(reference)], latent.shape.count == 3,
                let shares = tensors[Self.latentForegroundName(reference)]
            else { return nil }
            return SubjectSketch(
                latent: latent.floats(), shares: shares.floats(), height: latent.shape[1], width: latent.shape[2],
                channels: latent.shape[0])
        }
    }

    /// A `.dcache` of features just computed.
    ///
    /// - Parameters:
    ///   - features: one dictionary per reference: the tokens `[tokens, channels]` at each site.
    ///   - foregrounds: for each reference how much of each token's cell shows the subject; nil where nothing tells.
    ///   - sketches: for each reference its latent; nil where nothing tells.
    ///   - metadata: all keys but the data's hash, which is added here.
    ///   - type: element type in the file.
    /// - Returns: what `write(to:path:)` puts into a file.
    static func writer(
        features: [[InjectionSite: [Float]]], foregrounds: [[InjectionSite: [Float]]?] = [],
        sketches: [SubjectSketch?] = [], metadata: [Key: String], type: StoredElementType
    ) throws(DreamCacheError) -> SafetensorsWriter {
        var writer = SafetensorsWriter(
            metadata: Dictionary(uniqueKeysWithValues: metadata.map { ($0.key.rawValue, $0.value) }))
        for (reference, sites) in features.enumerated() {
            for (site, tokens) in sites {
                writer.add(
                    tensorName(site, reference), type: type, shape: [tokens.count / site.channels, site.channels],
                    floats: tokens)
            }
        }
        for (reference, sites) in foregrounds.enumerated() {
            for (site, shares) in sites ?? [:] {
                writer.add(foregroundName(site, reference), type: type, shape: [shares.count], floats: shares)
            }
        }
        for (reference, sketch) in sketches.enumerated() {
            guard let sketch else { continue }
            let (height, width) = (sketch.height, sketch.width)
            writer.add(
                latentName(reference), type: type, shape: [sketch.channels, height, width],
                floats: sketch.latent)
            writer.add(
                latentForegroundName(reference), type: type, shape: [height, width], floats: sketch.shares)
        }
        var hash = SHA256()
        do { try writer.forEachDataPiece { hash.update(bufferPointer: $0) } } catch {
            throw .diffusion(.checkpoint(error))
        }
        writer.metadata[Key.data.rawValue] = hexadecimal(hash.finalize())
        return writer
    }
}
