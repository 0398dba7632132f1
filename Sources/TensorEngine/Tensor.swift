/// Element type of an activation.
public enum ElementType: Sendable {
    /// IEEE single precision: the residual stream, and everything on the fp32 paths.
    case float32
    /// The upper half of a single: inputs of products on the bf16 paths.
    case bfloat16

    /// Size of one element in bytes.
    public var byteCount: Int { self == .float32 ? 4 : 2 }

    /// Size of a whole array in bytes.
    /// - Throws: `EngineError.outOfMemory` where no number holds it.
    func byteCount(of shape: [Int]) throws(EngineError) -> Int {
        var size = byteCount
        for extent in shape {
            let (product, overflow) = size.multipliedReportingOverflow(by: extent)
            if overflow { throw .outOfMemory(byteCount: .max) }
            size = product
        }
        return size
    }
}

/// A dense array in memory of the engine's pool, channels-last: `[n, h, w, c]` or `[n, tokens, c]`, which is the same
/// memory when tokens = h * w.
///
/// A tensor is a reference to its memory: copies share it. Operations of ``Engine`` make new tensors, except those whose
/// name says that they accumulate into one.
public struct Tensor {
    /// Sizes, outermost first; the last dimension is contiguous.
    public let shape: [Int]
    /// Type of the elements.
    public let elementType: ElementType
    let storage: Storage
    let byteOffset: Int

    init(shape: [Int], elementType: ElementType, storage: Storage, byteOffset: Int = 0) {
        self.shape = shape
        self.elementType = elementType
        self.storage = storage
        self.byteOffset = byteOffset
    }

    /// Number of elements.
    public var count: Int { shape.reduce(1, *) }
    /// Size of the last dimension.
    public var channels: Int { shape.last ?? 1 }
    /// Number of rows of `channels` elements.
    public var rows: Int { shape.dropLast().reduce(1, *) }

    var bytes: UnsafeMutableRawPointer { storage.pointer + byteOffset }
    var floats: UnsafeMutablePointer<Float> { bytes.assumingMemoryBound(to: Float.self) }

    /// The same memory under other sizes.
    public func reshaped(_ shape: [Int]) throws(EngineError) -> Tensor {
        guard shape.reduce(1, *) == count else {
            throw .shapes(operation: "reshape", found: [self.shape, shape], expected: "equal numbers of elements")
        }
        return Tensor(shape: shape, elementType: elementType, storage: storage, byteOffset: byteOffset)
    }

    /// Entries `range` of the first dimension, in the same memory.
    public func slice(_ range: Range<Int>) throws(EngineError) -> Tensor {
        guard let n = shape.first, range.lowerBound >= 0, range.upperBound <= n else {
            throw .shapes(operation: "slice \(range)", found: [shape], expected: "a range inside the first dimension")
        }
        let stride = n == 0 ? 0 : count / n * elementType.byteCount
        return Tensor(
            shape: [range.count] + shape.dropFirst(), elementType: elementType, storage: storage,
            byteOffset: byteOffset + range.lowerBound * stride)
    }

    /// Reads or writes the elements of a float32 tensor in place.
    public func withFloats<R, E: Error>(_ body: (UnsafeMutableBufferPointer<Float>) throws(E) -> R) throws(E) -> R {
        precondition(elementType == .float32, "withFloats on a bfloat16 tensor")
        return try body(UnsafeMutableBufferPointer(start: floats, count: count))
    }
}
