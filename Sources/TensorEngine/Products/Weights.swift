import CKernels

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
    /// The shelf's phase in which they were last used.
    var phase: Int
    /// What the backend made of the values, once per layout.
    var packed: [PackedWeights] = []
    /// The same weights as Winograd's convolution multiplies by them, where it has.
    var winograd: Weights?
    /// The same weights as the way back multiplies by them, where there is one.
    var backward: Weights?
    /// Those of which these are the way back's. A backend may read them in place of these.
    weak var forward: Weights?

    var count: Int { batch * outputs * inputs * kind.kernel * kind.kernel }

    init(
        kind: ProductKind, inputs: Int, outputs: Int, batch: Int = 1, bias: Tensor?, name: String?, pool: BufferPool,
        shelf: WeightShelf, fill: @escaping (UnsafeMutableBufferPointer<Float>) throws(EngineError) -> Void
    ) {
        self.name = name
        self.shelf = shelf
        phase = shelf.phase
        self.kind = kind
        self.inputs = inputs
        self.outputs = outputs
        self.batch = batch
        self.bias = bias
        self.pool = pool
        self.fill = fill
        if name != nil { shelf.enrol(self) }
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
        packed.append(PackedWeights(storage: storage, byteCount: byteCount, product: product, name: name))
        return storage
    }

    /// The weights that map a gradient by the result to the gradient by the input: a linear map's transposed; a convolution's
    /// transposed in its channels and turned by half a circle.
    func transposed() throws(EngineError) -> Weights {
        if let backward { return backward }
        let back: ProductKind
        switch kind {
        case .linear: back = .linear
        case .convolution(let kernel, 1, let begin, let end) where max(begin, end) < kernel:
            back = .convolution(kernel: kernel, stride: 1, padBegin: kernel - 1 - begin, padEnd: kernel - 1 - end)
        case .convolution:
            throw .shapes(
                operation: "gradient of \(kind) by its input", found: [[outputs, inputs]], expected: "stride 1")
        }
        let made = Weights(
            kind: back, inputs: outputs, outputs: inputs, bias: nil, name: nil, pool: pool, shelf: shelf
        ) { [fill, count, inputs, outputs, area = kind.kernel * kind.kernel] turned throws(EngineError) in
            try withFloats(count) { values throws(EngineError) in
                try fill(values)
                kernels_turned_weights(
                    values.baseAddress, turned.baseAddress, Int64(outputs), Int64(inputs), Int64(area))
            }
        }
        made.forward = self
        backward = made
        return made
    }
}
