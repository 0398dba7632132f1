import Bytes
import Checkpoint
import Crypto
import Diffusion
import TensorEngine

/// What a state belongs to: it is gone on with only where all of these are the same.
public struct RunBinding: Sendable, Equatable {
    /// What identifies the base, ``DreamCache/Pipeline/featureHash``.
    public var base: String
    /// SHA-256 over all pictures, captions and masks.
    public var data: String

    /// Both.
    public init(base: String, data: String) { (self.base, self.data) = (base, data) }
}

/// A run's state on disk: one safetensors file with the adapter, its running means, and both moments of the optimiser, each as one
/// array in the order of ``AdapterParameters/entries``; all else is string metadata.
///
/// The random numbers of a run are functions of its seed and of the number of the sample (``SampleRandom``), and so is the place in
/// the data: the number of steps made says all about them.
extension Trainer {
    private enum Key {
        static let version = "dreamcache.training.version"
        static let step = "dreamcache.training.step"
        static let settings = "dreamcache.training.settings"
        static let base = "dreamcache.training.base_sha256"
        static let data = "dreamcache.training.data_sha256"
        static let layout = "dreamcache.training.layout_sha256"
        static let losses = "dreamcache.training.losses"
        static let lowest = "dreamcache.training.lowest_loss"
        static let content = "dreamcache.training.content_sha256"
    }

    private var arrays: [(name: String, tensor: Tensor)] {
        [
            ("average", average.values), ("first_moment", optimiser.first), ("parameters", parameters.values),
            ("second_moment", optimiser.second),
        ]
    }

    /// Names and sizes of the adapter's tensors, in their order.
    private var layout: String {
        sha256(parameters.entries.map { "\($0.key) \($0.shape)\n" }.joined().utf8)
    }

    /// The beginning of the hash of a state, over what stands beside the data.
    private static func hash(of metadata: [String: String]) -> SHA256 {
        var hash = SHA256()
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) where key != Key.content {
            hash.update(data: Array("\(key)=\(value)\n".utf8))
        }
        return hash
    }

    /// Writes the state, durably, in place of the one before, which stays as it is until then.
    public func save(to path: String, binding: RunBinding) throws(TrainingError) {
        var writer = SafetensorsWriter(metadata: [
            Key.version: "1", Key.step: "\(step)", Key.settings: settings.json, Key.base: binding.base,
            Key.data: binding.data, Key.layout: layout,
            // Swift writes as many digits as tell a number from all others.
            Key.losses: history.recent.map { "\($0)" }.joined(separator: " "), Key.lowest: "\(history.lowest)",
        ])
        for (name, tensor) in arrays {
            nonisolated(unsafe) let tensor = tensor
            writer.add(name, type: .f32, shape: tensor.shape) { emit in
                tensor.withFloats { emit(UnsafeRawBufferPointer($0)) }
            }
        }
        var hash = Self.hash(of: writer.metadata)
        try onCheckpoint { () throws(CheckpointError) in try writer.forEachDataPiece { hash.update(bufferPointer: $0) }
        }
        writer.metadata[Key.content] = hexadecimal(hash.finalize())
        try onCheckpoint { () throws(CheckpointError) in try writer.write(toPath: path) }
    }

    /// Goes on where a state was saved.
    ///
    /// - Parameter acceptsSettings: whether settings may differ from those of the state; the run is then another.
    /// - Throws: `TrainingError.state` where it is damaged, or of another base, data set, adapter or settings.
    public func restore(
        from path: String, binding: RunBinding, acceptsSettings: Bool = false
    ) throws(TrainingError) {
        let file = try onCheckpoint { () throws(CheckpointError) in try Checkpoint.open(path) }
        func wrong(_ field: String, _ found: String?, _ expected: String) -> TrainingError {
            .state(path: path, field: field, found: found ?? "nothing", expected: expected)
        }
        var hasher = Self.hash(of: file.metadata)
        file.withUnsafeDataSection { hasher.update(bufferPointer: $0) }
        let hash = hexadecimal(hasher.finalize())
        for (key, expected, what) in [
            (Key.version, "1", "1, a state of this version"),
            (Key.content, hash, "\(hash), the SHA-256 of the rest of it"),
            (Key.base, binding.base, "\(binding.base), the base in use"),
            (Key.data, binding.data, "\(binding.data), the data set in use"),
            (Key.layout, layout, "\(layout), that of an adapter of this base"),
        ] where file.metadata[key] != expected {
            throw wrong(key, file.metadata[key], what)
        }
        guard let step = file.metadata[Key.step].flatMap({ Int($0) }), step >= 0,
            let lowest = file.metadata[Key.lowest].flatMap({ Double($0) })
        else { throw wrong(Key.step, file.metadata[Key.step], "a number of steps, and the lowest loss") }
        let used = try TrainingSettings(yaml: file.metadata[Key.settings] ?? "", source: path)
        let differences = settings.differences(from: used)
        guard differences.isEmpty || acceptsSettings else {
            throw wrong("settings", "others: \(differences.joined(separator: "; "))", "those of the state")
        }
        for (name, tensor) in arrays {
            guard let stored = file.tensors[name], stored.shape == tensor.shape, stored.elementType == .f32 else {
                throw wrong(name, file.tensors[name].map { "\($0.shape)" }, "\(tensor.shape) in F32")
            }
            tensor.withFloats { stored.copyFloats(into: $0) }
        }
        let losses = (file.metadata[Key.losses] ?? "").split(separator: " ").compactMap { Double($0) }
        history = LossHistory(recent: losses, lowest: lowest)
        (self.step, optimiser.steps) = (step, step)
    }
}
