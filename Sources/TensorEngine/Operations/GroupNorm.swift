import CKernels

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
}
