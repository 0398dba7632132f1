import CKernels

/// Which keys an attention read, and from where: for each cell of queries and each key the weight that softmax gave it, in the
/// mean over heads, over the cell's queries and over all attentions that were added.
public struct AttentionMap: Sendable {
    /// The cell of each query; cells are numbered from 0 on.
    public let cells: [Int32]
    /// How many cells there are.
    public let cellCount: Int
    /// How many keys there are.
    public let keyCount: Int
    /// Sums over what was added, `[cells, keys]`.
    private var sums: [Float]
    /// How many attentions were added.
    public private(set) var added = 0
    private var sizes: [Int]

    /// An empty map; `cells` are at least 0.
    public init(cells: [Int32], keyCount: Int) {
        self.cells = cells
        self.keyCount = keyCount
        cellCount = Int(cells.max() ?? -1) + 1
        sums = [Float](repeating: 0, count: cellCount * keyCount)
        sizes = [Int](repeating: 0, count: cellCount)
        for cell in cells { sizes[Int(cell)] += 1 }
    }

    /// The means, `[cells, keys]`: each row sums to 1 where the map has all keys of the attention.
    public var means: [Float] {
        var means = sums
        for cell in 0..<cellCount where sizes[cell] * added > 0 {
            let factor = 1 / Float(sizes[cell] * added)
            for j in (cell * keyCount)..<((cell + 1) * keyCount) { means[j] *= factor }
        }
        return means
    }

    fileprivate mutating func add(_ shape: kernels_attention_map_shape) {
        var shape = shape
        cells.withUnsafeBufferPointer { cells in
            sums.withUnsafeMutableBufferPointer { sums in
                (shape.cells, shape.map) = (cells.baseAddress, sums.baseAddress)
                kernels_attention_map(&shape)
            }
        }
        added += 1
    }
}

extension Engine {
    /// Adds what one entry of a kept attention's batch read, of its keys from `firstKey` on, as many as the map has.
    ///
    /// Cost: a product of q and k and an exponential for each head; nothing of the size of queries x keys is kept.
    ///
    /// - Parameter logSums: `[n, heads, queries]`, float32, where the weights are those of a softmax over more keys than this
    ///   attention's; nil takes its own.
    public func addAttention(
        _ kept: KeptAttention, logSums: Tensor? = nil, entry: Int, firstKey: Int = 0, to map: inout AttentionMap
    ) throws(EngineError) {
        let (q, k) = (kept.q.tensor.shape, kept.k.tensor.shape)
        let logSums = logSums ?? kept.logSums
        guard (0..<q[0]).contains(entry), map.cells.count == q[1], firstKey >= 0, map.keyCount > 0,
            firstKey + map.keyCount <= k[1], logSums.shape == kept.logSums.shape, logSums.elementType == .float32
        else {
            throw .shapes(
                operation: "map of an attention of \(kept.heads) heads",
                found: [q, k, [map.cells.count, map.keyCount]],
                expected: "entry \(entry) of the batch, a cell for each query, and keys from \(firstKey) on")
        }
        var shape = kernels_attention_map_shape()
        shape.forward = Self.attentionShape(
            q: kept.q, k: kept.k, v: kept.v, y: kept.y, heads: kept.heads, causal: false, logSums: logSums)
        (shape.image, shape.first_key, shape.key_count) = (Int64(entry), Int64(firstKey), Int64(map.keyCount))
        (shape.weight, shape.map_stride) = (1 / Float(kept.heads), Int64(map.keyCount))
        let scratch = try Storage(byteCount: kernels_attention_map_scratch_bytes(&shape), pool: pool)
        shape.scratch = scratch.pointer
        let flops = 2 * Double(q[1] * map.keyCount) * Double(kept.q.width)
        try measured("attention map \(kept.heads) heads, \(q[1]) x \(map.keyCount)", flops: flops) { map.add(shape) }
    }
}
