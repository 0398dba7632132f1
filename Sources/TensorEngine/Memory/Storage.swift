/// The memory of a tensor, given back to the pool when the last tensor on it is gone.
final class Storage {
    /// Where memory begins: at a cache line.
    static let alignment = 64

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
        guard let start = bytes.baseAddress, Int(bitPattern: start) % Self.alignment == 0 else { return nil }
        pointer = UnsafeMutableRawPointer(mutating: start)
        byteCount = bytes.count
        pool = nil
    }

    var isBorrowed: Bool { pool == nil }

    deinit { pool?.give(pointer, byteCount) }
}
