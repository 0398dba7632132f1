import CKernels

/// An activation function of one argument.
public enum Activation: Sendable {
    /// x sigmoid(x)
    case silu
    /// x Phi(x), exact
    case gelu
    /// x sigmoid(1.702 x), OpenAI CLIP's
    case quickGELU
}

extension Engine {
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

    // MARK: Backward

    /// Backward of ``activate(_:_:)``: the gradient by x, of `x` and the gradient by the result (float32).
    public func activationGradient(
        _ gradient: Tensor, of x: Tensor, _ activation: Activation
    ) throws(EngineError) -> Tensor {
        try checkGradient(gradient, like: x.shape, of: "\(activation)")
        let dx = try empty(x.shape)
        let count = Int64(x.count)
        try measured("\(activation) gradient \(x.shape)") {
            switch activation {
            case .silu: kernels_silu_gradient(x.bytes, x.elementType.kernels, gradient.floats, dx.floats, count)
            case .gelu: kernels_gelu_gradient(x.bytes, x.elementType.kernels, gradient.floats, dx.floats, count)
            case .quickGELU:
                kernels_quick_gelu_gradient(x.bytes, x.elementType.kernels, gradient.floats, dx.floats, count)
            }
        }
        return dx
    }

    /// Backward of ``geglu(_:)``: the gradient by `x [..., 2c]`, of `x` and the gradient by the result `[..., c]`.
    public func gegluGradient(_ gradient: Tensor, of x: Tensor) throws(EngineError) -> Tensor {
        try checkGradient(gradient, like: x.shape.dropLast() + [x.channels / 2], of: "geglu")
        let dx = try empty(x.shape)
        try measured("geglu gradient \(x.shape)") {
            kernels_geglu_gradient(
                x.bytes, x.elementType.kernels, gradient.floats, dx.floats, Int64(x.rows), Int64(x.channels / 2))
        }
        return dx
    }
}
