import CKernels

/// Scale and shift of a normalisation, one of each a channel.
public struct NormWeights {
    let weight: Tensor
    let bias: Tensor

    /// `weight` and `bias` hold one value a channel.
    public init(weight: [Float], bias: [Float], engine: Engine) throws(EngineError) {
        self.weight = try engine.tensor(weight, shape: [weight.count])
        self.bias = try engine.tensor(bias, shape: [weight.count])
    }
}

/// An activation function of one argument.
public enum Activation: Sendable {
    /// x sigmoid(x)
    case silu
    /// x Phi(x), exact
    case gelu
    /// x sigmoid(1.702 x), OpenAI CLIP's
    case quickGELU
}

/// Columns `first ..< first + width` of the rows of a tensor: q, k or v inside one wider product.
public struct Columns {
    let tensor: Tensor
    let first: Int
    let width: Int

    /// All columns of `tensor`.
    public init(_ tensor: Tensor) { self.init(tensor, 0, tensor.channels) }

    /// Columns from `first` on, `width` of them.
    public init(_ tensor: Tensor, _ first: Int, _ width: Int) {
        self.tensor = tensor
        self.first = first
        self.width = width
    }

    var start: UnsafeRawPointer { UnsafeRawPointer(tensor.bytes + first * tensor.elementType.byteCount) }
}

extension ElementType {
    var kernels: kernels_type { self == .float32 ? KERNELS_F32 : KERNELS_BF16 }
}

extension Engine {
    /// Group normalisation (Wu & He 2018) of `x [n, ..., c]` (float32) over groups of channels, then SiLU where asked.
    public func groupNorm(
        _ x: Tensor, _ norm: NormWeights, groups: Int = 32, epsilon: Float, silu: Bool
    ) throws(EngineError) -> Tensor {
        let c = x.channels
        guard norm.weight.count == c, groups > 0, c % groups == 0, x.shape.count >= 2, x.elementType == .float32 else {
            throw .shapes(
                operation: "group norm", found: [x.shape, norm.weight.shape],
                expected: "[n, ..., c] and [c], c a multiple of \(groups)")
        }
        let y = try empty(x.shape, activationType)
        let n = Int64(x.shape[0])
        let pixels = n == 0 ? 0 : Int64(x.rows) / n
        let scratch = try Storage(byteCount: kernels_group_norm_scratch_bytes(n, pixels, Int64(c)), pool: pool)
        try measured("group norm \(x.shape)") {
            kernels_group_norm(
                x.floats, norm.weight.floats, norm.bias.floats, epsilon, silu, y.bytes, activationType.kernels, n,
                pixels,
                Int64(c), Int64(groups), scratch.pointer)
        }
        return y
    }

    /// Layer normalisation (Ba et al. 2016) of the rows of `x [..., c]` (float32).
    public func layerNorm(
        _ x: Tensor, _ norm: NormWeights, epsilon: Float = 1e-5, to type: ElementType? = nil
    ) throws(EngineError) -> Tensor {
        guard norm.weight.count == x.channels, x.elementType == .float32 else {
            throw .shapes(operation: "layer norm", found: [x.shape, norm.weight.shape], expected: "[..., c] and [c]")
        }
        let type = type ?? activationType
        let y = try empty(x.shape, type)
        try measured("layer norm \(x.shape)") {
            kernels_layer_norm(
                x.floats, norm.weight.floats, norm.bias.floats, epsilon, y.bytes, type.kernels, Int64(x.rows),
                Int64(x.channels))
        }
        return y
    }

    /// An activation of every element; the result has the type that products read.
    public func activate(_ x: Tensor, _ activation: Activation) throws(EngineError) -> Tensor {
        let y = try empty(x.shape, activationType)
        let count = Int64(x.count)
        try measured("\(activation) \(x.shape)") {
            switch activation {
            case .silu: kernels_silu(x.bytes, x.elementType.kernels, y.bytes, y.elementType.kernels, count)
            case .gelu: kernels_gelu(x.bytes, x.elementType.kernels, y.bytes, y.elementType.kernels, count)
            case .quickGELU: kernels_quick_gelu(x.bytes, x.elementType.kernels, y.bytes, y.elementType.kernels, count)
            }
        }
        return y
    }

    /// GEGLU (Shazeer 2020): `[..., 2c]`, value then gate, to `[..., c]` = value * gelu(gate).
    public func geglu(_ x: Tensor) throws(EngineError) -> Tensor {
        guard x.channels % 2 == 0 else {
            throw .shapes(operation: "geglu", found: [x.shape], expected: "an even number of channels")
        }
        let c = x.channels / 2
        let y = try empty(x.shape.dropLast() + [c], activationType)
        try measured("geglu \(x.shape)") {
            kernels_geglu(x.bytes, x.elementType.kernels, y.bytes, y.elementType.kernels, Int64(x.rows), Int64(c))
        }
        return y
    }

    /// `[n, ..., a]` and `[m, ..., b]` to `[n, ..., a + b]`, float32: each entry of `a` with the entry of `b` that `entries`
    /// names for it.
    public func concatenated(_ a: Tensor, _ b: Tensor, entries: [Int]) throws(EngineError) -> Tensor {
        guard a.shape.dropLast().dropFirst() == b.shape.dropLast().dropFirst(), a.shape.first == entries.count,
            a.elementType == .float32, b.elementType == .float32
        else {
            throw .shapes(
                operation: "concatenate \(entries)", found: [a.shape, b.shape],
                expected: "equal sizes but the channels, an entry of the second for each of the first")
        }
        let y = try empty(a.shape.dropLast() + [a.channels + b.channels])
        try measured("concatenate \(y.shape)") { () throws(EngineError) in
            for (position, entry) in entries.enumerated() {
                let (from, beside) = (try a.slice(position..<position + 1), try b.slice(entry..<entry + 1))
                kernels_concat_rows(
                    from.floats, Int64(a.channels), beside.floats, Int64(b.channels),
                    try y.slice(position..<position + 1).floats, Int64(from.rows))
            }
        }
        return y
    }

    /// Tensors of one shape `[1, ...]` as the entries of one batch.
    public func stacked(_ tensors: [Tensor]) throws(EngineError) -> Tensor {
        guard let first = tensors.first,
            tensors.allSatisfy({ $0.shape == first.shape && $0.shape.first == 1 && $0.elementType == first.elementType }
            )
        else {
            throw .shapes(operation: "stack", found: tensors.map(\.shape), expected: "equal shapes [1, ...]")
        }
        let y = try empty([tensors.count] + first.shape.dropFirst(), first.elementType)
        let size = first.count * first.elementType.byteCount
        for (index, tensor) in tensors.enumerated() { kernels_copy(tensor.bytes, y.bytes + index * size, Int64(size)) }
        return y
    }

    /// The entries of the first dimension that `indices` name, in that order and as often.
    public func gathered(_ x: Tensor, _ indices: [Int]) throws(EngineError) -> Tensor {
        let y = try empty([indices.count] + x.shape.dropFirst(), x.elementType)
        try measured("gather \(y.shape)") { () throws(EngineError) in
            for (position, index) in indices.enumerated() {
                let from = try x.slice(index..<index + 1)
                let to = try y.slice(position..<position + 1)
                kernels_copy(from.bytes, to.bytes, Int64(from.count * from.elementType.byteCount))
            }
        }
        return y
    }

    /// One entry as often as asked; `x` itself where it has as many.
    public func repeated(_ x: Tensor, count: Int) throws(EngineError) -> Tensor {
        if x.shape.first == count { return x }
        guard x.shape.first == 1 else {
            throw .shapes(operation: "repeat \(count) times", found: [x.shape], expected: "[1, ...]")
        }
        return try gathered(x, Array(repeating: 0, count: count))
    }

    /// Nearest neighbour, `[n, h, w, c]` to `[n, 2h, 2w, c]`, or one less in height or width, which is what halving an odd
    /// size left behind; the result has the type that products read.
    ///
    /// PyTorch's `interpolate(size: [2h - 1, ...])` takes floor(i h / (2h - 1)), which is floor(i / 2) for every i.
    public func upsampled(_ x: Tensor, height: Int? = nil, width: Int? = nil) throws(EngineError) -> Tensor {
        let y = try empty(try upsampledShape(x, height: height, width: width), activationType)
        let small = try converted(x, to: activationType)
        try measured("upsample \(y.shape)") {
            kernels_upsample2(
                small.bytes, y.bytes, Int64(x.shape[0]), Int64(x.shape[1]), Int64(x.shape[2]), Int64(y.shape[1]),
                Int64(y.shape[2]), Int64(y.channels * activationType.byteCount))
        }
        return y
    }

    func upsampledShape(_ x: Tensor, height: Int?, width: Int?) throws(EngineError) -> [Int] {
        func fits(_ large: Int?, _ small: Int) -> Bool { large.map { ($0 + 1) / 2 == small } ?? true }
        guard x.shape.count == 4, fits(height, x.shape[1]), fits(width, x.shape[2]) else {
            throw .shapes(
                operation: "upsample", found: [x.shape, [height, width].compactMap { $0 }],
                expected: "[n, h, w, c], and twice h and w or one less")
        }
        return [x.shape[0], height ?? 2 * x.shape[1], width ?? 2 * x.shape[2], x.shape[3]]
    }

    /// Multi-head attention, softmax(q k^T / sqrt(head size)) v: q `[n, queries, c]`, k and v `[n or 1, keys, c]`, where a
    /// first dimension of 1 is one memory for the whole batch. The result is `[n, queries, c]` in the type of products.
    public func attention(q: Columns, k: Columns, v: Columns, heads: Int, causal: Bool = false) throws(EngineError)
        -> Tensor
    {
        let (a, b, c) = (q.tensor.shape, k.tensor.shape, v.tensor.shape)
        for columns in [q, k, v] where columns.first < 0 || columns.first + columns.width > columns.tensor.channels {
            throw .shapes(
                operation: "attention of \(heads) heads", found: [columns.tensor.shape],
                expected: "columns \(columns.first)..<\(columns.first + columns.width)")
        }
        guard a.count == 3, b.count == 3, c.count == 3, b.dropLast() == c.dropLast(), b[0] == a[0] || b[0] == 1,
            b[1] > 0, q.width == k.width, q.width == v.width, heads > 0, q.width % heads == 0,
            q.tensor.elementType == activationType, k.tensor.elementType == activationType,
            v.tensor.elementType == activationType
        else {
            throw .shapes(
                operation: "attention of \(heads) heads", found: [a, b, c],
                expected: "[n, queries, c], [n or 1, keys, c] twice, at least one key, c a multiple of the heads")
        }
        let y = try empty([a[0], a[1], q.width], activationType)
        var shape = kernels_attention_shape(
            q: q.start, k: k.start, v: v.start, y: y.bytes, q_stride: Int64(q.tensor.channels),
            k_stride: Int64(k.tensor.channels), v_stride: Int64(v.tensor.channels), y_stride: Int64(q.width),
            n: Int64(a[0]), kv_n: Int64(b[0]), heads: Int64(heads), head_size: Int64(q.width / heads),
            queries: Int64(a[1]), keys: Int64(b[1]), causal: causal, type: activationType.kernels, scratch: nil)
        let scratch = try Storage(byteCount: kernels_attention_scratch_bytes(&shape), pool: pool)
        shape.scratch = scratch.pointer
        let flops = 4 * Double(a[0] * a[1] * b[1]) * Double(q.width) * (causal ? 0.5 : 1)
        try measured("attention \(a[0])x\(heads) heads, \(a[1]) x \(b[1]) x \(q.width / heads)", flops: flops) {
            kernels_attention(&shape)
        }
        return y
    }
}
