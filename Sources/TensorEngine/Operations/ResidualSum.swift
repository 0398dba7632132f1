import CKernels

extension Engine {
    /// Adds `x` to `sum`, in its memory; both float32 and of one shape. A residual sum hands its gradient to both of its
    /// operands, so on the way back this joins the gradients of an input that two operands read.
    public func add(_ x: Tensor, to sum: Tensor) throws(EngineError) {
        guard x.count == sum.count, x.elementType == .float32, sum.elementType == .float32 else {
            throw .shapes(operation: "add", found: [x.shape, sum.shape], expected: "equal shapes in float32")
        }
        try measured("add \(x.shape)") { kernels_add(x.floats, sum.floats, Int64(x.count)) }
    }
}
