import CKernels

extension Engine {
    /// Joins what heads read in two places: moves `y` towards `x`, in its memory, by a share for each query and head:
    /// y += share (x - y).
    ///
    /// - Parameters:
    ///   - x: `[n, queries, c]`.
    ///   - y: of the same shape and type.
    ///   - shares: `[n, heads, queries]`, float32; c is a multiple of the heads.
    public func blend(_ x: Tensor, into y: Tensor, shares: Tensor) throws(EngineError) {
        guard x.shape.count == 3, shares.shape.count == 3, x.shape == y.shape, x.elementType == y.elementType,
            shares.elementType == .float32, shares.shape[0] == x.shape[0], shares.shape[2] == x.shape[1],
            shares.shape[1] > 0, x.channels % shares.shape[1] == 0
        else {
            throw .shapes(
                operation: "blend", found: [x.shape, y.shape, shares.shape],
                expected: "[n, queries, c] twice, of one type, and [n, heads, queries] in float32")
        }
        let heads = shares.shape[1]
        try measured("blend \(x.shape)") {
            kernels_blend_heads(
                x.bytes, y.bytes, x.elementType.kernels, shares.floats, Int64(x.shape[0]), Int64(x.shape[1]),
                Int64(heads),
                Int64(x.channels / heads))
        }
    }
}
