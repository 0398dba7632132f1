import Bytes
import Checkpoint
import Crypto
import Diffusion
import DreamCache
import Foundation
import Raster
import TensorEngine

/// What the frozen parts of a model make of a data set, on disk: posteriors of the targets, states of the captions, and what
/// references leave at the injection sites. The three need no adapter, so that training computes none of them again.
///
/// Each is a file of its own, named by a digest of all it depends on, with the hash of its data in its metadata. One that is
/// missing or damaged is made again; files of other settings do no harm.
final class PreparedData {
    /// The posterior of a target, scaled as the model was trained.
    struct Target {
        /// `[channels, side, side]` each.
        let mean: [Float], deviation: [Float]
        /// Of the latent.
        let side: Int
    }

    private let folder: String
    private let pipeline: Pipeline
    private let settings: TrainingSettings
    private let read: PictureReader
    private lazy var cutter = CutOutMaker(path: pipeline.model.engine.path)
    /// The cut-out that was made last, of which several references are made.
    private var lastCutOut: (name: String, picture: Raster)?
    /// What is doubtful about cut-outs, by the view's name.
    private(set) var remarks: [String] = []

    /// How many items were made since this was.
    private var madeCount = 0

    /// Counts changes of this file that change what is prepared.
    private static let version = 1

    private var model: StableDiffusion { pipeline.model }
    private var side: Int { pipeline.imageSize }

    init(folder: String, pipeline: Pipeline, settings: TrainingSettings, read: @escaping PictureReader) {
        self.folder = folder
        self.pipeline = pipeline
        self.settings = settings
        self.read = read
    }

    /// Makes all that is not there yet.
    ///
    /// - Parameter progress: told what is prepared, how much of it is done, and of how much.
    /// - Throws: `TrainingError.data` with all views that no subject was found in.
    func prepare(
        _ views: [CheckedView], progress: (_ phase: String, _ done: Int, _ of: Int) -> Void, shouldStop: () -> Bool,
        shouldYield: () -> Bool = { false }
    ) throws(TrainingError) {
        // One part of the model after another, so that the parts need not be in memory together.
        func each<Item>(
            _ phase: String, _ items: [Item], _ make: (Item) throws(TrainingError) -> Void
        ) throws(TrainingError) {
            model.engine.beginPhase()
            for (index, item) in items.enumerated() {
                // Whoever yields has got further, so that it comes to an end however often it does.
                if shouldStop() || madeCount > 0 && shouldYield() { throw .stopped }
                progress(phase, index, items.count)
                try make(item)
            }
            progress(phase, items.count, items.count)
        }
        let captions = Set(views.map(\.view.caption)).union([""]).sorted()
        try each("captions", captions) { caption throws(TrainingError) in _ = try states(of: caption) }
        try each("targets", views) { view throws(TrainingError) in _ = try target(view) }
        var faults: [String] = []
        try each("references", views) { view throws(TrainingError) in
            do throws(TrainingError) {
                for variant in 0..<settings.referenceVariants { _ = try memory(view, variant: variant) }
            } catch {
                guard case .data(let found) = error else { throw error }
                faults += found
            }
        }
        if settings.blankReferences > 0 { _ = try blankMemory() }
        if !faults.isEmpty { throw .data(faults) }
    }

    // MARK: One at a time

    /// The posterior of a view.
    func target(_ view: CheckedView) throws(TrainingError) -> Target {
        let latentSide = model.configuration.latentSize
        let key = ["target", "side \(side)", view.facts.picture, view.facts.mask ?? "no mask"]
        let tensors = try item(.targets, key) { () throws(TrainingError) in
            let (picture, mask) = try files(of: view)
            let square = picture.targetSquare(side: side, mask: mask)
            let posterior = try onEngine { () throws(EngineError) in
                try model.autoencoder.encode(square.normalised, height: side, width: side)
            }
            let scale = model.configuration.latentScale
            return [
                "mean": posterior.mean.map { $0 * scale },
                "deviation": posterior.logVariance.map { exp($0 / 2) * scale },
            ]
        }
        return Target(mean: tensors["mean"] ?? [], deviation: tensors["deviation"] ?? [], side: latentSide)
    }

    /// Keys and values of a caption.
    func text(_ caption: String) throws(TrainingError) -> TextKeys {
        let states = try states(of: caption)
        let width = model.configuration.text.width
        return try onEngine { () throws(EngineError) in
            try model.unet.textKeys(try model.engine.tensor(states, shape: [1, states.count / width, width]))
        }
    }

    private func states(of caption: String) throws(TrainingError) -> [Float] {
        try item(.captions, ["caption", caption]) { () throws(TrainingError) in
            let states = try onModel { () throws(DiffusionError) in try model.encode(prompt: caption) }
            return ["states": model.engine.floats(states)]
        }["states"] ?? []
    }

    /// What a reference of a view leaves at the injection sites, `[1, tokens, channels]` each.
    func memory(_ view: CheckedView, variant: Int) throws(TrainingError) -> [InjectionSite: Tensor] {
        let augmentations = SettingFields.all.filter { Self.augmenting.contains($0.name) }.map { field in
            "\(field.name) \(settings[field].text)"
        }
        let key =
            [
                "reference", "side \(side)", "variant \(variant)", view.facts.picture,
                view.facts.mask ?? CutOutMaker.version,
            ]
            + augmentations
        return try features(key) { () throws(TrainingError) in
            let cutOut = try cutOut(of: view)
            // Of the view's content, not of its place: it stays as it is when others join the data set.
            let number = Int(truncatingIfNeeded: Self.number(of: view.facts.picture)) &+ variant
            var random = SampleRandom(seed: settings.seed, .augmentation, number)
            guard let made = Augmentation(settings: settings, side: side).reference(of: cutOut, &random) else {
                throw .data(["\(view.view.picture): found no subject in it, expected one, or a mask"])
            }
            return made
        }
    }

    /// The subject of a view on white, undisturbed, and its cache.
    func reference(_ view: CheckedView) throws(TrainingError) -> (picture: Raster, cache: FeatureCache) {
        let picture = try cutOut(of: view).fitted(toSquare: side)
        let key = ["plain reference", "side \(side)", view.facts.picture, view.facts.mask ?? CutOutMaker.version]
        return (picture, try cache(key) { () throws(TrainingError) in picture })
    }

    /// What an all white reference leaves.
    func blankMemory() throws(TrainingError) -> [InjectionSite: Tensor] {
        try features(["blank", "side \(side)"]) { () throws(TrainingError) in
            Raster(width: side, height: side, color: (255, 255, 255))
        }
    }

    private static let augmenting: Set<String> = [
        "seed", "least_subject_area", "flips", "jitters", "jitter_strength", "erasures", "least_erasure",
        "greatest_erasure",
    ]

    /// The first 60 bits of a hash.
    private static func number(of hash: String) -> UInt64 { UInt64(hash.prefix(15), radix: 16) ?? 0 }

    // MARK: Pictures

    /// The picture, and itself with the mask as alpha.
    private func files(of view: CheckedView) throws(TrainingError) -> (Raster, masked: Raster?) {
        do {
            let picture = try read(view.view.picture)
            guard let path = view.view.mask else { return (picture, picture.hasTransparency ? picture : nil) }
            return (picture, try picture.masked(by: try read(path), path: path))
        } catch let error as TrainingError { throw error } catch { throw .data(["\(error)"]) }
    }

    private func cutOut(of view: CheckedView) throws(TrainingError) -> Raster {
        if let lastCutOut, lastCutOut.name == view.view.name { return lastCutOut.picture }
        let (picture, masked) = try files(of: view)
        let made: Raster
        if let masked {
            made = masked.limited(toSide: CutOutMaker.workingSide)
        } else {
            let (cut, report) = try onMethod { () throws(DreamCacheError) in
                try cutter.prepared(picture.opaque, name: view.view.name, background: .remove)
            }
            remarks += report.remarks.map { "\(view.view.picture): \($0)" }
            guard cut.channels == 4 else {
                throw .data(["\(view.view.picture): found no subject that stands out, expected one, or a mask"])
            }
            made = cut
        }
        lastCutOut = (view.view.name, made)
        return made
    }

    // MARK: Files

    private enum Kind: String, CaseIterable {
        case captions, targets, references
    }

    /// Makes the folders where they are not there.
    func makeFolders() throws(TrainingError) {
        for kind in Kind.allCases { try makeFolder("\(folder)/\(kind.rawValue)") }
    }

    private func path(_ kind: Kind, _ key: [String]) -> String {
        let lines = ["\(Self.version)", pipeline.featureHash] + key
        return "\(folder)/\(kind.rawValue)/\(sha256(lines.map { $0 + "\n" }.joined().utf8).prefix(40))"
    }

    private static let hash = "dreamcache.data_sha256"

    /// Tensors of a file, which is made where it is missing or damaged.
    private func item(
        _ kind: Kind, _ key: [String], make: () throws(TrainingError) -> [String: [Float]]
    ) throws(TrainingError) -> [String: [Float]] {
        let path = path(kind, key) + ".safetensors"
        if let file = try? Checkpoint.open(path),
            file.metadata[Self.hash] == file.withUnsafeDataSection({ Bytes.hexadecimal(SHA256.hash(data: $0)) })
        {
            return file.tensors.mapValues { $0.floats() }
        }
        let made = try make()
        madeCount += 1
        var writer = SafetensorsWriter()
        for (name, values) in made { writer.add(name, type: .f32, shape: [values.count], floats: values) }
        var digest = SHA256()
        try onCheckpoint { () throws(CheckpointError) in
            try writer.forEachDataPiece { digest.update(bufferPointer: $0) }
            writer.metadata[Self.hash] = Bytes.hexadecimal(digest.finalize())
            try writer.write(toPath: path)
        }
        return made
    }

    /// The features of a reference. They are read from its cache in any case, in the precision of that.
    private func features(
        _ key: [String], picture: () throws(TrainingError) -> Raster
    ) throws(TrainingError) -> [InjectionSite: Tensor] {
        try tensors(of: try cache(key, picture: picture))
    }

    /// The cache of a reference, a `.dcache`, which is made where it is missing or damaged.
    private func cache(
        _ key: [String], picture: () throws(TrainingError) -> Raster
    ) throws(TrainingError) -> FeatureCache {
        let path = path(.references, key) + ".dcache"
        if let cache = try? FeatureCache.open(path), (try? tensors(of: cache)) != nil { return cache }
        var options = CacheOptions()
        options.seed = UInt64(settings.seed)
        options.fit = .squash
        let picture = try picture()
        madeCount += 1
        do {
            try pipeline.makeCache(of: [picture], subject: "training", options: options).write(toPath: path)
        } catch let error as DreamCacheError { throw TrainingError(error) } catch let error as CheckpointError {
            throw .model(.diffusion(.checkpoint(error)))
        } catch { throw .data(["\(path): \(error)"]) }
        return try onMethod { () throws(DreamCacheError) in try FeatureCache.open(path) }
    }

    private func tensors(of cache: FeatureCache) throws(TrainingError) -> [InjectionSite: Tensor] {
        let sites = model.unet.sites
        try onMethod { () throws(DreamCacheError) in
            try cache.check(modelHash: pipeline.featureHash, sites: sites)
        }
        return try onEngine { () throws(EngineError) in
            var tensors: [InjectionSite: Tensor] = [:]
            for site in sites {
                let tokens = cache.tokens(at: site)
                tensors[site] = try model.engine.tensor(
                    tokens, shape: [1, tokens.count / site.channels, site.channels])
            }
            return tensors
        }
    }
}

/// Runs a model's work inside functions that throw this module's error.
private func onModel<R>(_ body: () throws(DiffusionError) -> R) throws(TrainingError) -> R {
    do { return try body() } catch {
        if case .engine(let failure) = error { throw TrainingError(failure) }
        throw .model(.diffusion(error))
    }
}
