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
    let shelf = WeightShelf()
    let usesWinograd: Bool

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
    public static var packedWeightsAlignment: Int { Storage.alignment }

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
        let storage = try Storage(byteCount: type.byteCount(of: shape), pool: pool)
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
}

extension ElementType {
    var kernels: kernels_type { self == .float32 ? KERNELS_F32 : KERNELS_BF16 }
}
