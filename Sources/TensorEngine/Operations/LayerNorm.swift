import CKernels

/// What layer normalisation keeps for the way back.
public struct KeptLayerNorm {
    let x: Tensor
    let norm: NormWeights
    /// `[rows, 2]`: mean and reciprocal standard deviation of each row.
    let statistics: Tensor
}

extension Engine {
    /// Layer normalisation (Ba et al. 2016) of the rows of `x [..., c]` (float32).
    public func layerNorm(
        _ x: Tensor, _ norm: NormWeights, epsilon: Float = 1e-5, to type: ElementType? = nil
    ) throws(EngineError) -> Tensor {
        try layerNorm(x, norm, epsilon: epsilon, to: type, statistics: nil)
    }

    /// The same, with what ``layerNormGradient(_:of:)`` needs. `x` must stay as it is until then.
    public func layerNormKept(
        _ x: Tensor, _ norm: NormWeights, epsilon: Float = 1e-5
    ) throws(EngineError) -> (result: Tensor, kept: KeptLayerNorm) {
        let statistics = try empty([x.rows, 2])
        let y = try layerNorm(x, norm, epsilon: epsilon, to: nil, statistics: statistics)
        return (y, KeptLayerNorm(x: x, norm: norm, statistics: statistics))
    }

    private func layerNorm(
        _ x: Tensor, _ norm: NormWeights, epsilon: Float, to type: ElementType?, statistics: Tensor?
    ) throws(EngineError) -> Tensor {
        guard norm.weight.count == x.channels, x.elementType == .float32 else {
            throw .shapes(operation: "layer norm", found: [x.shape, norm.weight.shape], expected: "[..., c] and [c]")
        }
        let type = type ?? activationType
        let y = try empty(x.shape, type)
        try measured("layer norm \(x.shape)") {
            kernels_layer_norm(
                x.floats, norm.weight.floats, norm.bias.floats, epsilon, y.bytes, type.kernels, statistics?.floats,
                Int64(x.rows), Int64(x.channels))
        }
        return y
    }

    /// Backward: the gradient by x, of the gradient by the result (float32, as x).
    public func layerNormGradient(_ gradient: Tensor, of kept: KeptLayerNorm) throws(EngineError) -> Tensor {
        try checkGradient(gradient, like: kept.x.shape, of: "layer norm")
        let dx = try empty(kept.x.shape)
        try measured("layer norm gradient \(dx.shape)") {
            kernels_layer_norm_gradient(
                kept.x.floats, kept.norm.weight.floats, kept.statistics.floats, gradient.floats, dx.floats,
                Int64(dx.rows), Int64(dx.channels))
        }
        return dx
    }

    /// Adds the gradients by scale and shift to `weight [c]` and `bias [c]`, float32.
    public func layerNormParameterGradient(
        _ gradient: Tensor, of kept: KeptLayerNorm, weight: Tensor, bias: Tensor
    ) throws(EngineError) {
        try checkGradient(gradient, like: kept.x.shape, of: "layer norm")
        try checkGradient(weight, like: [kept.x.channels], of: "scale of a layer norm")
        try checkGradient(bias, like: [kept.x.channels], of: "shift of a layer norm")
        try measured("layer norm parameter gradient \(gradient.shape)") {
            kernels_layer_norm_parameter_gradient(
                kept.x.floats, kept.statistics.floats, gradient.floats, weight.floats, bias.floats,
                Int64(gradient.rows), Int64(gradient.channels))
        }
    }

    /// Checks a gradient before a kernel reads or adds to it.
    func checkGradient(_ gradient: Tensor, like shape: [Int], of operation: String) throws(EngineError) {
        guard gradient.shape == shape, gradient.elementType == .float32 else {
            throw .shapes(
                operation: "gradient of \(operation)", found: [gradient.shape], expected: "\(shape) in float32")
        }
    }
}
