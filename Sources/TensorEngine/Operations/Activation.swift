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
}
