import CKernels
import Testing

/// The way back on each instruction set against the textbook, on odd sizes.
@Suite struct GradientKernelTests {
    @Test(arguments: InstructionSet.present, elementTypes)
    func activations(_ set: InstructionSet, _ type: kernels_type) {
        typealias Kernel = (
            UnsafeRawPointer?, kernels_type, UnsafePointer<Float>?, UnsafeMutablePointer<Float>?, Int64
        ) -> Void
        typealias Twin = (UnsafePointer<Float>?, UnsafePointer<Float>?, UnsafeMutablePointer<Float>?, Int64) -> Void
        let pairs: [(String, Kernel, Twin)] = [
            ("silu", kernels_silu_gradient, reference_silu_gradient),
            ("gelu", kernels_gelu_gradient, reference_gelu_gradient),
            ("quick gelu", kernels_quick_gelu_gradient, reference_quick_gelu_gradient),
        ]
        for count in [1, 15, 16_385] {
            var random = RandomValues(seed: UInt64(count))
            let (x, dy) = (random.bfloats(count, in: -12...12), random.floats(count))
            for (name, kernel, twin) in pairs {
                let (found, expected) = (Elements(count: count), Elements(count: count))
                encoded(x, type).withUnsafeBytes { bytes in
                    set.run { kernel(bytes.baseAddress, type, dy, found.floatPointer, Int64(count)) }
                }
                twin(x, dy, expected.floatPointer, Int64(count))
                #expect(worst(found.values, expected.values, absolute: 1e-6, relative: 1e-5) <= 1, "\(name)")
                #expect(found.isTailIntact)
            }
        }
    }

    @Test(arguments: InstructionSet.present, elementTypes)
    func geglu(_ set: InstructionSet, _ type: kernels_type) {
        for (rows, c) in [(1, 1), (35, 29), (3, 640)] {
            var random = RandomValues(seed: UInt64(c))
            let (x, dy) = (random.bfloats(rows * 2 * c, in: -5...5), random.floats(rows * c))
            let (found, expected) = (Elements(count: rows * 2 * c), Elements(count: rows * 2 * c))
            encoded(x, type).withUnsafeBytes { bytes in
                set.run {
                    kernels_geglu_gradient(bytes.baseAddress, type, dy, found.floatPointer, Int64(rows), Int64(c))
                }
            }
            reference_geglu_gradient(x, dy, expected.floatPointer, Int64(rows), Int64(c))
            #expect(worst(found.values, expected.values, absolute: 3e-6, relative: 1e-5) <= 1)
            #expect(found.isTailIntact)
        }
    }

    @Test(arguments: InstructionSet.present) func layerNorm(_ set: InstructionSet) {
        for (rows, c) in [(1, 7), (37, 45), (5, 320), (70, 129)] {
            var random = RandomValues(seed: UInt64(c))
            // Far from zero, as a residual stream is.
            let (x, dy) = (random.floats(rows * c, in: 2...5), random.floats(rows * c))
            let (weight, bias) = (random.floats(c), random.floats(c))
            let (y, statistics) = (Elements(count: rows * c), Elements(count: 2 * rows))
            let (found, expected) = (Elements(count: rows * c), Elements(count: rows * c))
            var (byWeight, byBias) = ([Float](repeating: 1, count: c), [Float](repeating: 2, count: c))
            var (twinByWeight, twinByBias) = (byWeight, byBias)
            let (r, n) = (Int64(rows), Int64(c))
            set.run {
                kernels_layer_norm(x, weight, bias, 1e-5, y.pointer, KERNELS_F32, statistics.floatPointer, r, n)
                kernels_layer_norm_gradient(x, weight, statistics.floatPointer, dy, found.floatPointer, r, n)
                kernels_layer_norm_parameter_gradient(x, statistics.floatPointer, dy, &byWeight, &byBias, r, n)
            }
            reference_layer_norm_gradient(
                x, weight, 1e-5, dy, expected.floatPointer, &twinByWeight, &twinByBias, r, n)
            #expect(worst(found.values, expected.values, absolute: 1e-5, relative: 1e-4) <= 1)
            #expect(worst(byWeight, twinByWeight, absolute: 2e-5, relative: 1e-4) <= 1)
            #expect(worst(byBias, twinByBias, absolute: 1e-5, relative: 1e-5) <= 1)
            #expect(found.isTailIntact && statistics.isTailIntact)
        }
    }

    @Test(arguments: InstructionSet.present, [false, true]) func groupNorm(_ set: InstructionSet, _ silu: Bool) {
        for (n, pixels, c, groups) in [(2, 143, 30, 6), (1, 1, 8, 4), (1, 65, 96, 32), (3, 64, 17, 1)] {
            var random = RandomValues(seed: UInt64(pixels))
            let count = n * pixels * c
            let (x, dy) = (random.floats(count, in: -1...4), random.floats(count))
            let (weight, bias) = (random.floats(c), random.floats(c))
            let (y, statistics) = (Elements(count: count), Elements(count: 2 * n * groups))
            let (found, expected) = (Elements(count: count), Elements(count: count))
            let sizes = (Int64(n), Int64(pixels), Int64(c), Int64(groups))
            let room = Elements(count: kernels_group_norm_scratch_bytes(sizes.0, sizes.1, sizes.2) / 4)
            let backRoom = Elements(count: kernels_group_norm_gradient_scratch_bytes(sizes.0, sizes.1, sizes.2) / 4)
            set.run {
                kernels_group_norm(
                    x, weight, bias, 1e-5, silu, y.pointer, KERNELS_F32, statistics.floatPointer, sizes.0, sizes.1,
                    sizes.2, sizes.3, room.pointer)
                kernels_group_norm_gradient(
                    x, weight, bias, statistics.floatPointer, silu, dy, found.floatPointer, sizes.0, sizes.1, sizes.2,
                    sizes.3, backRoom.pointer)
            }
            reference_group_norm_gradient(
                x, weight, bias, 1e-5, silu, dy, expected.floatPointer, sizes.0, sizes.1, sizes.2, sizes.3)
            #expect(worst(found.values, expected.values, absolute: 1e-5, relative: 1e-4) <= 1)
            #expect(found.isTailIntact && statistics.isTailIntact && backRoom.isTailIntact)
        }
    }

    /// Sizes of one attention.
    struct Shape: Sendable {
        var n = 1, memories = 1, heads = 1
        let headSize: Int, queries: Int, keys: Int
        var width: Int { heads * headSize }
    }

    static let shapes: [Shape] = [
        Shape(headSize: 16, queries: 1, keys: 1),
        Shape(heads: 3, headSize: 40, queries: 50, keys: 1),
        Shape(heads: 2, headSize: 40, queries: 1, keys: 300),
        Shape(n: 2, memories: 2, heads: 2, headSize: 64, queries: 97, keys: 77),
        Shape(n: 3, memories: 1, heads: 2, headSize: 64, queries: 48, keys: 257),
        Shape(heads: 2, headSize: 160, queries: 49, keys: 255),
        Shape(n: 2, memories: 1, heads: 3, headSize: 7, queries: 300, keys: 33),
        Shape(headSize: 514, queries: 3, keys: 5),
    ]

    @Test(arguments: InstructionSet.present, shapes) func attention(_ set: InstructionSet, _ shape: Shape) {
        for type in elementTypes {
            var random = RandomValues(seed: 7)
            let (c, size) = (shape.width, type == KERNELS_F32 ? 4 : 2)
            let (queryRows, keyRows) = (shape.n * shape.queries, shape.memories * shape.keys)
            // Keys and values lie side by side, and so do their gradients; the queries' rows are further apart.
            let (q, kv) = (random.bfloats(queryRows * (c + 3), in: -2...2), random.bfloats(keyRows * 2 * c, in: -2...2))
            let dy = random.floats(queryRows * c)
            let y = Elements(count: queryRows * c, type)
            let logSums = Elements(count: shape.n * shape.heads * shape.queries)
            let (dq, dkv) = (Elements(count: queryRows * (c + 5)), Elements(count: keyRows * 2 * c))
            let (twinQ, twinKV) = (Elements(count: queryRows * (c + 5)), Elements(count: keyRows * 2 * c))
            let onlyQ = Elements(count: queryRows * (c + 5))
            encoded(q, type).withUnsafeBytes { q in
                encoded(kv, type).withUnsafeBytes { kv in
                    var forward = kernels_attention_shape(
                        q: q.baseAddress, k: kv.baseAddress, v: kv.baseAddress.map { $0 + c * size }, y: y.pointer,
                        q_stride: Int64(c + 3), k_stride: Int64(2 * c), v_stride: Int64(2 * c), y_stride: Int64(c),
                        n: Int64(shape.n), kv_n: Int64(shape.memories), heads: Int64(shape.heads),
                        head_size: Int64(shape.headSize), queries: Int64(shape.queries), keys: Int64(shape.keys),
                        causal: false, type: type, scratch: nil, log_sums: logSums.floatPointer)
                    func gradient(_ dq: Elements, _ dkv: Elements?) -> kernels_attention_gradient_shape {
                        kernels_attention_gradient_shape(
                            forward: forward, dy: nil, dq: dq.floatPointer, dk: dkv?.floatPointer,
                            dv: dkv.map { $0.floatPointer + c }, dy_stride: Int64(c), dq_stride: Int64(c + 5),
                            dk_stride: Int64(2 * c), dv_stride: Int64(2 * c), scratch: nil)
                    }
                    dy.withUnsafeBufferPointer { dy in
                        set.run {
                            let room = Elements(count: (kernels_attention_scratch_bytes(&forward) + 3) / 4)
                            forward.scratch = room.pointer
                            kernels_attention(&forward)
                            for (dq, dkv) in [(dq, dkv), (onlyQ, nil)] {
                                var back = gradient(dq, dkv)
                                back.dy = dy.baseAddress
                                let room = Elements(count: kernels_attention_gradient_scratch_bytes(&back) / 4)
                                back.scratch = room.pointer
                                kernels_attention_gradient(&back)
                                #expect(room.isTailIntact)
                            }
                        }
                        var twin = gradient(twinQ, twinKV)
                        twin.dy = dy.baseAddress
                        reference_attention_gradient(&twin)
                    }
                }
            }
            // In bfloat16 the result y, from which the sum of dy y is taken, is rounded.
            let allowed: Float = type == KERNELS_F32 ? 1e-4 : 3e-2
            #expect(worst(dq.values, twinQ.values, absolute: allowed, relative: allowed) <= 1, "\(type)")
            #expect(worst(dkv.values, twinKV.values, absolute: allowed, relative: allowed) <= 1, "\(type)")
            #expect(onlyQ.bytes == dq.bytes)
            #expect(dq.isTailIntact && dkv.isTailIntact && logSums.isTailIntact)
        }
    }

    /// Two steps against the paper's formulas, in double.
    @Test func allParametersAtOnce() {
        let count = 40_003
        var random = RandomValues(seed: 12)
        let x = random.floats(count)
        var y = random.floats(count)
        var sums = [Double](repeating: 0, count: Int(kernels_square_sum_pieces(Int64(count))))
        let square = x.reduce(0) { $0 + Double($1) * Double($1) }
        #expect(abs(kernels_square_sum(x, Int64(count), &sums) / square - 1) < 1e-12)
        let approached = zip(x, y).map { $1 + 0.25 * ($0 - $1) }
        kernels_approach(x, 0.25, &y, Int64(count))
        #expect(worst(y, approached, absolute: 1e-7, relative: 1e-6) <= 1)
        let scaled = y.map { $0 * 0.3 }
        kernels_scale(0.3, &y, Int64(count))
        #expect(y == scaled)
    }

    @Test func adamW() {
        let count = 16_389
        var random = RandomValues(seed: 11)
        var parameters = random.floats(count)
        var (first, second) = ([Float](repeating: 0, count: count), [Float](repeating: 0, count: count))
        var expected = parameters.map(Double.init)
        var (m, v) = ([Double](repeating: 0, count: count), [Double](repeating: 0, count: count))
        for step in 1...2 {
            let gradients = random.floats(count)
            let corrections = step == 1 ? (0.1, 0.001) : (1 - 0.81, 1 - 0.998001)
            var settings = kernels_adamw_settings(
                learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1,
                first_correction: corrections.0, second_correction: corrections.1)
            kernels_adamw(&settings, &parameters, gradients, &first, &second, Int64(count))
            for i in 0..<count {
                let g = Double(gradients[i])
                m[i] = 0.9 * m[i] + 0.1 * g
                v[i] = 0.999 * v[i] + 0.001 * g * g
                expected[i] -= 1e-2 * 0.1 * expected[i]
                expected[i] -= 1e-2 * (m[i] / corrections.0) / ((v[i] / corrections.1).squareRoot() + 1e-8)
            }
        }
        #expect(worst(parameters, expected.map(Float.init), absolute: 1e-6, relative: 1e-6) <= 1)
    }
}
