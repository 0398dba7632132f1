import CKernels
import COneDNN

/// Runs the operations of a network on one compute path. An engine, its tensors and its weights belong to one thread: the
/// pool of threads that does the work (libgomp's) hangs on the thread that calls.
public final class Engine {
    /// The path this engine was made for.
    public let path: ComputePath
    /// Where the cost of every operation is noted, if anywhere.
    public var profile: EngineProfile?
    /// Asked before every product, which includes the conversion of its weights where they are needed for the first time; true
    /// ends the work with `EngineError.stopped`. Also the place to report that the work goes on.
    public var interruption: (() -> Bool)?
    let pool = BufferPool()
    let backend: any ProductBackend
    private let shelf = WeightShelf()
    private let usesWinograd: Bool

    /// Type of the inputs of products: what normalisations and activations write.
    public var activationType: ElementType { path.activationType }

    /// Threads that do the work which the calling thread asks for, whatever the engine. Results do not depend on it.
    public static var threadCount: Int {
        get { Int(kernels_threads()) }
        set { kernels_set_threads(Int32(clamping: newValue)) }
    }

    /// - Parameters:
    ///   - path: who computes.
    ///   - usesWinograd: whether convolutions take Winograd's shorter way where it pays, at 16/9 of the memory for their
    ///     weights.
    /// - Throws: `EngineError.unsupported` where this CPU lacks what the path needs.
    public init(path: ComputePath, usesWinograd: Bool = true) throws(EngineError) {
        guard path.isSupported else { throw .unsupported(path: path, reason: path.reason) }
        self.path = path
        self.usesWinograd = usesWinograd
        switch path {
        case .oneDNNBF16, .oneDNNFP32: backend = try OneDNNBackend(pool: pool)
        case .openBLASBF16, .openBLAS: backend = OpenBLASBackend()
        }
    }

    /// The most bytes to hold for tensors and packed weights; nil is no limit. Where it is reached, weights that the phases
    /// before this one used are given up, to be laid out again when they are needed; where that is not enough, the work ends
    /// with `EngineError.overLimit`. To be set between pieces of work: what is held beyond it is given up at once.
    public var memoryLimit: Int? {
        get { pool.limit }
        set {
            pool.limit = newValue
            pool.relieve = newValue == nil ? nil : { [shelf] in shelf.giveUpOldPhases() }
            beginPhase()
            pool.giveUpExcess()
        }
    }

    /// Another part of the model is used from now on: what the parts before it used may be given up for it.
    public func beginPhase() { shelf.phase += 1 }

    /// Gives memory that no tensor uses back to the system.
    public func trimMemory() { pool.trim() }

    /// Bytes held for tensors and packed weights, in use or kept for the next.
    public var memoryHeld: Int { pool.bytesHeld }

    /// Finds packed weights that an earlier run has kept, by the names that ``forEachPackedWeights(_:)`` gave: bytes that
    /// begin at a multiple of ``packedWeightsAlignment`` and stay where they are for the engine's life.
    public var preparedWeights: ((_ name: String) -> UnsafeRawBufferPointer?)? {
        get { shelf.prepared }
        set { shelf.prepared = newValue }
    }

    /// What the address of prepared weights is a multiple of, in bytes.
    public static var packedWeightsAlignment: Int { WeightShelf.alignment }

    /// Calls `body` with the packed weights that another run of this engine's path can use; `isNew` tells those made here from
    /// those that came out of ``preparedWeights``.
    public func forEachPackedWeights(_ body: (_ name: String, _ bytes: UnsafeRawBufferPointer, _ isNew: Bool) -> Void) {
        shelf.forEach { name, packed in
            let bytes = UnsafeRawBufferPointer(start: packed.storage.pointer, count: packed.byteCount)
            body(name, bytes, !packed.storage.isBorrowed)
        }
    }

    // MARK: Making tensors

    /// A tensor whose elements are not set yet.
    public func empty(_ shape: [Int], _ type: ElementType = .float32) throws(EngineError) -> Tensor {
        let storage = try Storage(byteCount: shape.reduce(type.byteCount, *), pool: pool)
        return Tensor(shape: shape, elementType: type, storage: storage)
    }

    /// A float32 tensor of the given values.
    public func tensor(_ values: [Float], shape: [Int]) throws(EngineError) -> Tensor {
        guard values.count == shape.reduce(1, *) else {
            throw .shapes(
                operation: "tensor", found: [[values.count], shape], expected: "as many values as the shape holds")
        }
        let tensor = try empty(shape)
        tensor.floats.update(from: values, count: values.count)
        return tensor
    }

    /// A copy of its own memory.
    public func copy(_ x: Tensor) throws(EngineError) -> Tensor {
        let y = try empty(x.shape, x.elementType)
        try measured("copy \(x.shape)") {
            kernels_copy(x.bytes, y.bytes, Int64(x.count * x.elementType.byteCount))
        }
        return y
    }

    /// The values of a tensor of either type.
    public func floats(_ x: Tensor) -> [Float] {
        [Float](unsafeUninitializedCapacity: x.count) { buffer, count in
            count = x.count
            guard let destination = buffer.baseAddress else { return }
            switch x.elementType {
            case .float32: destination.update(from: x.floats, count: x.count)
            case .bfloat16:
                kernels_bf16_to_f32(x.bytes.assumingMemoryBound(to: UInt16.self), destination, Int64(x.count))
            }
        }
    }

    /// `x` in the type asked for; `x` itself where it has that type.
    public func converted(_ x: Tensor, to type: ElementType) throws(EngineError) -> Tensor {
        if x.elementType == type { return x }
        let y = try empty(x.shape, type)
        try measured("convert \(x.shape)") {
            switch type {
            case .bfloat16: kernels_f32_to_bf16(x.floats, y.bytes.assumingMemoryBound(to: UInt16.self), Int64(x.count))
            case .float32: kernels_bf16_to_f32(x.bytes.assumingMemoryBound(to: UInt16.self), y.floats, Int64(x.count))
            }
        }
        return y
    }

    // MARK: Products

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

    private func run(
        _ x: Tensor, _ weights: Weights, bias: Tensor?, _ shape: ProductShape, into y: Tensor, doubled: Bool = false
    ) throws(EngineError) {
        if y.count == 0 { return }
        if let interruption, interruption() { throw .stopped }
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
}
