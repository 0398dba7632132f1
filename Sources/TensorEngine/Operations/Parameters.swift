import CKernels

extension Engine {
    /// The Euclidean norm of all elements of a float32 tensor, summed in double precision.
    public func norm(_ x: Tensor) throws(EngineError) -> Double {
        try checkGradient(x, like: x.shape, of: "a norm")
        let pieces = Int(kernels_square_sum_pieces(Int64(x.count)))
        return try measured("norm \(x.shape)") {
            withUnsafeTemporaryAllocation(of: Double.self, capacity: max(1, pieces)) { sums in
                kernels_square_sum(x.floats, Int64(x.count), sums.baseAddress).squareRoot()
            }
        }
    }

    /// Multiplies a float32 tensor by `factor`, in its memory.
    public func scale(_ x: Tensor, by factor: Float) throws(EngineError) {
        try checkGradient(x, like: x.shape, of: "a scaled tensor")
        try measured("scale \(x.shape)") { kernels_scale(factor, x.floats, Int64(x.count)) }
    }

    /// Moves `mean` by `share` of the way to `x`, in its memory; both float32 and of one shape.
    public func approach(_ x: Tensor, mean: Tensor, share: Float) throws(EngineError) {
        try checkGradient(mean, like: x.shape, of: "a running mean")
        try checkGradient(x, like: x.shape, of: "a running mean")
        try measured("running mean \(x.shape)") { kernels_approach(x.floats, share, mean.floats, Int64(x.count)) }
    }
}
