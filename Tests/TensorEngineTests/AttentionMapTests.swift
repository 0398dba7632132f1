import CKernels
import Foundation
import Testing

@testable import TensorEngine

/// Maps of attention against softmax by its formula, in double precision.
@Suite struct AttentionMapTests {
    struct Shape: Sendable {
        let heads: Int, width: Int, queries: Int, keys: Int
        var entries = 2, firstKey = 0, memories = 1
    }

    static let shapes = [
        Shape(heads: 1, width: 16, queries: 4, keys: 3), Shape(heads: 2, width: 80, queries: 50, keys: 70),
        Shape(heads: 5, width: 40, queries: 97, keys: 300, firstKey: 130),
        Shape(heads: 2, width: 24, queries: 49, keys: 65, memories: 2),
        Shape(heads: 1, width: 514, queries: 3, keys: 5),
    ]

    @Test(arguments: shapes, [ComputePath.openBLAS, .best])
    func mapsAreSoftmax(_ shape: Shape, _ path: ComputePath) throws {
        let engine = try Engine(path: path)
        var random = RandomValues(seed: 5)
        let (c, keys) = (shape.width, shape.keys)
        let q = random.bfloats(shape.entries * shape.queries * c, in: -2...2)
        let k = random.bfloats(shape.memories * keys * 2 * c, in: -2...2)
        func tensor(_ values: [Float], _ dimensions: [Int]) throws -> Tensor {
            try engine.converted(try engine.tensor(values, shape: dimensions), to: engine.activationType)
        }
        let (query, memory) = (
            try tensor(q, [shape.entries, shape.queries, c]), try tensor(k, [shape.memories, keys, 2 * c])
        )
        let kept = try engine.attentionKept(
            q: Columns(query), k: Columns(memory, 0, c), v: Columns(memory, c, c), heads: shape.heads
        ).kept
        let cells = (0..<shape.queries).map { Int32($0 % 3) }
        let entry = shape.entries - 1
        var map = AttentionMap(cells: cells, keyCount: keys - shape.firstKey)
        for _ in 0..<2 { try engine.addAttention(kept, entry: entry, firstKey: shape.firstKey, to: &map) }
        let expected = softmax(shape, q, k, entry: entry, cells: cells)
        // The log-sums are those of the attention itself, whose products may be of bfloat16 values: exact here.
        for (found, expected) in zip(map.means, expected) { #expect(abs(found - expected) < 2e-5) }
        if shape.firstKey == 0 {
            for cell in 0..<map.cellCount {
                let sum = map.means[(cell * keys)..<((cell + 1) * keys)].reduce(0, +)
                #expect(abs(sum - 1) < 1e-4)
            }
        }
    }

    private func softmax(_ shape: Shape, _ q: [Float], _ k: [Float], entry: Int, cells: [Int32]) -> [Float] {
        let (c, d) = (shape.width, shape.width / shape.heads)
        let count = shape.keys - shape.firstKey
        let cellCount = Int(cells.max() ?? 0) + 1
        var sums = [Double](repeating: 0, count: cellCount * count)
        for head in 0..<shape.heads {
            for i in 0..<shape.queries {
                let scores = (0..<shape.keys).map { j in
                    (0..<d).reduce(0.0) { sum, p in
                        let row = (shape.memories == 1 ? 0 : entry) * shape.keys + j
                        return sum + Double(q[(entry * shape.queries + i) * c + head * d + p])
                            * Double(k[row * 2 * c + head * d + p])
                    } / Double(d).squareRoot()
                }
                let top = scores.max() ?? 0
                let weights = scores.map { exp($0 - top) }
                let total = weights.reduce(0, +)
                for j in 0..<count {
                    sums[Int(cells[i]) * count + j] += weights[shape.firstKey + j] / total / Double(shape.heads)
                }
            }
        }
        return sums.indices.map { index in
            Float(sums[index] / Double(cells.count { Int($0) == index / count }))
        }
    }

    /// The fused kernel against its scalar twin, whatever the number of threads.
    @Test func theKernelIsItsTwin() throws {
        var random = RandomValues(seed: 9)
        let (queries, keys, d) = (53, 131, 40)
        var (q, k) = (random.bfloats(queries * d), random.bfloats(keys * d))
        var logSums = (0..<queries).map { Float($0 % 5) }
        let cells = (0..<queries).map { Int32($0 / 10) }
        func map(_ compute: (UnsafePointer<kernels_attention_map_shape>) -> Void) -> [Float] {
            var result = [Float](repeating: 0, count: 6 * keys)
            q.withUnsafeMutableBytes { q in
                k.withUnsafeMutableBytes { k in
                    logSums.withUnsafeMutableBufferPointer { logSums in
                        cells.withUnsafeBufferPointer { cells in
                            result.withUnsafeMutableBufferPointer { result in
                                var shape = kernels_attention_map_shape()
                                shape.forward = kernels_attention_shape(
                                    q: q.baseAddress, k: k.baseAddress, v: k.baseAddress, y: nil, q_stride: Int64(d),
                                    k_stride: Int64(d), v_stride: Int64(d), y_stride: Int64(d), n: 1, kv_n: 1, heads: 1,
                                    head_size: Int64(d), queries: Int64(queries), keys: Int64(keys), causal: false,
                                    type: KERNELS_F32, scratch: nil, log_sums: logSums.baseAddress)
                                (shape.key_count, shape.map_stride) = (Int64(keys), Int64(keys))
                                (shape.cells, shape.map) = (cells.baseAddress, result.baseAddress)
                                shape.weight = 0.5
                                let scratch = UnsafeMutableRawPointer.allocate(
                                    byteCount: kernels_attention_map_scratch_bytes(&shape), alignment: 64)
                                defer { scratch.deallocate() }
                                shape.scratch = scratch
                                compute(&shape)
                            }
                        }
                    }
                }
            }
            return result
        }
        let fused = map(kernels_attention_map)
        for (a, b) in zip(fused, map(reference_attention_map)) { #expect(abs(a - b) <= 1e-5 * max(1, abs(b))) }
        #expect(fused == map(kernels_attention_map))
    }
}
