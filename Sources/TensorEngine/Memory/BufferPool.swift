import Glibc

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
    /// More than a process can address. No rounding of a smaller size overflows.
    private static let largest = 1 << 47

    /// Sizes are rounded so that tensors of nearly one size share buffers: to 1/8 of their power of two.
    private static func rounded(_ byteCount: Int) -> Int {
        let size = max(byteCount, 4096)
        let step = max(4096, (1 << (Int.bitWidth - 1 - size.leadingZeroBitCount)) / 8)
        return (size + step - 1) / step * step
    }

    func take(_ byteCount: Int, isLasting: Bool) throws(EngineError) -> (UnsafeMutableRawPointer, Int) {
        guard byteCount < Self.largest else { throw .outOfMemory(byteCount: byteCount) }
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

/// Calls `body` with room for `count` values that are not set yet, outside every pool, which would keep it.
/// - Throws: `EngineError.outOfMemory`, or what `body` throws.
func withFloats<R>(
    _ count: Int, _ body: (UnsafeMutableBufferPointer<Float>) throws(EngineError) -> R
) throws(EngineError) -> R {
    let (byteCount, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Float>.stride)
    guard !overflow, let memory = malloc(max(byteCount, 1)) else {
        throw .outOfMemory(byteCount: overflow ? .max : byteCount)
    }
    defer { free(memory) }
    let values = memory.bindMemory(to: Float.self, capacity: count)
    return try body(UnsafeMutableBufferPointer(start: values, count: count))
}
