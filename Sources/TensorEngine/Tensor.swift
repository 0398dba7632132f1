import Glibc

/// Element type of an activation.
public enum ElementType: Sendable {
    /// IEEE single precision: the residual stream, and everything on the fp32 paths.
    case float32
    /// The upper half of a single: inputs of products on the bf16 paths.
    case bfloat16

    /// Size of one element in bytes.
    public var byteCount: Int { self == .float32 ? 4 : 2 }
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

/// The memory of a tensor, given back to the pool when the last tensor on it is gone.
final class Storage {
    let pointer: UnsafeMutableRawPointer
    private let byteCount: Int
    /// Whose memory it is; nil of bytes that are only read, where they lie.
    private let pool: BufferPool?

    /// - Parameter isLasting: whether it stays for the engine's life, as weights do, and need not fit the next tensor.
    init(byteCount: Int, pool: BufferPool, isLasting: Bool = false) throws(EngineError) {
        (pointer, self.byteCount) = try pool.take(byteCount, isLasting: isLasting)
        self.pool = pool
    }

    /// Bytes of somebody who outlives it; nil where they are not aligned.
    init?(borrowing bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress, Int(bitPattern: start) % WeightShelf.alignment == 0 else { return nil }
        pointer = UnsafeMutableRawPointer(mutating: start)
        byteCount = bytes.count
        pool = nil
    }

    var isBorrowed: Bool { pool == nil }

    deinit { pool?.give(pointer, byteCount) }
}

/// Keeps released buffers for the next tensor of about that size: a denoising step makes the same tensors every time, so
/// after the first step nothing is asked of the system. Belongs to one engine and, like it, to one thread.
final class BufferPool {
    private var free: [Int: [UnsafeMutableRawPointer]] = [:]
    /// Bytes taken from the system and not given back, in use or not.
    private(set) var bytesHeld = 0
    /// The most of them; nil is no limit.
    var limit: Int?
    /// Makes the owners of buffers that can be made again let go of them.
    var relieve: (() -> Void)?
    private static let hugePage = 2 << 20

    /// Sizes are rounded so that tensors of nearly one size share buffers: to 1/8 of their power of two.
    private static func rounded(_ byteCount: Int) -> Int {
        let size = max(byteCount, 4096)
        let step = max(4096, (1 << (Int.bitWidth - 1 - size.leadingZeroBitCount)) / 8)
        return (size + step - 1) / step * step
    }

    func take(_ byteCount: Int, isLasting: Bool) throws(EngineError) -> (UnsafeMutableRawPointer, Int) {
        let size = isLasting ? (max(byteCount, 1) + 4095) / 4096 * 4096 : Self.rounded(byteCount)
        if let pointer = free[size]?.popLast() { return (pointer, size) }
        try makeRoom(for: size)
        let pointer = try size >= Self.hugePage ? Self.map(size) : Self.allocate(size)
        bytesHeld += size
        return (pointer, size)
    }

    /// Gives up what can be had again, as far as the limit wants it with `size` bytes more.
    func giveUpExcess(for size: Int = 0) {
        guard let limit, bytesHeld + size > limit else { return }
        trim()
        guard bytesHeld + size > limit else { return }
        relieve?()
        trim()
    }

    private func makeRoom(for size: Int) throws(EngineError) {
        guard let limit else { return }
        giveUpExcess(for: size)
        guard bytesHeld + size <= limit else {
            throw .overLimit(byteCount: size, held: bytesHeld, limit: limit)
        }
    }

    private static func allocate(_ size: Int) throws(EngineError) -> UnsafeMutableRawPointer {
        var pointer: UnsafeMutableRawPointer?
        guard posix_memalign(&pointer, 64, size) == 0, let pointer else { throw .outOfMemory(byteCount: size) }
        return pointer
    }

    /// Pages of their own, so that they go back to the system one by one: in the heap, what lies between aligned blocks
    /// stayed in memory, a quarter of a model's weights.
    private static func map(_ size: Int) throws(EngineError) -> UnsafeMutableRawPointer {
        let whole = size + hugePage
        guard let start = mmap(nil, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            start != MAP_FAILED
        else { throw .outOfMemory(byteCount: size) }
        let pointer = start.alignedUp(toMultipleOf: hugePage)
        let end = start + whole
        if pointer > start { munmap(start, pointer - start) }
        if end > pointer + size { munmap(pointer + size, end - (pointer + size)) }
        // Fewer TLB misses where the kernel can; a refusal changes nothing.
        madvise(pointer, size, MADV_HUGEPAGE)
        return pointer
    }

    func give(_ pointer: UnsafeMutableRawPointer, _ size: Int) { free[size, default: []].append(pointer) }

    /// Returns what is not in use to the system.
    func trim() {
        for (size, pointers) in free {
            for pointer in pointers {
                if size >= Self.hugePage { munmap(pointer, size) } else { Glibc.free(pointer) }
            }
            bytesHeld -= size * pointers.count
        }
        free = [:]
    }

    deinit { trim() }
}
