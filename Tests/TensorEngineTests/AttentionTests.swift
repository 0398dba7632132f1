import CKernels
import Testing

/// Fused attention on each instruction set against the textbook.
@Suite struct AttentionTests {
    /// Sizes of one attention; q, k and v are columns of wider matrices, y has room between its rows.
    struct Shape: CustomTestStringConvertible, Sendable {
        var n = 1, memories = 1, heads = 1
        let headSize: Int, queries: Int, keys: Int
        var causal = false

        var testDescription: String {
            "\(n) of \(memories) x \(heads) heads of \(headSize), \(queries) x \(keys)\(causal ? ", causal" : "")"
        }
        var width: Int { heads * headSize }
        var queryStride: Int { width + 6 }
        var keyStride: Int { 2 * width + 10 }
        var outputStride: Int { width + 3 }
    }

    static let shapes: [Shape] = [
        Shape(headSize: 16, queries: 1, keys: 1),
        Shape(heads: 2, headSize: 40, queries: 1, keys: 300),
        Shape(heads: 3, headSize: 40, queries: 50, keys: 1),
        Shape(n: 2, memories: 2, heads: 2, headSize: 64, queries: 97, keys: 77),
        Shape(n: 3, memories: 1, heads: 2, headSize: 64, queries: 48, keys: 257),
        Shape(n: 2, memories: 1, heads: 1, headSize: 80, queries: 53, keys: 65),
        Shape(heads: 2, headSize: 160, queries: 49, keys: 255),
        Shape(headSize: 512, queries: 55, keys: 130),
        Shape(heads: 2, headSize: 64, queries: 77, keys: 77, causal: true),
        Shape(heads: 1, headSize: 16, queries: 300, keys: 300, causal: true),
        Shape(heads: 1, headSize: 24, queries: 90, keys: 40, causal: true),
        Shape(n: 2, memories: 2, heads: 1, headSize: 40, queries: 7, keys: 300, causal: true),
        // Head sizes of no model: odd, below a vector, above what the fused kernels hold.
        Shape(heads: 3, headSize: 7, queries: 20, keys: 33),
        Shape(heads: 2, headSize: 2, queries: 13, keys: 70),
        Shape(headSize: 514, queries: 3, keys: 5),
    ]

    private struct Inputs {
        var q: [Float], k: [Float], v: [Float]
        /// Elements before the first head's columns.
        let queryColumn = 4, keyColumn = 2, valueColumn: Int

        init(_ shape: Shape, seed: UInt64, reach: Float = 1) {
            var random = RandomValues(seed: seed)
            q = random.bfloats(shape.n * shape.queries * shape.queryStride, in: -reach...reach)
            k = random.bfloats(shape.memories * shape.keys * shape.keyStride, in: -reach...reach)
            v = random.bfloats(shape.memories * shape.keys * shape.keyStride)
            valueColumn = shape.width + 6
        }
    }

    /// Calls `body` with the description of an attention over `inputs`, and returns what it wrote to y.
    private func results(
        _ shape: Shape, _ inputs: Inputs, _ type: kernels_type, _ body: (inout kernels_attention_shape) -> Void
    ) -> Elements {
        let size = type == KERNELS_F32 ? 4 : 2
        let y = Elements(count: shape.n * shape.queries * shape.outputStride, type)
        encoded(inputs.q, type).withUnsafeBytes { q in
            encoded(inputs.k, type).withUnsafeBytes { k in
                encoded(inputs.v, type).withUnsafeBytes { v in
                    var described = kernels_attention_shape(
                        q: q.baseAddress.map { $0 + inputs.queryColumn * size },
                        k: k.baseAddress.map { $0 + inputs.keyColumn * size },
                        v: v.baseAddress.map { $0 + inputs.valueColumn * size }, y: y.pointer,
                        q_stride: Int64(shape.queryStride), k_stride: Int64(shape.keyStride),
                        v_stride: Int64(shape.keyStride), y_stride: Int64(shape.outputStride), n: Int64(shape.n),
                        kv_n: Int64(shape.memories), heads: Int64(shape.heads), head_size: Int64(shape.headSize),
                        queries: Int64(shape.queries), keys: Int64(shape.keys), causal: shape.causal, type: type,
                        scratch: nil, log_sums: nil)
                    body(&described)
                }
            }
        }
        #expect(y.isTailIntact)
        return y
    }

    private func reference(_ shape: Shape, _ inputs: Inputs) -> [Float] {
        results(shape, inputs, KERNELS_F32) { reference_attention(&$0) }.values
    }

    private func fused(_ shape: Shape, _ inputs: Inputs, _ type: kernels_type) -> Elements {
        results(shape, inputs, type) { described in
            let scratch = Elements(count: (kernels_attention_scratch_bytes(&described) + 3) / 4)
            described.scratch = scratch.pointer
            kernels_attention(&described)
            #expect(scratch.isTailIntact)
        }
    }

    /// The places of y that belong to a head; between its rows lie three that nobody may touch.
    private func split(_ shape: Shape, _ y: [Float]) -> (results: [Float], gaps: [Float]) {
        var results: [Float] = []
        var gaps: [Float] = []
        for (i, value) in y.enumerated() {
            if i % shape.outputStride < shape.width { results.append(value) } else { gaps.append(value) }
        }
        return (results, gaps)
    }

    @Test(arguments: InstructionSet.present, shapes) func equalsTheTextbook(_ set: InstructionSet, _ shape: Shape) {
        for (seed, reach) in [(1, Float(1)), (2, 4)] as [(UInt64, Float)] {
            let inputs = Inputs(shape, seed: seed, reach: reach)
            let expected = split(shape, reference(shape, inputs)).results
            #expect(expected.allSatisfy { $0.isFinite })
            for type in elementTypes {
                let (results, gaps) = split(shape, set.run { fused(shape, inputs, type) }.values)
                // In bfloat16 each weight and the result are rounded: 2^-9 of the greatest |v|, which is 1, each.
                let error = worst(
                    results, expected, absolute: type == KERNELS_F32 ? 4e-6 * reach * reach : 0x1p-8, relative: 0)
                #expect(error <= 1, "\(type), scores of about \(reach * reach)")
                #expect(gaps.allSatisfy { $0.isNaN })
            }
        }
    }

    /// Scores of 10^5 and more: the softmax is a choice of the greatest, and nothing overflows.
    @Test(arguments: InstructionSet.present, elementTypes) func hugeScores(_ set: InstructionSet, _ type: kernels_type)
    {
        let shape = Shape(heads: 2, headSize: 64, queries: 50, keys: 270)
        let inputs = Inputs(shape, seed: 3, reach: 600)
        let expected = split(shape, reference(shape, inputs)).results
        let results = split(shape, set.run { fused(shape, inputs, type) }.values).results
        // fp32 sums in another order: a score of 10^5 is uncertain by about 0.1, which only near ties show.
        let far = zip(results, expected).count { ($0 - $1).magnitude > 0.1 || !$0.isFinite }
        #expect(far == 0)
    }

    /// A score of minus infinity weighs nothing, and equal scores weigh the same.
    @Test(arguments: InstructionSet.present, elementTypes) func maskedKeys(_ set: InstructionSet, _ type: kernels_type)
    {
        let shape = Shape(headSize: 16, queries: 5, keys: 300)
        var inputs = Inputs(shape, seed: 4)
        for i in inputs.q.indices { inputs.q[i] = 1 }
        for key in 0..<shape.keys {
            for p in 0..<16 { inputs.k[key * shape.keyStride + inputs.keyColumn + p] = key % 3 == 0 ? 0.5 : -.infinity }
        }
        let expected = (0..<16).map { p in
            (0..<100).reduce(Float(0)) { $0 + inputs.v[$1 * 3 * shape.keyStride + inputs.valueColumn + p] } / 100
        }
        let results = split(shape, set.run { fused(shape, inputs, type) }.values).results
        for query in 0..<shape.queries {
            let row = Array(results[query * 16..<(query + 1) * 16])
            #expect(worst(row, expected, absolute: type == KERNELS_F32 ? 1e-6 : 0x1p-8, relative: 0) <= 1)
        }
    }

    /// Something that is not a number in a query spoils that query alone; in a key, every query that sees it: never
    /// silence.
    @Test(arguments: InstructionSet.present, elementTypes)
    func notANumberShows(_ set: InstructionSet, _ type: kernels_type) {
        let shape = Shape(headSize: 16, queries: 60, keys: 280)
        let sound = Inputs(shape, seed: 5)
        var inputs = sound
        inputs.q[20 * shape.queryStride + inputs.queryColumn + 3] = .nan
        var results = split(shape, set.run { fused(shape, inputs, type) }.values).results
        #expect(results.enumerated().allSatisfy { ($0 / 16 == 20) == $1.isNaN })

        inputs = sound
        inputs.k[270 * shape.keyStride + inputs.keyColumn] = .nan
        results = split(shape, set.run { fused(shape, inputs, type) }.values).results
        #expect(results.allSatisfy { $0.isNaN })

        inputs = sound
        inputs.v[7 * shape.keyStride + inputs.valueColumn + 2] = .nan
        results = split(shape, set.run { fused(shape, inputs, type) }.values).results
        #expect(results.enumerated().allSatisfy { ($0 % 16 == 2) == $1.isNaN })
    }

    @Test(arguments: InstructionSet.present, elementTypes)
    func anEntryOfABatchIsAsAlone(_ set: InstructionSet, _ type: kernels_type) throws {
        let shape = Shape(n: 3, memories: 3, heads: 2, headSize: 40, queries: 61, keys: 77)
        let inputs = Inputs(shape, seed: 6)
        let together = set.run { fused(shape, inputs, type) }.bytes
        var alone: [UInt8] = []
        var one = shape
        (one.n, one.memories) = (1, 1)
        for image in 0..<3 {
            var part = inputs
            part.q = Array(inputs.q[image * 61 * shape.queryStride..<(image + 1) * 61 * shape.queryStride])
            part.k = Array(inputs.k[image * 77 * shape.keyStride..<(image + 1) * 77 * shape.keyStride])
            part.v = Array(inputs.v[image * 77 * shape.keyStride..<(image + 1) * 77 * shape.keyStride])
            alone += set.run { fused(one, part, type) }.bytes
        }
        #expect(together == alone)
    }
}
