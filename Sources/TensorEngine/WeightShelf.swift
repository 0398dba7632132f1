/// The packed weights of one engine: those of an earlier run that may be read where they lie, and those made since.
final class WeightShelf {
    /// Finds bytes by name; they begin at a multiple of ``alignment`` and stay for the engine's life.
    var prepared: ((_ name: String) -> UnsafeRawBufferPointer?)?

    /// Counts the parts of the model that took turns.
    var phase = 0

    private struct Member { weak var weights: Weights? }
    private var members: [Member] = []

    /// Where a packed form may begin: a cache line.
    static let alignment = 64

    func enrol(_ weights: Weights) { members.append(Member(weights: weights)) }

    /// Gives up the packed forms that were last used in an earlier phase and that are in memory of their own.
    func giveUpOldPhases() {
        for weights in members.compactMap(\.weights) where weights.phase < phase {
            weights.packed.removeAll { !$0.storage.isBorrowed }
        }
    }

    /// All packed forms that have names, of the weights that live.
    func forEach(_ body: (_ name: String, PackedWeights) -> Void) {
        members.removeAll { $0.weights == nil }
        for packed in members.compactMap(\.weights).flatMap(\.packed) {
            if let name = packed.name { body(name, packed) }
        }
    }
}

extension Weights {
    /// Adds a packed form: an earlier run's where there is one, else what `make` writes into memory of its own.
    ///
    /// - Parameters:
    ///   - layout: what tells this form from all others of the same weights, or nil where nothing does.
    ///   - product: the oneDNN product it is for.
    func pack(
        as layout: String?, byteCount: Int, product: OpaquePointer? = nil,
        make: (UnsafeMutableRawPointer) throws(EngineError) -> Void
    ) throws(EngineError) -> Storage {
        var name: String?
        if let layout, let parameters = self.name { name = "\(parameters) \(layout)" }
        let storage: Storage
        let kept = name.flatMap { shelf.prepared?($0) }
        if let kept, kept.count >= byteCount, let borrowed = Storage(borrowing: kept) {
            storage = borrowed
        } else {
            storage = try Storage(byteCount: byteCount, pool: pool, isLasting: true)
            try make(storage.pointer)
        }
        packed.append(
            PackedWeights(storage: storage, byteCount: byteCount, product: product, name: name))
        return storage
    }
}
