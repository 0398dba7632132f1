import CKernels

/// What group normalisation keeps for the way back.
public struct KeptGroupNorm {
    let x: Tensor
    let norm: NormWeights
    let groups: Int
    let silu: Bool
    /// `[n, groups, 2]`: mean and reciprocal standard deviation of each group.
    let statistics: Tensor
}

extension Engine {
    /// Group normalisation (Wu & He 2018) of `x [n, ..., c]` (float32) over groups of channels, then SiLU where asked.
    public func groupNorm(
        _ x: Tensor, _ norm: NormWeights, groups: Int = 32, epsilon: Float, silu: Bool
    ) throws(EngineError) -> Tensor {
        try groupNorm(x, norm, groups: groups, epsilon: epsilon, silu: silu, statistics: nil)
    }

    /// The same, with what ``groupNormGradient(_:of:)`` needs. `x` must stay as it is until then.
    public func groupNormKept(
        _ x: Tensor, _ norm: NormWeights, groups: Int, epsilon: Float, silu: Bool
    ) throws(EngineError) -> (result: Tensor, kept: KeptGroupNorm) {
        let statistics = try empty([x.shape.first ?? 0, max(groups, 0), 2])
        let y = try groupNorm(x, norm, groups: groups, epsilon: epsilon, silu: silu, statistics: statistics)
        return (y, KeptGroupNorm(x: x, norm: norm, groups: groups, silu: silu, statistics: statistics))
    }

    private func groupNorm(
        _ x: Tensor, _ norm: NormWeights, groups: Int, epsilon: Float, silu: Bool, statistics: Tensor?
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
                x.floats, norm.weight.floats, norm.bias.floats, epsilon, silu, y.bytes, activationType.kernels,
                statistics?.floats, n,
                pixels,
                Int64(c), Int64(groups), scratch.pointer)
        }
        return y
    }

    /// Backward: the gradient by x, of the gradient by the result (float32, as x). There is none by scale and shift: no
    /// adapter has a group normalisation.
    public func groupNormGradient(_ gradient: Tensor, of kept: KeptGroupNorm) throws(EngineError) -> Tensor {
        let x = kept.x
        try checkGradient(gradient, like: x.shape, of: "group norm")
        let dx = try empty(x.shape)
        let (n, c) = (Int64(x.shape[0]), Int64(x.channels))
        let pixels = n == 0 ? 0 : Int64(x.rows) / n
        let scratch = try Storage(byteCount: kernels_group_norm_gradient_scratch_bytes(n, pixels, c), pool: pool)
        try measured("group norm gradient \(x.shape)") {
            kernels_group_norm_gradient(
                x.floats, kept.norm.weight.floats, kept.norm.bias.floats, kept.statistics.floats, kept.silu,
                gradient.floats, dx.floats, n, pixels, c, Int64(kept.groups), scratch.pointer)
        }
        return dx
    }
}
