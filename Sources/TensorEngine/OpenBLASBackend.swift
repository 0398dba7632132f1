import CKernels
import OpenBLAS

/// Products by OpenBLAS' sgemm: the portable path. A convolution is a product over patches, of which one tile at a time is
/// in memory (im2col, Chellapilla et al. 2006). Weights and inputs in bfloat16 are widened, a block at a time, and multiplied
/// in fp32.
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
        /// inputs * kernel * kernel, and how much of it is multiplied at once.
        let depth: Int, depthTile: Int
        let rows: Int, rowTile: Int
        let columnTile: Int, columnTiles: Int
        /// In the shape's type of source.
        var source: UnsafeRawPointer, weights: UnsafeRawPointer
        let bias: UnsafePointer<Float>?
        /// In the shape's type of destination.
        var destination: UnsafeMutableRawPointer

        /// A linear map in fp32 reads its input in place.
        var needsPatches: Bool { shape.kind != .linear || shape.source == .bfloat16 }

        func columns(ofTile tile: Int) -> Range<Int> {
            tile * columnTile..<min(shape.outputs, (tile + 1) * columnTile)
        }

        /// A piece of the matrix of patches, in fp32; of a linear map, a piece of its input.
        func patches(rows: Range<Int>, depth: Range<Int>, into room: UnsafeMutablePointer<Float>) {
            let (oh, ow) = shape.outputSize
            let (stride, padBegin) =
                switch shape.kind {
                case .linear: (1, 0)
                case .convolution(_, let stride, let padBegin, _): (stride, padBegin)
                }
            kernels_patches(
                source, shape.source.kernels, room, Int64(rows.lowerBound), Int64(rows.count), Int64(depth.lowerBound),
                Int64(depth.upperBound), Int64(shape.h), Int64(shape.w), Int64(shape.inputs), Int64(oh), Int64(ow),
                Int64(shape.kind.kernel), Int64(stride), Int64(padBegin))
        }
    }

    func run(
        _ shape: ProductShape, source: UnsafeMutableRawPointer, weights: Weights, bias: UnsafePointer<Float>?,
        destination: UnsafeMutableRawPointer
    ) throws(EngineError) {
        let (oh, ow) = shape.outputSize
        let depth = shape.inputs * shape.kind.kernel * shape.kind.kernel
        let rows = shape.n * oh * ow
        let isNarrow = shape.source == .bfloat16
        // Patches of a tile stay within about 2 MB.
        let rowTile = shape.kind == .linear || isNarrow ? 256 : max(16, min(256, (2 << 20) / (depth * 4)))
        let columnTile = 640
        let columnTiles = (shape.outputs + columnTile - 1) / columnTile
        var work = Work(
            shape: shape, depth: depth, depthTile: isNarrow ? min(depth, 512) : depth, rows: rows, rowTile: rowTile,
            columnTile: columnTile, columnTiles: columnTiles, source: UnsafeRawPointer(source),
            weights: try packed(weights, as: shape.source), bias: bias, destination: destination)
        let rowTiles = (rows + rowTile - 1) / rowTile
        if shape.kind == .linear {
            kernels_parallel_for(Int64(shape.batch * rowTiles * columnTiles), Self.linearTile, &work)
        } else {
            kernels_parallel_for(Int64(rowTiles), Self.convolutionTile, &work)
        }
    }

    private static let linearTile: @convention(c) (UnsafeMutableRawPointer?, Int64) -> Void = { context, index in
        guard var work = context?.assumingMemoryBound(to: Work.self).pointee else { return }
        let (rowTile, tile) = (Int(index) / work.columnTiles, Int(index) % work.columnTiles)
        let rowTiles = (work.rows + work.rowTile - 1) / work.rowTile
        let (shape, entry) = (work.shape, rowTile / rowTiles)
        work.source += entry * work.rows * work.depth * shape.source.byteCount
        work.weights += entry * shape.outputs * work.depth * shape.source.byteCount
        work.destination += entry * work.rows * shape.outputs * shape.destination.byteCount
        product(work, rowTile: rowTile % rowTiles, columnTiles: tile..<tile + 1)
    }

    /// Its patches serve all columns.
    private static let convolutionTile: @convention(c) (UnsafeMutableRawPointer?, Int64) -> Void = { context, index in
        guard let work = context?.assumingMemoryBound(to: Work.self).pointee else { return }
        product(work, rowTile: Int(index), columnTiles: 0..<work.columnTiles)
    }

    private static func product(_ work: Work, rowTile: Int, columnTiles: Range<Int>) {
        let (shape, depth, outputs) = (work.shape, work.depth, work.shape.outputs)
        let firstRow = rowTile * work.rowTile
        let rows = min(work.rowTile, work.rows - firstRow)
        let isNarrow = shape.source == .bfloat16
        let left = columnTiles.isEmpty ? 0 : columnTiles.lowerBound * work.columnTile

        func room(_ count: Int) -> UnsafeMutablePointer<Float> { .allocate(capacity: count) }
        let patches = room(work.needsPatches ? rows * work.depthTile : 0)
        let widened = room(isNarrow ? min(outputs, work.columnTile) * work.depthTile : 0)
        let sums = room(shape.destination == .bfloat16 ? rows * columnTiles.count * work.columnTile : 0)
        defer { for room in [patches, widened, sums] { room.deallocate() } }

        let destination: UnsafeMutablePointer<Float>
        let stride: Int
        switch shape.destination {
        case .float32:
            destination = work.destination.assumingMemoryBound(to: Float.self) + firstRow * outputs + left
            stride = outputs
        case .bfloat16:
            destination = sums
            stride = columnTiles.count * work.columnTile
        }

        for from in Swift.stride(from: 0, to: depth, by: work.depthTile) {
            let to = min(depth, from + work.depthTile)
            var a = UnsafePointer(patches)
            if work.needsPatches {
                work.patches(rows: firstRow..<firstRow + rows, depth: from..<to, into: patches)
            } else {
                a = work.source.assumingMemoryBound(to: Float.self) + firstRow * depth
            }
            for columns in columnTiles.map(work.columns(ofTile:)) {
                var b = UnsafePointer(widened)
                if isNarrow {
                    kernels_patches(
                        work.weights, KERNELS_BF16, widened, Int64(columns.lowerBound), Int64(columns.count),
                        Int64(from), Int64(to), 1, 1, Int64(depth), 1, 1, 1, 1, 0)
                } else {
                    b = work.weights.assumingMemoryBound(to: Float.self) + columns.lowerBound * depth
                }
                let count = to - from
                cblas_sgemm(
                    CblasRowMajor, CblasNoTrans, CblasTrans, blasint(rows), blasint(columns.count), blasint(count), 1,
                    a, blasint(count), b, blasint(count), shape.accumulate || from > 0 ? 1 : 0,
                    destination + (columns.lowerBound - left), blasint(stride))
            }
        }

        for columns in columnTiles.map(work.columns(ofTile:)) {
            for row in 0..<rows {
                let sums = destination + row * stride + (columns.lowerBound - left)
                if let bias = work.bias {
                    for column in 0..<columns.count { sums[column] += bias[columns.lowerBound + column] }
                }
                guard shape.destination == .bfloat16 else { continue }
                let narrow = work.destination.assumingMemoryBound(to: UInt16.self)
                kernels_f32_to_bf16(
                    sums, narrow + (firstRow + row) * outputs + columns.lowerBound, Int64(columns.count))
            }
        }
    }

    /// `[outputs, kernel, kernel, inputs]`, the order in which a channels-last patch lies in memory, in the type of the sources.
    private func packed(_ weights: Weights, as type: ElementType) throws(EngineError) -> UnsafeRawPointer {
        if let made = weights.packed.first(where: { $0.product == nil }) {
            return UnsafeRawPointer(made.storage.pointer)
        }
        let layout = type == .bfloat16 ? "bf16 tiles" : "f32 tiles"
        let storage = try weights.pack(as: layout, byteCount: weights.count * type.byteCount) {
            memory throws(EngineError) in
            switch type {
            case .float32:
                try arrange(weights, into: memory.bindMemory(to: Float.self, capacity: weights.count))
            case .bfloat16:
                let floats = UnsafeMutablePointer<Float>.allocate(capacity: weights.count)
                defer { floats.deallocate() }
                try arrange(weights, into: floats)
                kernels_f32_to_bf16(
                    floats, memory.bindMemory(to: UInt16.self, capacity: weights.count), Int64(weights.count))
            }
        }
        return UnsafeRawPointer(storage.pointer)
    }

    private func arrange(_ weights: Weights, into packed: UnsafeMutablePointer<Float>) throws(EngineError) {
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
}
