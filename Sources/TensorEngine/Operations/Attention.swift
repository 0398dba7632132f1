import CKernels

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

    /// The first of these columns of a float32 tensor.
    var floats: UnsafeMutablePointer<Float> { tensor.floats + first }
    var start: UnsafeRawPointer { UnsafeRawPointer(tensor.bytes + first * tensor.elementType.byteCount) }
}

/// What attention keeps for the way back.
public struct KeptAttention {
    let q, k, v: Columns
    let heads: Int
    let y: Tensor
    /// `[n, heads, queries]`, float32: the logarithm of each query's sum of exponentials.
    public let logSums: Tensor
    /// How many keys there are.
    public var keyCount: Int { k.tensor.shape[1] }
}

extension Engine {
    /// Multi-head attention, softmax(q k^T / sqrt(head size)) v: q `[n, queries, c]`, k and v `[n or 1, keys, c]`, where a
    /// first dimension of 1 is one memory for the whole batch. The result is `[n, queries, c]` in the type of products.
    public func attention(q: Columns, k: Columns, v: Columns, heads: Int, causal: Bool = false) throws(EngineError)
        -> Tensor
    {
        try attention(q: q, k: k, v: v, heads: heads, causal: causal, logSums: nil)
    }

    /// The same without a mask, with what ``attentionGradient(_:of:q:keysValues:)`` needs. q, k and v must stay as they are until then.
    public func attentionKept(
        q: Columns, k: Columns, v: Columns, heads: Int
    ) throws(EngineError) -> (result: Tensor, kept: KeptAttention) {
        let logSums = try empty([q.tensor.shape[0], max(heads, 0), q.tensor.rows / max(q.tensor.shape[0], 1)])
        let y = try attention(q: q, k: k, v: v, heads: heads, causal: false, logSums: logSums)
        return (y, KeptAttention(q: q, k: k, v: v, heads: heads, y: y, logSums: logSums))
    }

    private func attention(
        q: Columns, k: Columns, v: Columns, heads: Int, causal: Bool, logSums: Tensor?
    ) throws(EngineError) -> Tensor {
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
        var shape = Self.attentionShape(q: q, k: k, v: v, y: y, heads: heads, causal: causal, logSums: logSums)
        let scratch = try Storage(byteCount: kernels_attention_scratch_bytes(&shape), pool: pool)
        shape.scratch = scratch.pointer
        let flops = 4 * Double(a[0] * a[1] * b[1]) * Double(q.width) * (causal ? 0.5 : 1)
        try measured("attention \(a[0])x\(heads) heads, \(a[1]) x \(b[1]) x \(q.width / heads)", flops: flops) {
            kernels_attention(&shape)
        }
        return y
    }

    static func attentionShape(
        q: Columns, k: Columns, v: Columns, y: Tensor, heads: Int, causal: Bool, logSums: Tensor?
    ) -> kernels_attention_shape {
        let (a, b) = (q.tensor.shape, k.tensor.shape)
        return kernels_attention_shape(
            q: q.start, k: k.start, v: v.start, y: y.bytes, q_stride: Int64(q.tensor.channels),
            k_stride: Int64(k.tensor.channels), v_stride: Int64(v.tensor.channels), y_stride: Int64(q.width),
            n: Int64(a[0]), kv_n: Int64(b[0]), heads: Int64(heads), head_size: Int64(q.width / heads),
            queries: Int64(a[1]), keys: Int64(b[1]), causal: causal, type: q.tensor.elementType.kernels, scratch: nil,
            log_sums: logSums?.floats)
    }

    /// Backward of ``attentionKept(q:k:v:heads:)``: of the gradient by the result, the gradients by q, k and v. Scores are
    /// computed again, a block at a time (Dao et al. 2022).
    ///
    /// - Parameters:
    ///   - q: where the gradient by q is written: columns of a float32 tensor with as many rows.
    ///   - keysValues: the same for k and v; nil where nobody asks, as of a text that is not trained.
    public func attentionGradient(
        _ gradient: Tensor, of kept: KeptAttention, q: Columns, keysValues: (k: Columns, v: Columns)? = nil
    ) throws(EngineError) {
        try checkGradient(gradient, like: kept.y.shape, of: "attention of \(kept.heads) heads")
        var places = [(q, kept.q)]
        if let keysValues { places += [(keysValues.k, kept.k), (keysValues.v, kept.v)] }
        for (place, operand) in places
        where place.width != operand.width || place.tensor.rows != operand.tensor.rows || place.first < 0
            || place.first + place.width > place.tensor.channels || place.tensor.elementType != .float32
        {
            throw .shapes(
                operation: "gradient of attention of \(kept.heads) heads",
                found: [place.tensor.shape, operand.tensor.shape],
                expected: "equal rows, and columns \(place.first)..<\(place.first + operand.width) in float32")
        }
        var shape = kernels_attention_gradient_shape(
            forward: Self.attentionShape(
                q: kept.q, k: kept.k, v: kept.v, y: kept.y, heads: kept.heads, causal: false, logSums: kept.logSums),
            dy: gradient.floats, dq: q.floats, dk: keysValues?.k.floats, dv: keysValues?.v.floats,
            dy_stride: Int64(gradient.channels), dq_stride: Int64(q.tensor.channels),
            dk_stride: Int64(keysValues?.k.tensor.channels ?? 0), dv_stride: Int64(keysValues?.v.tensor.channels ?? 0),
            scratch: nil)
        let scratch = try Storage(byteCount: kernels_attention_gradient_scratch_bytes(&shape), pool: pool)
        shape.scratch = scratch.pointer
        let (queries, keys) = (kept.q.tensor.shape, kept.k.tensor.shape)
        let products = keysValues == nil ? 6.0 : 14
        let flops = products * Double(queries[0] * queries[1] * keys[1]) * Double(kept.q.width)
        try measured(
            "attention gradient \(queries[0])x\(kept.heads) heads, \(queries[1]) x \(keys[1])", flops: flops
        ) { kernels_attention_gradient(&shape) }
    }
}
