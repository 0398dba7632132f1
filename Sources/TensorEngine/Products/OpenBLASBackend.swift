import CKernels
import Glibc
import OpenBLAS
import Synchronization

/// Products by OpenBLAS' sgemm: the portable path. A convolution is a product over patches, of which one block at a time is
/// in memory (im2col, Chellapilla et al. 2006). Weights and inputs in bfloat16 are widened, a block at a time, and multiplied
/// in fp32.
///
/// The way back reads the forward's weights, where it multiplies by them transposed: they are in memory once.
///
/// OpenBLAS runs on one thread in each call; the tiles, whose sizes depend on the shape alone, go to the pool that all
/// kernels share. So the result does not depend on the number of threads.
final class OpenBLASBackend: ProductBackend {
    init() { openblas_set_num_threads(1) }

    /// A product, and how it is cut into tiles of its result: enough of them for many threads, large enough to be fast.
    fileprivate final class Work {
        let shape: ProductShape
        /// Rows of the result and columns of the matrix of patches, which is the input itself of a linear map.
        let rows: Int, depth: Int
        let rowTile = 256, columnTile = 320
        /// How many columns of patches are in memory at once: two of the blocks that sgemm cuts the depth into.
        let depthTile = 768
        /// In the shape's type of source.
        let source: UnsafeRawPointer, weights: UnsafeRawPointer
        /// Whether the weights are the forward's of a way back: `[inputs, kernel, kernel, outputs]` in place of
        /// `[outputs, kernel, kernel, inputs]`, and each kernel to be turned by half a circle.
        let areForward: Bool
        let bias: UnsafePointer<Float>?
        /// In the shape's type of destination.
        let destination: UnsafeMutableRawPointer
        /// Whether a tile found no memory. Tiles run on threads of the pool, where nothing can be thrown.
        let ranOutOfMemory = Atomic(false)

        init(
            _ shape: ProductShape, source: UnsafeRawPointer, weights: UnsafeRawPointer, areForward: Bool,
            bias: UnsafePointer<Float>?, destination: UnsafeMutableRawPointer
        ) {
            self.shape = shape
            self.areForward = areForward
            let (oh, ow) = shape.outputSize
            rows = shape.n * oh * ow
            depth = shape.inputs * shape.kind.kernel * shape.kind.kernel
            self.source = source
            self.weights = weights
            self.bias = bias
            self.destination = destination
        }

        /// Columns of patches that one call of sgemm reads.
        var depthBlock: Int { needsPatches ? min(depth, depthTile) : depth }
        /// Floats of a whole tile's patches and of its widened weights, and bytes of those and of its sums.
        var patchCount: Int { needsPatches ? rowTile * depthBlock : 0 }
        var widenedCount: Int { isNarrow ? columnTile * depthBlock : 0 }
        var tileBytes: Int {
            let sums = shape.destination == .bfloat16 ? rowTile * columnTile : 0
            return max(4, (patchCount + widenedCount + sums) * 4)
        }

        var rowTiles: Int { (rows + rowTile - 1) / rowTile }
        var columnTiles: Int { (shape.outputs + columnTile - 1) / columnTile }
        var isNarrow: Bool { shape.source == .bfloat16 }
        /// A linear map in fp32 reads its input in place.
        var needsPatches: Bool { shape.kind != .linear || isNarrow }
    }

    func run(
        _ shape: ProductShape, source: UnsafeMutableRawPointer, weights: Weights, bias: UnsafePointer<Float>?,
        destination: UnsafeMutableRawPointer
    ) throws(EngineError) {
        let forward = weights.forward
        let work = Work(
            shape, source: source, weights: try packed(forward ?? weights, as: shape.source),
            areForward: forward != nil, bias: bias, destination: destination)
        withExtendedLifetime(work) {
            kernels_parallel_for(
                Int64(shape.batch * work.rowTiles * work.columnTiles), Self.tile,
                Unmanaged.passUnretained(work).toOpaque())
        }
        if work.ranOutOfMemory.load(ordering: .relaxed) { throw .outOfMemory(byteCount: work.tileBytes) }
    }

    private static let tile: @convention(c) (UnsafeMutableRawPointer?, Int64) -> Void = { context, index in
        guard let work = context.map({ Unmanaged<Work>.fromOpaque($0).takeUnretainedValue() }) else { return }
        let column = Int(index) % work.columnTiles * work.columnTile
        let row = Int(index) / work.columnTiles % work.rowTiles * work.rowTile
        work.multiply(
            entry: Int(index) / work.columnTiles / work.rowTiles, rows: row..<min(work.rows, row + work.rowTile),
            columns: column..<min(work.shape.outputs, column + work.columnTile))
    }

    /// `[outputs, kernel, kernel, inputs]`, the order in which a channels-last patch lies in memory, in the type of the sources.
    private func packed(_ weights: Weights, as type: ElementType) throws(EngineError) -> UnsafeRawPointer {
        weights.phase = weights.shelf.phase
        if let made = weights.packed.first(where: { $0.product == nil }) {
            return UnsafeRawPointer(made.storage.pointer)
        }
        let layout = type == .bfloat16 ? "bf16 tiles" : "f32 tiles"
        let storage = try weights.pack(as: layout, byteCount: weights.count * type.byteCount) {
            memory throws(EngineError) in
            switch type {
            case .float32:
                let floats = memory.bindMemory(to: Float.self, capacity: weights.count)
                try arrange(weights, into: UnsafeMutableBufferPointer(start: floats, count: weights.count))
            case .bfloat16:
                try withFloats(weights.count) { floats throws(EngineError) in
                    try arrange(weights, into: floats)
                    kernels_f32_to_bf16(
                        floats.baseAddress, memory.bindMemory(to: UInt16.self, capacity: weights.count),
                        Int64(weights.count))
                }
            }
        }
        return UnsafeRawPointer(storage.pointer)
    }

    private func arrange(_ weights: Weights, into packed: UnsafeMutableBufferPointer<Float>) throws(EngineError) {
        let area = weights.kind.kernel * weights.kind.kernel
        if area == 1 {
            try weights.fill(packed)
            return
        }
        try weights.withValues { floats in
            for output in 0..<weights.outputs {
                for input in 0..<weights.inputs {
                    for tap in 0..<area {
                        packed[(output * area + tap) * weights.inputs + input] =
                            floats[(output * weights.inputs + input) * area + tap]
                    }
                }
            }
        }
    }
}

extension OpenBLASBackend.Work {
    /// One tile of the result of one entry of the batch.
    fileprivate func multiply(entry: Int, rows: Range<Int>, columns: Range<Int>) {
        let outputs = shape.outputs
        let source = source + entry * self.rows * depth * shape.source.byteCount
        let start = (entry * self.rows + rows.lowerBound) * outputs + columns.lowerBound
        let block = depthBlock
        guard let room = malloc(tileBytes) else {
            ranOutOfMemory.store(true, ordering: .relaxed)
            return
        }
        defer { free(room) }
        let patches = room.bindMemory(to: Float.self, capacity: tileBytes / 4)
        let widened = patches + patchCount
        let sums = widened + widenedCount

        let (result, stride) =
            switch shape.destination {
            case .float32: (destination.assumingMemoryBound(to: Float.self) + start, outputs)
            case .bfloat16: (sums, columns.count)
            }
        // A block of the forward's weights is of one tap.
        let run = areForward ? shape.inputs : depth
        var from = 0
        while from < depth {
            let part = from..<min(from + block, from / run * run + run)
            defer { from = part.upperBound }
            var (a, aStride) = (UnsafePointer(patches), part.count)
            if needsPatches {
                readPatches(source, rows: rows, part, into: patches)
            } else {
                (a, aStride) = (source.assumingMemoryBound(to: Float.self) + rows.lowerBound * depth + from, depth)
            }
            let (b, bStride) = weightBlock(of: entry, part, columns, widened: widened)
            cblas_sgemm(
                CblasRowMajor, CblasNoTrans, areForward ? CblasNoTrans : CblasTrans, blasint(rows.count),
                blasint(columns.count), blasint(part.count), 1, a, blasint(aStride), b, blasint(bStride),
                shape.accumulate || from > 0 ? 1 : 0, result, blasint(stride))
        }

        for row in 0..<rows.count {
            let sums = result + row * stride
            if let bias {
                for column in 0..<columns.count { sums[column] += bias[columns.lowerBound + column] }
            }
            guard shape.destination == .bfloat16 else { continue }
            // So few that the calling thread converts them.
            kernels_f32_to_bf16(
                sums, destination.assumingMemoryBound(to: UInt16.self) + start + row * outputs, Int64(columns.count))
        }
    }

    /// The weights of some columns of patches and of results, in fp32, and the length of their rows. A row is a result's, or, of
    /// the forward's weights, a column's of patches.
    private func weightBlock(
        of entry: Int, _ part: Range<Int>, _ columns: Range<Int>, widened: UnsafeMutablePointer<Float>
    ) -> (UnsafePointer<Float>, stride: Int) {
        var (rows, from, stride) = (columns, part.lowerBound, depth)
        var entry = entry
        if areForward {
            let area = shape.kind.kernel * shape.kind.kernel
            let tap = area - 1 - part.lowerBound / shape.inputs
            let first = part.lowerBound % shape.inputs
            (rows, stride) = (first..<first + part.count, area * shape.outputs)
            from = tap * shape.outputs + columns.lowerBound
            // Turning a kernel exchanges the first and the last row and column of its transform (Winograd.swift).
            if shape.batch == 16 { entry = Self.turned[entry] }
        }
        let weights = weights + entry * shape.outputs * depth * shape.source.byteCount
        guard isNarrow else {
            return (weights.assumingMemoryBound(to: Float.self) + rows.lowerBound * stride + from, stride)
        }
        // As the patches of as many pictures of one pixel.
        let width = areForward ? columns.count : part.count
        kernels_patches(
            weights, KERNELS_BF16, widened, Int64(rows.lowerBound), Int64(rows.count), Int64(from),
            Int64(from + width), 1, 1, Int64(stride), 1, 1, 1, 1, 0)
        return (UnsafePointer(widened), width)
    }

    /// For each place of a turned kernel's transform that of the kernel's own.
    private static let turned = (0..<16).map { place in
        let exchanged = [3, 1, 2, 0]
        return exchanged[place / 4] * 4 + exchanged[place % 4]
    }

    /// A piece of the matrix of patches, in fp32.
    private func readPatches(
        _ source: UnsafeRawPointer, rows: Range<Int>, _ columns: Range<Int>, into patches: UnsafeMutablePointer<Float>
    ) {
        let (oh, ow) = shape.outputSize
        let (stride, padBegin) =
            switch shape.kind {
            case .linear: (1, 0)
            case .convolution(_, let stride, let padBegin, _): (stride, padBegin)
            }
        kernels_patches(
            source, shape.source.kernels, patches, Int64(rows.lowerBound), Int64(rows.count),
            Int64(columns.lowerBound), Int64(columns.upperBound), Int64(shape.h), Int64(shape.w), Int64(shape.inputs),
            Int64(oh), Int64(ow), Int64(shape.kind.kernel), Int64(stride), Int64(padBegin))
    }
}

extension OpenBLASBackend {
    /// Rows of the sum that one piece of work covers: fixed, so that results do not depend on the number of threads.
    private static let outerTile = 64

    private struct OuterProducts {
        let gradient: UnsafePointer<Float>, x: UnsafePointer<Float>
        let sum: UnsafeMutablePointer<Float>
        let rows: Int, outputs: Int, inputs: Int, stride: Int
    }

    /// `sum [outputs, inputs] += gradient [rows, outputs]^T x [rows, inputs]`, all float32.
    static func addOuterProducts(_ gradient: Tensor, _ x: Tensor, to sum: Columns) {
        var work = OuterProducts(
            gradient: gradient.floats, x: x.floats, sum: sum.floats, rows: x.rows, outputs: gradient.channels,
            inputs: x.channels, stride: sum.tensor.channels)
        let tiles = (work.outputs + outerTile - 1) / outerTile
        kernels_parallel_for(
            Int64(tiles),
            { context, index in
                guard let work = context?.assumingMemoryBound(to: OuterProducts.self).pointee else { return }
                let first = Int(index) * OpenBLASBackend.outerTile
                cblas_sgemm(
                    CblasRowMajor, CblasTrans, CblasNoTrans,
                    blasint(min(OpenBLASBackend.outerTile, work.outputs - first)),
                    blasint(work.inputs), blasint(work.rows), 1, work.gradient + first, blasint(work.outputs), work.x,
                    blasint(work.inputs), 1, work.sum + first * work.stride, blasint(work.stride))
            }, &work)
    }
}
