import CKernels
import OpenBLAS

/// Products by OpenBLAS' sgemm: the portable path. A convolution is a product over patches, of which one tile at a time is
/// in memory (im2col, Chellapilla et al. 2006).
///
/// OpenBLAS runs on one thread in each call; the tiles, whose sizes depend on the shape alone, go to the pool that all
/// kernels share. So the result does not depend on the number of threads.
final class OpenBLASBackend: ProductBackend {
    private let pool: BufferPool

    init(pool: BufferPool) {
        openblas_set_num_threads(1)
        self.pool = pool
    }

    private struct Work {
        let shape: ProductShape
        let depth: Int  // inputs * kernel * kernel
        let rows: Int, rowTile: Int, columnTile: Int, columnTiles: Int
        let source: UnsafePointer<Float>, weights: UnsafePointer<Float>, bias: UnsafePointer<Float>?
        let destination: UnsafeMutablePointer<Float>
    }

    func run(
        _ shape: ProductShape, source: UnsafeMutableRawPointer, weights: Weights, bias: UnsafePointer<Float>?,
        destination: UnsafeMutableRawPointer
    ) throws(EngineError) {
        let (oh, ow) = shape.outputSize
        let depth = shape.inputs * shape.kind.kernel * shape.kind.kernel
        let rows = shape.n * oh * ow
        // Patches of a tile stay within about 2 MB; a linear map reads its input in place.
        let rowTile = shape.kind == .linear ? 256 : max(16, min(256, (2 << 20) / (depth * 4)))
        let columnTile = 640
        let columnTiles = (shape.outputs + columnTile - 1) / columnTile
        var work = Work(
            shape: shape, depth: depth, rows: rows, rowTile: rowTile, columnTile: columnTile, columnTiles: columnTiles,
            source: UnsafePointer(source.assumingMemoryBound(to: Float.self)), weights: try packed(weights), bias: bias,
            destination: destination.assumingMemoryBound(to: Float.self))
        let rowTiles = (rows + rowTile - 1) / rowTile
        if shape.kind == .linear {
            kernels_parallel_for(Int64(rowTiles * columnTiles), Self.linearTile, &work)
        } else {
            kernels_parallel_for(Int64(rowTiles), Self.convolutionTile, &work)
        }
    }

    private static let linearTile: @convention(c) (UnsafeMutableRawPointer?, Int64) -> Void = { context, index in
        guard let work = context?.assumingMemoryBound(to: Work.self).pointee else { return }
        let first = Int(index) / work.columnTiles * work.rowTile
        product(
            work, patches: work.source + first * work.depth, firstRow: first,
            columns: columns(work, tile: Int(index) % work.columnTiles))
    }

    private static let convolutionTile: @convention(c) (UnsafeMutableRawPointer?, Int64) -> Void = { context, index in
        guard let work = context?.assumingMemoryBound(to: Work.self).pointee,
            case .convolution(let kernel, let stride, let padBegin, _) = work.shape.kind
        else { return }
        let shape = work.shape
        let (oh, ow) = shape.outputSize
        let first = Int(index) * work.rowTile
        let patches = UnsafeMutablePointer<Float>.allocate(capacity: work.rowTile * work.depth)
        defer { patches.deallocate() }
        kernels_patches(
            work.source, patches, Int64(first), Int64(min(work.rowTile, work.rows - first)), Int64(shape.h),
            Int64(shape.w), Int64(shape.inputs), Int64(oh), Int64(ow), Int64(kernel), Int64(stride), Int64(padBegin))
        for tile in 0..<work.columnTiles {
            product(work, patches: UnsafePointer(patches), firstRow: first, columns: columns(work, tile: tile))
        }
    }

    private static func columns(_ work: Work, tile: Int) -> Range<Int> {
        let first = tile * work.columnTile
        return first..<min(work.shape.outputs, first + work.columnTile)
    }

    private static func product(_ work: Work, patches: UnsafePointer<Float>, firstRow: Int, columns: Range<Int>) {
        let rows = min(work.rowTile, work.rows - firstRow)
        let outputs = work.shape.outputs
        let destination = work.destination + firstRow * outputs + columns.lowerBound
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasTrans, blasint(rows), blasint(columns.count), blasint(work.depth), 1,
            patches, blasint(work.depth), work.weights + columns.lowerBound * work.depth, blasint(work.depth),
            work.shape.accumulate ? 1 : 0, destination, blasint(outputs))
        guard let bias = work.bias else { return }
        for row in 0..<rows {
            for column in 0..<columns.count {
                destination[row * outputs + column] += bias[columns.lowerBound + column]
            }
        }
    }

    /// `[outputs, kernel, kernel, inputs]`: the order in which a channels-last patch lies in memory.
    private func packed(_ weights: Weights) throws(EngineError) -> UnsafePointer<Float> {
        if let made = weights.packed.first(where: { $0.product == nil }) {
            return UnsafePointer(made.storage.pointer.assumingMemoryBound(to: Float.self))
        }
        let storage = try weights.pack(as: "f32 tiles", byteCount: weights.count * 4) { memory throws(EngineError) in
            let packed = memory.bindMemory(to: Float.self, capacity: weights.count)
            let area = weights.kind.kernel * weights.kind.kernel
            if area == 1 {
                weights.fill(UnsafeMutableBufferPointer(start: packed, count: weights.count))
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
        return UnsafePointer(storage.pointer.assumingMemoryBound(to: Float.self))
    }
}
