import Glibc

/// The map that weights stand for.
public enum ProductKind: Hashable, Sendable {
    /// `[rows, inputs] -> [rows, outputs]`; PyTorch stores `[outputs, inputs]`.
    case linear
    /// A square convolution; PyTorch stores `[outputs, inputs, kernel, kernel]`. `padBegin` rows of zeros above and columns
    /// left, `padEnd` below and right.
    case convolution(kernel: Int, stride: Int, padBegin: Int, padEnd: Int)

    var kernel: Int {
        switch self {
        case .linear: 1
        case .convolution(let kernel, _, _, _): kernel
        }
    }
}

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
    /// What the backend made of the values, once a layout.
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
}

/// Calls `body` with room for `count` values that are not set yet.
func withFloats<R>(
    _ count: Int, _ body: (UnsafeMutableBufferPointer<Float>) throws(EngineError) -> R
) throws(EngineError) -> R {
    let size = count * MemoryLayout<Float>.size
    guard let memory = malloc(max(size, 1)) else { throw .outOfMemory(byteCount: size) }
    defer { free(memory) }
    return try body(
        UnsafeMutableBufferPointer(start: memory.bindMemory(to: Float.self, capacity: count), count: count))
}

/// Weights in the layout of one backend.
struct PackedWeights {
    let storage: Storage
    let byteCount: Int
    /// The oneDNN product they were laid out for; nil for OpenBLAS, which has one layout on each path.
    let product: OpaquePointer?
    /// Names of parameters and layout, by which another run finds them; nil where they are not kept.
    var name: String?
}

/// The shape of one product, apart from its weights.
struct ProductShape: Hashable {
    var kind: ProductKind
    var inputs: Int
    var outputs: Int
    /// Input sizes; a linear map has n rows and h = w = 1.
    var n: Int
    var h: Int
    var w: Int
    var source: ElementType
    var destination: ElementType
    var bias: Bool
    var accumulate: Bool
    /// Products of this shape that are made at once, each of its own weights.
    var batch = 1

    /// Whether there is a whole window of the kernel in the padded input.
    var coversKernel: Bool {
        switch kind {
        case .linear: true
        case .convolution(let kernel, _, let begin, let end): min(h, w) + begin + end >= kernel
        }
    }

    /// Output height and width.
    var outputSize: (h: Int, w: Int) {
        switch kind {
        case .linear: (1, 1)
        case .convolution(let kernel, let stride, let begin, let end):
            ((h + begin + end - kernel) / stride + 1, (w + begin + end - kernel) / stride + 1)
        }
    }
}

extension ProductShape {
    /// For a profile.
    var name: String {
        switch kind {
        case .linear: "linear [\(n), \(inputs)] -> \(outputs)"
        case .convolution(let kernel, let stride, _, _):
            "convolution \(kernel)x\(kernel)/\(stride) [\(n), \(h), \(w), \(inputs)] -> \(outputs)"
        }
    }

    /// Multiplies and adds, of a convolution by its definition: Winograd's way takes fewer.
    var flops: Double {
        let (oh, ow) = outputSize
        return 2 * Double(batch * n * oh * ow) * Double(inputs * outputs * kind.kernel * kind.kernel)
    }
}

/// Who does the products: oneDNN or OpenBLAS.
protocol ProductBackend: AnyObject {
    /// `destination (+)= source * weights + bias`.
    func run(
        _ shape: ProductShape, source: UnsafeMutableRawPointer, weights: Weights, bias: UnsafePointer<Float>?,
        destination: UnsafeMutableRawPointer) throws(EngineError)
}
