import CKernels

extension Engine {
    /// ReLU, max(x, 0), of every element of a float32 tensor, in its memory.
    public func rectify(_ x: Tensor) throws(EngineError) {
        try expectFloat32("ReLU", x)
        try measured("ReLU \(x.shape)") { kernels_relu(x.floats, x.floats, Int64(x.count)) }
    }

    /// Adds max(x, 0) to `sum`, in its memory; both float32 of one shape.
    public func rectify(_ x: Tensor, addingTo sum: Tensor) throws(EngineError) {
        try expectFloat32("ReLU", x, sum)
        guard x.shape == sum.shape else {
            throw .shapes(operation: "ReLU and sum", found: [x.shape, sum.shape], expected: "equal shapes")
        }
        try measured("ReLU and sum \(x.shape)") { kernels_add_relu(x.floats, sum.floats, Int64(x.count)) }
    }

    /// The logistic function, 1 / (1 + exp(-x)), of every element of a float32 tensor, in its memory.
    public func sigmoid(_ x: Tensor) throws(EngineError) {
        try expectFloat32("sigmoid", x)
        try measured("sigmoid \(x.shape)") { kernels_sigmoid(x.floats, x.floats, Int64(x.count)) }
    }

    private func expectFloat32(_ operation: String, _ tensors: Tensor...) throws(EngineError) {
        guard tensors.allSatisfy({ $0.elementType == .float32 }) else {
            throw .shapes(operation: operation, found: tensors.map(\.shape), expected: "float32")
        }
    }
}
