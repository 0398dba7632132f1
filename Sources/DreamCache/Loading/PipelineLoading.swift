import Checkpoint
import Diffusion
import TensorEngine

/// Files to a pipeline, and its weights to a file for the next start.
extension Pipeline {
    /// Loads a model.
    ///
    /// - Parameters:
    ///   - files: where it is.
    ///   - path: the compute path.
    ///   - known: what is known of the files already, and what is added to it.
    ///   - weightsFolder: where ``keepWeights(progress:shouldStop:)`` keeps the weights as the engine reads them, and where
    ///     they are looked for.
    ///   - progress: called several times a second as long as the work goes on.
    ///   - shouldStop: asked as often; true ends the work with `DreamCacheError.stopped`.
    /// - Throws: `DreamCacheError` listing what does not fit.
    public convenience init(
        files: ModelFiles, path: ComputePath, known: KnownFiles = KnownFiles(), weightsFolder: String? = nil,
        progress: Progress = { _, _, _ in }, shouldStop: () -> Bool = { false }
    ) throws(DreamCacheError) {
        // Before gigabytes are hashed.
        try onModel { () throws(DiffusionError) in try StableDiffusion.checkFamily(of: files.checkpoint) }
        let engine = try onEngine { () throws(EngineError) in try Engine(path: path) }
        let parts = try Monitor.watching(progress, shouldStop) { monitor throws(DreamCacheError) in
            engine.interruption = { monitor.isInterrupted() }
            defer { engine.interruption = nil }
            return try Self.load(files, engine, known, weightsFolder, monitor)
        }
        try self.init(
            model: parts.model, adapter: parts.adapter, selfReading: files.selfReading, modelHash: parts.hash,
            adapterHash: parts.adapterHash,
            featureHash: parts.featureHash, description: parts.description)
        preparedWeights = parts.prepared
        weightFiles = parts.weightFiles.union([parts.prepared?.path].compactMap(\.self))
    }

    private struct Parts {
        let model: StableDiffusion, adapter: Adapter?
        let hash: String, adapterHash: String?, featureHash: String, description: String
        let prepared: PreparedWeights?, weightFiles: Set<String>
    }

    private static func load(
        _ files: ModelFiles, _ engine: Engine, _ known: KnownFiles, _ weightsFolder: String?, _ monitor: Monitor
    ) throws(DreamCacheError) -> Parts {
        try monitor.begin("hashing the model")
        let hash = try files.weightsHash(known, monitor)
        let featureHash = try files.featureHash(weightsHash: hash, known, monitor)
        let adapterHash = try files.adapter.map { path throws(DreamCacheError) in try known.sha256(of: path, monitor) }
        let prepared = try weightsFolder.map { folder throws(DreamCacheError) in
            try PreparedWeights(
                folder: folder, featureHash: featureHash, adapterHash: adapterHash, compute: engine.path, known, monitor
            )
        }
        try monitor.begin("loading the model")
        // The probe of a model that does not say what it predicts runs without LoRAs, on weights of the same names.
        if files.loras.isEmpty { prepared?.serve(engine) }
        var stores: [ParameterStore] = []
        let model = try onModel { () throws(DiffusionError) in
            try StableDiffusion.load(checkpoint: files.checkpoint, options: files.options, engine: engine) {
                stores.append($0)
            }
        }
        prepared?.serve(engine)
        let adapter = try files.adapter.map { path throws(DreamCacheError) in
            try Adapter(path: path, for: model, engine: engine) { stores.append($0) }
        }
        try checkFinite(files, stores, known, monitor)
        let used = Set(try files.weightFiles() + [files.adapter].compactMap(\.self) + files.loras.map(\.path))
        do { try MappedFiles.check(used.contains) } catch { throw .diffusion(.checkpoint(error)) }
        return Parts(
            model: model, adapter: adapter, hash: hash, adapterHash: adapterHash, featureHash: featureHash,
            description: try files.descriptionHash(known, monitor), prepared: prepared, weightFiles: used)
    }

    /// Refuses weights with NaN or infinity among them, by name: a picture made of them would be black.
    private static func checkFinite(
        _ files: ModelFiles, _ stores: [ParameterStore], _ known: KnownFiles, _ monitor: Monitor
    ) throws(DreamCacheError) {
        let paths = try files.weightFiles() + [files.adapter].compactMap(\.self) + files.loras.map(\.path)
        // Which of a file's tensors are taken depends on these two.
        let what = "finite, ema \(files.usesEMA), clip skip \(files.clipSkip)"
        try known.once(what, paths) { () throws(DreamCacheError) in
            func progress(_ tensor: Int, _ tensors: Int) throws(CheckpointError) {
                do { try monitor.begin("checking weights", tensor, of: tensors) } catch {
                    throw CheckpointError(
                        path: files.checkpoint, cause: .stopped, place: "", found: "a request to stop")
                }
            }
            do throws(CheckpointError) {
                for store in stores { try store.checkFinite(progress: progress) }
                for lora in files.loras {
                    for tensor in try Checkpoint.open(lora.path).tensors.values.sorted(by: { $0.name < $1.name }) {
                        try tensor.checkFinite(path: lora.path)
                    }
                }
            } catch { throw DreamCacheError(.checkpoint(error)) }
        }
    }

    /// Keeps the weights as the engine reads them for the next start, if there are some that are not kept yet.
    ///
    /// - Returns: path and size in bytes of what was written; nil where there was nothing to write.
    public func keepWeights(
        progress: Progress = { _, _, _ in }, shouldStop: () -> Bool = { false }
    ) throws(DreamCacheError) -> (path: String, bytes: Int)? {
        guard let preparedWeights else { return nil }
        let written = try Monitor.watching(progress, shouldStop) { monitor throws(DreamCacheError) in
            try preparedWeights.keep(model.engine, monitor) { () throws(CheckpointError) in
                try MappedFiles.check(weightFiles.contains)
            }
        }
        guard let size = written else { return nil }
        return (preparedWeights.path, size)
    }

    /// Why weights that an earlier run kept are not used, if that is so.
    public var preparedWeightsDamage: String? {
        preparedWeights?.damage.map { "\(preparedWeights?.path ?? ""): \($0)" }
    }
}
