import Synchronization

/// The tensors of a model by key, handed out strictly: whatever is missing, misshapen or never asked for is
/// collected, and reported at once by `finish`. One store serves one model; it may be used from several threads.
public final class ParameterStore: Sendable {
    /// Keys that `finish` does not report as unused.
    public enum IgnoredKeys: Sendable, Equatable {
        /// This key.
        case exact(String)
        /// All keys that begin so.
        case prefix(String)
        /// All keys that end so.
        case suffix(String)

        func covers(_ name: String) -> Bool {
            switch self {
            case .exact(let key): name == key
            case .prefix(let start): name.hasPrefix(start)
            case .suffix(let end): name.hasSuffix(end)
            }
        }
    }

    /// A part of a model that lies in files of its own, under names of its own.
    public struct Part: Sendable {
        /// What the names of this part begin with in the model; of several parts the longest that fits has the name.
        let prefix: String
        /// Where its tensors lie, for messages; nil when the path of the store says it.
        let label: String?
        let renaming: KeyRenaming
        let tensors: [String: StoredTensor]
        /// The file of each tensor, where there are several.
        let homes: [String: String]

        /// - Parameters:
        ///   - prefix: what the names of this part begin with in the model; empty for all.
        ///   - checkpoints: its files: one, or the shards.
        ///   - label: how messages name the place of a tensor that is in none of them.
        ///   - labels: how messages name each of the files.
        ///   - filePrefix: the beginning of the names that are taken from the files; other names are ignored.
        ///   - renaming: from the model's names, prefix included, to the files'.
        /// - Throws: `CheckpointError` when two of the files hold the same key.
        public init(
            prefix: String = "", _ checkpoints: [Checkpoint], label: String? = nil, labels: [String]? = nil,
            filePrefix: String = "", renaming: KeyRenaming = .none
        ) throws(CheckpointError) {
            self.prefix = prefix
            self.label = label
            self.renaming = renaming
            var tensors: [String: StoredTensor] = [:]
            var homes: [String: String] = [:]
            for (index, checkpoint) in checkpoints.enumerated() {
                let home = labels?[index] ?? checkpoint.path
                for (name, tensor) in checkpoint.tensors where name.hasPrefix(filePrefix) {
                    if let other = homes.updateValue(home, forKey: name) {
                        throw CheckpointError(
                            path: checkpoint.path, cause: .malformed, place: "tensor \(name)",
                            found: "one that \(other) holds too", expected: "each key in one file")
                    }
                    tensors[name] = tensor
                }
            }
            self.tensors = tensors
            self.homes = label == nil ? [:] : homes
        }

        /// The tensors of one file whose keys begin with `prefix`.
        init(prefix: String, of checkpoint: Checkpoint) {
            self.prefix = prefix
            label = nil
            renaming = .none
            tensors = checkpoint.tensors.filter { $0.key.hasPrefix(prefix) }
            homes = [:]
        }
    }

    private enum Source {
        case files([Part], path: String)
        case random(seed: UInt64)
    }

    private struct Record {
        var taken: [String: [Int]] = [:]
        var missing: [String: [Int]] = [:]
        var misshapen: [String: KeyMismatch.Misshapen] = [:]
    }

    private let source: Source
    private let amendments: @Sendable (_ name: String, _ shape: [Int]) -> [StoredTensor.Amendment]
    /// What makes up the keys that do not begin with a prefix, in a store over a part of a model.
    private let besides: (prefix: String, store: ParameterStore)?
    private let record = Mutex(Record())

    /// A store over the tensors of one checkpoint.
    public convenience init(_ checkpoint: Checkpoint) {
        self.init(checkpoint, renaming: .none)
    }

    /// A store over the tensors of one checkpoint whose names differ from the model's.
    public init(_ checkpoint: Checkpoint, renaming: KeyRenaming) {
        // One file cannot hold a key twice.
        source = .files((try? [Part([checkpoint], renaming: renaming)]) ?? [], path: checkpoint.path)
        amendments = { _, _ in [] }
        besides = nil
    }

    /// A store over a model in parts; `path` is the folder they lie in.
    public init(parts: [Part], path: String) {
        source = .files(parts.sorted { $0.prefix.count > $1.prefix.count }, path: path)
        amendments = { _, _ in [] }
        besides = nil
    }

    /// The store `base`, of which nothing has been taken, with amended tensors: `amendments` is asked at each taking,
    /// by the model's name and the shape that is taken.
    public init(
        amending base: ParameterStore,
        by amendments: @escaping @Sendable (_ name: String, _ shape: [Int]) -> [StoredTensor.Amendment]
    ) {
        source = base.source
        self.amendments = { base.amendments($0, $1) + amendments($0, $1) }
        besides = base.besides
    }

    /// The part that holds the model's `name`, and its name there. Where no part's prefix fits, the last part stands
    /// for all: messages name the missing tensor as its file would.
    private static func place(_ name: String, _ parts: [Part]) -> (part: Part, key: String)? {
        guard let part = parts.first(where: { name.hasPrefix($0.prefix) }) ?? parts.last else { return nil }
        return (part, part.renaming(name))
    }

    private static func tensor(_ name: String, _ parts: [Part]) -> StoredTensor? {
        place(name, parts).flatMap { $0.part.tensors[$0.key] }
    }

    /// A store over that part of a model whose keys begin with `prefix`: these come from the checkpoint, of which nothing
    /// else is looked at, and all other keys are made up as by `init(randomSeed:)`.
    public init(_ checkpoint: Checkpoint, prefix: String, randomSeed: UInt64) {
        source = .files([Part(prefix: prefix, of: checkpoint)], path: checkpoint.path)
        amendments = { _, _ in [] }
        besides = (prefix, ParameterStore(randomSeed: randomSeed))
    }

    /// A store that makes up every tensor it is asked for, a function of seed, name and shape alone: for
    /// demonstrations and benchmarks without a checkpoint. See `RandomParameters` for the distribution.
    public init(randomSeed: UInt64) {
        source = .random(seed: randomSeed)
        amendments = { _, _ in [] }
        besides = nil
    }

    /// Whether the key is there. A random store holds what was taken from it.
    public func contains(_ name: String) -> Bool { shape(of: name) != nil }

    /// The shape of a tensor, or nil where there is none. A random store holds what was taken from it.
    public func shape(of name: String) -> [Int]? {
        if let besides, !name.hasPrefix(besides.prefix) { return besides.store.shape(of: name) }
        return switch source {
        case .files(let parts, _): Self.tensor(name, parts)?.shape
        case .random: record.withLock { $0.taken[name] }
        }
    }

    /// All keys as the files have them, sorted. A random store holds what was taken from it.
    public var names: [String] {
        switch source {
        case .files(let parts, _): parts.flatMap(\.tensors.keys).sorted()
        case .random: record.withLock { $0.taken.keys.sorted() }
        }
    }

    /// The tensor `name`, which must have `shape`. When it is missing or has another shape, zeros of `shape` are
    /// returned and `finish` will say so; a shape whose size overflows gives an empty tensor of shape [0].
    public func take(_ name: String, shape: [Int]) -> StoredTensor {
        take(name, anyOf: [shape], as: shape)
    }

    /// As `take(_:shape:)`, but `alternative`, of as many elements, will do as well and is reshaped to `shape`: a
    /// 1x1 convolution [o, i, 1, 1] and a linear layer [o, i] are the same numbers.
    public func take(_ name: String, shape: [Int], orShape alternative: [Int]) -> StoredTensor {
        take(name, anyOf: [shape, alternative], as: shape)
    }

    private func take(_ name: String, anyOf shapes: [[Int]], as shape: [Int]) -> StoredTensor {
        if let besides, !name.hasPrefix(besides.prefix) {
            return besides.store.take(name, anyOf: shapes, as: shape)
        }
        switch source {
        case .files(let parts, _):
            guard let (part, key) = Self.place(name, parts), let tensor = part.tensors[key] else {
                record.withLock { $0.missing[name] = shape }
                return Self.zeros(name, shape)
            }
            if shapes.contains(tensor.shape), let result = tensor.shape == shape ? tensor : tensor.reshaped(shape) {
                record.withLock { $0.taken[name] = shape }
                let changes = amendments(name, shape)
                return changes.isEmpty ? result : result.amended(by: changes)
            }
            record.withLock {
                $0.misshapen[name] = KeyMismatch.Misshapen(
                    name: key, found: tensor.shape, expected: shapes, file: part.homes[key])
            }
            return Self.zeros(name, shape)
        case .random(let seed):
            guard let tensor = RandomParameters(seed: seed).tensor(name, shape: shape) else {
                record.withLock { $0.missing[name] = shape }
                return Self.zeros(name, shape)
            }
            record.withLock { $0.taken[name] = shape }
            return tensor
        }
    }

    private static func zeros(_ name: String, _ shape: [Int]) -> StoredTensor {
        if let count = elementCount(shape), case let (size, false) = count.multipliedReportingOverflow(by: 4),
            let memory = Memory.allocated(size)
        {
            return StoredTensor(name: name, elementType: .f32, shape: shape, count: count, memory: memory, offset: 0)
        }
        return StoredTensor(name: name, elementType: .f32, shape: [0], count: 0, memory: .empty, offset: 0)
    }

    /// Checks that the model asked for every tensor and found every tensor it asked for, each in its shape.
    /// - Parameters:
    ///   - ignored: keys that may be there unused, such as buffers of training.
    ///   - allowsUnused: whether other unused keys are no error.
    /// - Returns: the keys that were not asked for and are not ignored.
    /// - Throws: one `CheckpointError` of cause `.keys` that lists all differences.
    @discardableResult
    public func finish(
        ignoring ignored: [IgnoredKeys] = [], allowsUnused: Bool = false
    ) throws(CheckpointError) -> [KeyMismatch.Entry] {
        try besides?.store.finish()
        let record = record.withLock { $0 }
        var path = "random parameters"
        var missing = record.missing.map { KeyMismatch.Entry(name: $0.key, shape: $0.value) }
        var unused: [KeyMismatch.Entry] = []
        if case .files(let parts, let files) = source {
            path = files
            missing = record.missing.map { name, shape in
                let place = Self.place(name, parts)
                return KeyMismatch.Entry(name: place?.key ?? name, shape: shape, file: place?.part.label)
            }
            var known = [Set<String>](repeating: [], count: parts.count)
            for name in Array(record.taken.keys) + record.misshapen.keys {
                guard let (part, key) = Self.place(name, parts) else { continue }
                if let index = parts.firstIndex(where: { $0.prefix == part.prefix }) { known[index].insert(key) }
            }
            for (part, known) in zip(parts, known) {
                unused += part.tensors.values
                    .filter { tensor in !known.contains(tensor.name) && !ignored.contains { $0.covers(tensor.name) } }
                    .map { KeyMismatch.Entry(name: $0.name, shape: $0.shape, file: part.homes[$0.name]) }
            }
        }
        let mismatch = KeyMismatch(
            missing: missing.sorted { $0.name < $1.name },
            misshapen: record.misshapen.values.sorted { $0.name < $1.name },
            unused: unused.sorted { $0.name < $1.name })
        if mismatch.missing.isEmpty && mismatch.misshapen.isEmpty && (mismatch.unused.isEmpty || allowsUnused) {
            return mismatch.unused
        }
        throw CheckpointError(
            path: path, cause: .keys(mismatch), place: "tensors", found: "\(mismatch)", expected: "the model's")
    }

    /// Checks that the files' tensors which were taken so far are finite; of a store that amends them, before that.
    ///
    /// - Parameter progress: hears of every tensor before it is read, how many are and of how many; ends it by throwing.
    /// - Throws: `CheckpointError` of cause `.notFinite` naming file, tensor and place, or what `progress` throws.
    public func checkFinite(
        progress: (_ tensor: Int, _ tensors: Int) throws(CheckpointError) -> Void = { _, _ in }
    ) throws(CheckpointError) {
        guard case .files(let parts, let files) = source else { return }
        let names = record.withLock { $0.taken.keys.sorted() }
        for (index, name) in names.enumerated() {
            try progress(index, names.count)
            guard let (part, key) = Self.place(name, parts), let tensor = part.tensors[key] else { continue }
            try tensor.checkFinite(path: part.homes[key].map { "\(files): \($0)" } ?? files)
        }
        try besides?.store.checkFinite(progress: progress)
    }

    /// A writer of all tensors that were taken so far, in the shapes they were asked for, as F32 from a random store
    /// and as stored from files: how a made-up model becomes a checkpoint. Of a store over a part, that part.
    public func takenTensors(
        metadata: [String: String] = [:], shapedAs reshaped: (_ name: String, _ shape: [Int]) -> [Int] = { $1 }
    ) -> SafetensorsWriter {
        var writer = SafetensorsWriter(metadata: metadata)
        for (name, taken) in record.withLock({ $0.taken }).sorted(by: { $0.key < $1.key }) {
            let shape = reshaped(name, taken)
            switch source {
            case .files(let parts, _):
                guard let tensor = Self.tensor(name, parts)?.reshaped(shape) else { continue }
                let changes = amendments(name, shape)
                writer.add((changes.isEmpty ? tensor : tensor.amended(by: changes)).renamed(name))
            case .random(let seed):
                let parameters = RandomParameters(seed: seed)
                writer.add(name, type: .f32, shape: shape) { emit in
                    try? parameters.tensor(name, shape: shape)?.withUnsafeBytes(emit)
                }
            }
        }
        return writer
    }

    /// The keys under `prefix`, without it.
    public func scoped(_ prefix: String) -> ParameterScope { ParameterScope(store: self, prefix: prefix) }

    /// The store's keys under a name and a dot.
    public subscript(name: String) -> ParameterScope { scoped(name + ".") }
}

/// The part of a store whose keys begin with a prefix, so that a layer reads `scope["attn1"].take("to_q.weight", ...)`.
public struct ParameterScope: Sendable {
    /// The store it is a part of.
    public let store: ParameterStore
    /// What all its keys begin with, usually ending in a dot.
    public let prefix: String

    /// The keys of `store` under `prefix`.
    public init(store: ParameterStore, prefix: String = "") {
        self.store = store
        self.prefix = prefix
    }

    /// The deeper scope under a name and a dot.
    public subscript(name: String) -> ParameterScope { ParameterScope(store: store, prefix: prefix + name + ".") }

    /// The deeper scope under an index and a dot, as torch names the members of a list.
    public subscript(index: Int) -> ParameterScope { self["\(index)"] }

    /// As `ParameterStore.contains`.
    public func contains(_ name: String) -> Bool { store.contains(prefix + name) }

    /// As `ParameterStore.shape(of:)`.
    public func shape(of name: String) -> [Int]? { store.shape(of: prefix + name) }

    /// As `ParameterStore.take(_:shape:)`.
    public func take(_ name: String, shape: [Int]) -> StoredTensor { store.take(prefix + name, shape: shape) }

    /// As `ParameterStore.take(_:shape:orShape:)`.
    public func take(_ name: String, shape: [Int], orShape alternative: [Int]) -> StoredTensor {
        store.take(prefix + name, shape: shape, orShape: alternative)
    }
}
