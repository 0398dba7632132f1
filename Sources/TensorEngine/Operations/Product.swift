import CKernels

extension Engine {
    /// Weights of a linear map or a convolution; `fill` writes them in PyTorch's order when they are first needed, and
    /// `bias` holds `outputs` values. `name` tells these weights from all others of the model, for ``preparedWeights``.
    public func weights(
        _ kind: ProductKind, inputs: Int, outputs: Int, bias: [Float]?, name: String? = nil,
        fill: @escaping (UnsafeMutableBufferPointer<Float>) throws(EngineError) -> Void
    ) throws(EngineError) -> Weights {
        var tensor: Tensor?
        if let bias { tensor = try self.tensor(bias, shape: [outputs]) }
        return Weights(
            kind: kind, inputs: inputs, outputs: outputs, bias: tensor, name: name, pool: pool, shelf: shelf, fill: fill
        )
    }

    /// A linear map or a convolution of `x`: `[..., inputs] -> [..., outputs]`, or `[n, h, w, inputs] -> [n, oh, ow, outputs]`.
    ///
    /// - Parameters:
    ///   - bias: used instead of the weights' own bias, for a residual block that adds its time embedding.
    ///   - type: type of the result.
    /// - Throws: `EngineError.shapes` where the channels do not fit.
    public func product(
        _ x: Tensor, _ weights: Weights, bias: Tensor? = nil, to type: ElementType = .float32
    ) throws(EngineError) -> Tensor {
        let shape = try productShape(x.shape, weights, bias: bias, type: type, accumulate: false)
        let y = try empty(outputShape(x.shape, shape), type)
        try run(x, weights, bias: bias, shape, into: y)
        return y
    }

    /// A convolution of ``upsampled(_:height:width:)`` of `x`, to the bit; where Winograd's way is taken it reads `x` itself,
    /// and what is doubled is never made.
    public func product(
        ofUpsampled x: Tensor, height: Int? = nil, width: Int? = nil, _ weights: Weights
    ) throws(EngineError) -> Tensor {
        let size = try upsampledShape(x, height: height, width: width)
        let shape = try productShape(size, weights, bias: nil, type: .float32, accumulate: false)
        guard usesWinograd, shape.suitsWinograd else {
            return try product(try upsampled(x, height: height, width: width), weights)
        }
        let y = try empty(outputShape(size, shape), .float32)
        try run(x, weights, bias: nil, shape, into: y, doubled: true)
        return y
    }

    /// Adds a linear map or a convolution of `x` to `sum` (float32, of the result's shape), in its memory.
    public func product(_ x: Tensor, _ weights: Weights, accumulateInto sum: Tensor) throws(EngineError) {
        let shape = try productShape(x.shape, weights, bias: nil, type: .float32, accumulate: true)
        guard sum.count == outputShape(x.shape, shape).reduce(1, *), sum.channels == weights.outputs,
            sum.elementType == .float32
        else {
            throw .shapes(
                operation: "\(weights.kind)", found: [sum.shape, outputShape(x.shape, shape)],
                expected: "equal shapes to add, the sum in float32")
        }
        try run(x, weights, bias: nil, shape, into: sum)
    }

    /// `residual` plus a linear map or a convolution of `x`, in memory of its own: both stay as they are.
    public func product(_ x: Tensor, _ weights: Weights, addedTo residual: Tensor) throws(EngineError) -> Tensor {
        let sum = try copy(residual)
        try product(x, weights, accumulateInto: sum)
        return sum
    }

    private func run(
        _ x: Tensor, _ weights: Weights, bias: Tensor?, _ shape: ProductShape, into y: Tensor, doubled: Bool = false
    ) throws(EngineError) {
        if y.count == 0 { return }
        try stopIfAsked()
        weights.phase = shelf.phase
        weights.winograd?.phase = shelf.phase
        let source = try converted(x, to: shape.source)
        let bias = (bias ?? weights.bias).map { UnsafePointer($0.floats) }
        try measured(shape.name, flops: shape.flops) { () throws(EngineError) in
            if usesWinograd, shape.suitsWinograd {
                try runWinograd(
                    shape, source: source.bytes, doubled: doubled, weights: weights, bias: bias, destination: y.bytes)
            } else {
                try backend.run(shape, source: source.bytes, weights: weights, bias: bias, destination: y.bytes)
            }
        }
    }

    private func stopIfAsked() throws(EngineError) {
        if let interruption, interruption() { throw .stopped }
    }

    private func productShape(
        _ size: [Int], _ weights: Weights, bias: Tensor?, type: ElementType, accumulate: Bool
    ) throws(EngineError) -> ProductShape {
        // What the backend made of weights is in its own layout and dies with it.
        precondition(weights.pool === pool, "weights of another engine")
        if let bias, bias.count != weights.outputs || bias.elementType != .float32 {
            throw .shapes(
                operation: "bias of \(weights.kind)", found: [bias.shape], expected: "\([weights.outputs]) in float32")
        }
        guard type == .float32 || type == activationType else {
            throw .shapes(
                operation: "\(weights.kind) to \(type)", found: [size], expected: "float32 on \(path.rawValue)")
        }
        let isLinear = weights.kind == .linear
        guard size.last == weights.inputs, isLinear || size.count == 4 else {
            throw .shapes(
                operation: "\(weights.kind)", found: [size],
                expected: "\(isLinear ? "[..., " : "[n, h, w, ")\(weights.inputs)]")
        }
        let shape = ProductShape(
            kind: weights.kind, inputs: weights.inputs, outputs: weights.outputs,
            n: isLinear ? size.dropLast().reduce(1, *) : size[0],
            h: isLinear ? 1 : size[1], w: isLinear ? 1 : size[2], source: activationType, destination: type,
            bias: bias != nil || weights.bias != nil, accumulate: accumulate)
        guard shape.coversKernel else {
            throw .shapes(
                operation: "\(weights.kind)", found: [size], expected: "at least the kernel's size with its padding")
        }
        return shape
    }

    private func outputShape(_ size: [Int], _ shape: ProductShape) -> [Int] {
        if shape.kind == .linear { return size.dropLast() + [shape.outputs] }
        let (h, w) = shape.outputSize
        return [shape.n, h, w, shape.outputs]
    }

    // MARK: Backward

    /// The gradient by a product's input, of the gradient by its result: a product with the transposed weights, and so by the
    /// same backend. The gradient is rounded to the type of the path's products; the result is float32.
    ///
    /// - Throws: `EngineError.shapes` where shapes do not fit, or for a convolution with a stride: none lies between the loss and
    ///   an adapter.
    public func productGradient(byInput gradient: Tensor, _ weights: Weights) throws(EngineError) -> Tensor {
        try product(gradient, try weights.transposed())
    }

    /// The same, added to `sum` in its memory.
    public func productGradient(
        byInput gradient: Tensor, _ weights: Weights, accumulateInto sum: Tensor
    ) throws(EngineError) {
        try product(gradient, try weights.transposed(), accumulateInto: sum)
    }

    /// Backward of ``product(ofUpsampled:height:width:_:)``: the gradient by an input of the given shape.
    public func productGradient(
        byUpsampledInput gradient: Tensor, of shape: [Int], _ weights: Weights
    ) throws(EngineError) -> Tensor {
        try upsampledGradient(try productGradient(byInput: gradient, weights), of: shape)
    }

    /// Adds the gradient of a linear map by its weights, `gradient^T x`, to columns of a float32 tensor, which lie as the weights
    /// do: `[outputs, inputs]`. Sums and factors are fp32 on every path.
    public func productGradient(byWeights sum: Columns, of x: Tensor, _ gradient: Tensor) throws(EngineError) {
        guard x.rows == gradient.rows, sum.width == x.channels, sum.tensor.rows == gradient.channels,
            sum.first >= 0, sum.first + sum.width <= sum.tensor.channels, sum.tensor.elementType == .float32,
            gradient.elementType == .float32
        else {
            throw .shapes(
                operation: "gradient of linear by its weights", found: [x.shape, gradient.shape, sum.tensor.shape],
                expected: "[rows, inputs], [rows, outputs] and \([gradient.channels, x.channels]) in float32")
        }
        try stopIfAsked()
        let x = try converted(x, to: .float32)
        let flops = 2 * Double(x.count) * Double(gradient.channels)
        try measured("linear gradient by weights \(x.shape) \(gradient.channels)", flops: flops) {
            OpenBLASBackend.addOuterProducts(gradient, x, to: sum)
        }
    }

    /// Adds the gradient of a linear map by its bias, the sum of the gradient's rows, to `sum [outputs]`, float32.
    public func productGradient(byBias sum: Tensor, _ gradient: Tensor) throws(EngineError) {
        try checkGradient(sum, like: [gradient.channels], of: "a bias")
        try measured("linear gradient by bias \(gradient.shape)") {
            kernels_add_column_sums(gradient.floats, sum.floats, Int64(gradient.rows), Int64(gradient.channels))
        }
    }
}
