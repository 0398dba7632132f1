/// Weights and bias of a linear map or a convolution.
///
/// The values stay where they come from (a mapped file) until a product first needs them; then they are converted and laid
/// out for it, one tensor at a time, so that a checkpoint is never in memory twice.
public final class Weights {
    let kind: ProductKind
    let inputs: Int
    let outputs: Int
    /// Matrices that `fill` writes one after the other, each for an input of its own.
    let batch: Int
    let bias: Tensor?
    /// Of the parameters they are made of; nil of weights that are not kept between runs.
    let name: String?
    /// Of the engine they belong to.
    let pool: BufferPool
    let shelf: WeightShelf
    /// Writes `batch * outputs * inputs * kernel * kernel` values in PyTorch's order.
    let fill: (UnsafeMutableBufferPointer<Float>) throws(EngineError) -> Void
    /// What the backend made of the values, once per layout.
    var packed: [PackedWeights] = []
    /// The same weights as Winograd's convolution multiplies by them, where it has.
    var winograd: Weights?

    var count: Int { batch * outputs * inputs * kind.kernel * kind.kernel }

    init(
        kind: ProductKind, inputs: Int, outputs: Int, batch: Int = 1, bias: Tensor?, name: String?, pool: BufferPool,
        shelf: WeightShelf, fill: @escaping (UnsafeMutableBufferPointer<Float>) throws(EngineError) -> Void
    ) {
        self.name = name
        self.shelf = shelf
        self.kind = kind
        self.inputs = inputs
        self.outputs = outputs
        self.batch = batch
        self.bias = bias
        self.pool = pool
        self.fill = fill
    }
}

extension Weights {
    /// Calls `body` with the values in PyTorch's order. They are in memory for that long only, and not in the pool's, which
    /// would keep the largest of each size for ever.
    func withValues<R>(_ body: (UnsafeMutableBufferPointer<Float>) throws(EngineError) -> R) throws(EngineError) -> R {
        try withFloats(count) { values throws(EngineError) in
            try fill(values)
            return try body(values)
        }
    }

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
        let form = PackedWeights(storage: storage, byteCount: byteCount, product: product, name: name)
        packed.append(form)
        if name != nil { shelf.enrol(form) }
        return storage
    }
}
