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

    var start: UnsafeRawPointer { UnsafeRawPointer(tensor.bytes + first * tensor.elementType.byteCount) }
}

extension Engine {
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
