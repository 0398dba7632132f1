import CKernels

extension Engine {
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
}
