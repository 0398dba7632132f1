import CKernels
import Testing

/// The kernels that work along rows, on each instruction set, against their scalar twins.
@Suite struct RowKernelTests {
    private let sizes = [1, 2, 7, 15, 16, 17, 31, 33, 64, 255, 16_384, 16_384 + 37]

    // MARK: Conversion

    @Test(arguments: InstructionSet.present) func everyBFloat16IsReadExactly(_ set: InstructionSet) {
        let x = (0...UInt16.max).map { $0 }
        let y = Elements(count: x.count)
        set.run { kernels_bf16_to_f32(x, y.floatPointer, Int64(x.count)) }
        #expect(zip(x, y.values).allSatisfy { $1.bitPattern == UInt32($0) << 16 })
        #expect(y.isTailIntact)
    }

    @Test(arguments: InstructionSet.present) func roundingIsToNearestTiesToEven(_ set: InstructionSet) {
        // Around every bfloat16: itself, just above, the tie and its neighbours, just below the next.
        let lowHalves: [UInt32] = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
        let x = (0...UInt32(UInt16.max)).flatMap { high in lowHalves.map { Float(bitPattern: high << 16 | $0) } }
        let y = Elements(count: x.count, KERNELS_BF16)
        set.run { kernels_f32_to_bf16(x, y.bfloatPointer, Int64(x.count)) }
        var wrong: [Int] = []
        for i in 0..<x.count where BFloat16(x[i]).bits != y.bfloatPointer[i] { wrong.append(i) }
        #expect(wrong.isEmpty, "first at bits \(String(x[wrong.first ?? 0].bitPattern, radix: 16))")
        #expect(y.isTailIntact)
    }

    @Test(arguments: InstructionSet.present) func conversionsOfOddSizesStayInside(_ set: InstructionSet) {
        var random = RandomValues(seed: 1)
        for size in sizes {
            let x = random.floats(size)
            let narrow = Elements(count: size, KERNELS_BF16)
            let wide = Elements(count: size)
            set.run {
                kernels_f32_to_bf16(x, narrow.bfloatPointer, Int64(size))
                kernels_bf16_to_f32(narrow.bfloatPointer, wide.floatPointer, Int64(size))
            }
            #expect(wide.values == x.map { BFloat16($0).value })
            #expect(narrow.isTailIntact && wide.isTailIntact)
        }
    }

    // MARK: Elementwise

    private typealias Kernel = (
        UnsafeRawPointer?, kernels_type, UnsafeMutableRawPointer?, kernels_type, Int64
    ) -> Void
    private typealias Reference = (UnsafePointer<Float>?, UnsafeMutablePointer<Float>?, Int64) -> Void
    private let activations: [(String, Kernel, Reference)] = [
        ("silu", kernels_silu, reference_silu), ("gelu", kernels_gelu, reference_gelu),
        ("quick gelu", kernels_quick_gelu, reference_quick_gelu),
    ]

    @Test(arguments: InstructionSet.present) func activations(_ set: InstructionSet) {
        var random = RandomValues(seed: 2)
        for (name, kernel, reference) in activations {
            for size in sizes {
                for reach: Float in [1, 12, 200] {
                    let plain = random.bfloats(size, in: -reach...reach)
                    let expected = Elements(count: size)
                    reference(plain, expected.floatPointer, Int64(size))
                    for from in elementTypes {
                        for to in elementTypes {
                            let x = encoded(plain, from)
                            let y = Elements(count: size, to)
                            set.run { kernel(x, from, y.pointer, to, Int64(size)) }
                            let error = worst(
                                y.values, expected.values, absolute: 4e-7 * reach,
                                relative: to == KERNELS_F32 ? 2e-6 : 0x1p-8)
                            #expect(error <= 1, "\(name) of \(size) within \(reach), \(from) to \(to)")
                            #expect(y.isTailIntact)
                        }
                    }
                }
            }
        }
    }

    @Test(arguments: InstructionSet.present) func activationsOfExtremes(_ set: InstructionSet) {
        let extremes: [Float] = [
            0, -0.0, .leastNonzeroMagnitude, -.leastNormalMagnitude, 1e-20, 87, 88.5, 89, -87, -87.5, -88.5, -104, 1e30,
            -1e30, .greatestFiniteMagnitude, .infinity, .nan,
        ]
        for (name, kernel, reference) in activations {
            let x = extremes
            let y = Elements(count: x.count)
            let expected = Elements(count: x.count)
            reference(x, expected.floatPointer, Int64(x.count))
            set.run { kernel(x, KERNELS_F32, y.pointer, KERNELS_F32, Int64(x.count)) }
            for (i, input) in extremes.enumerated() {
                let error = worst([y.values[i]], [expected.values[i]], absolute: 1e-30, relative: 2e-6)
                // Where the true value is below 1e-30 the kernel may give zero.
                #expect(error <= 1, "\(name)(\(input)) = \(y.values[i]), expected \(expected.values[i])")
            }
        }
    }

    @Test(arguments: InstructionSet.present, [Float(4), 40]) func geglu(_ set: InstructionSet, reach: Float) {
        var random = RandomValues(seed: 3)
        for (rows, c) in [(1, 1), (3, 7), (33, 16), (65, 33), (2, 1280)] {
            let plain = random.bfloats(rows * 2 * c, in: -reach...reach)
            let expected = Elements(count: rows * c)
            reference_geglu(plain, expected.floatPointer, Int64(rows), Int64(c))
            for from in elementTypes {
                for to in elementTypes {
                    let x = encoded(plain, from)
                    let y = Elements(count: rows * c, to)
                    set.run { kernels_geglu(x, from, y.pointer, to, Int64(rows), Int64(c)) }
                    let error = worst(
                        y.values, expected.values, absolute: reach * 1e-6,
                        relative: to == KERNELS_BF16 ? 0x1p-8 : 2e-6)
                    #expect(error <= 1, "[\(rows), \(2 * c)], \(from) to \(to)")
                    #expect(y.isTailIntact)
                }
            }
        }
    }

    /// Where exponentials overflow.
    @Test(arguments: InstructionSet.present) func narrowActivationsOfExtremes(_ set: InstructionSet) {
        let extremes: [Float] = [
            0, -4.5, 4.5, -4.6, 4.6, -30, 30, -87, -88.5, 88.5, -104, -200, 200, -3000, 3000, -1e30, 1e30,
            .infinity, .nan, -.infinity,
        ]
        let (c, ones) = (extremes.count, [Float](repeating: 1, count: extremes.count))
        let y = Elements(count: c, KERNELS_BF16)
        let expected = Elements(count: c)
        reference_geglu(ones + extremes, expected.floatPointer, 1, Int64(c))
        set.run { kernels_geglu(ones + extremes, KERNELS_F32, y.pointer, KERNELS_BF16, 1, Int64(c)) }
        #expect(worst(y.values, expected.values, absolute: 1e-6, relative: 0x1p-8) <= 1)

        // A group without variance: its bias comes out, then SiLU of it.
        let finite = Array(extremes.filter(\.isFinite))
        let shaped = Elements(count: finite.count, KERNELS_BF16)
        let scratch = Elements(count: kernels_group_norm_scratch_bytes(1, 1, Int64(finite.count)) / 4)
        reference_silu(finite, expected.floatPointer, Int64(finite.count))
        set.run {
            kernels_group_norm(
                ones, ones, finite, 1e-5, true, shaped.pointer, KERNELS_BF16, nil, 1, 1, Int64(finite.count), 1,
                scratch.pointer)
        }
        #expect(
            worst(shaped.values, Array(expected.values.prefix(finite.count)), absolute: 1e-4, relative: 0x1p-8) <= 1)
    }

    // MARK: Normalisation

    @Test(arguments: InstructionSet.present) func layerNorm(_ set: InstructionSet) {
        var random = RandomValues(seed: 5)
        for (rows, c) in [(1, 1), (1, 2), (5, 15), (33, 16), (3, 77), (70, 320), (2, 1283)] {
            for mean: Float in [0, 300] {
                let x = random.floats(rows * c, in: mean - 1...mean + 1)
                let (weight, bias) = (random.floats(c, in: 0.5...2), random.floats(c))
                let expected = Elements(count: rows * c)
                reference_layer_norm(x, weight, bias, 1e-5, expected.floatPointer, Int64(rows), Int64(c))
                for type in elementTypes {
                    let y = Elements(count: rows * c, type)
                    set.run { kernels_layer_norm(x, weight, bias, 1e-5, y.pointer, type, nil, Int64(rows), Int64(c)) }
                    let error = worst(
                        y.values, expected.values, absolute: mean == 0 ? 1e-5 : 4e-4,
                        relative: type == KERNELS_F32 ? 1e-5 : 0x1p-8)
                    #expect(error <= 1, "[\(rows), \(c)] around \(mean) to \(type)")
                    #expect(y.isTailIntact)
                }
            }
        }
    }

    @Test(arguments: InstructionSet.present, [Float(0), 30, 3000]) func groupNorm(_ set: InstructionSet, mean: Float) {
        var random = RandomValues(seed: 6)
        let shapes = [(1, 1, 32, 4), (1, 7, 6, 3), (2, 64, 32, 4), (3, 65, 33, 11), (1, 200, 320, 32), (2, 129, 5, 1)]
        for (n, pixels, c, groups) in shapes {
            // Each channel around its own mean, as in a network: the variance of a group is also that between channels.
            let offsets = random.floats(c, in: mean...mean + 0.5)
            let x = random.floats(n * pixels * c).enumerated().map { $1 + offsets[$0 % c] }
            let (weight, bias) = (random.floats(c, in: 0.5...2), random.floats(c))
            let scratch = Elements(
                count: kernels_group_norm_scratch_bytes(Int64(n), Int64(pixels), Int64(c)) / 4)
            for silu in [false, true] {
                let expected = Elements(count: x.count)
                reference_group_norm(
                    x, weight, bias, 1e-5, silu, expected.floatPointer, Int64(n), Int64(pixels), Int64(c),
                    Int64(groups))
                for type in elementTypes {
                    let y = Elements(count: x.count, type)
                    set.run {
                        kernels_group_norm(
                            x, weight, bias, 1e-5, silu, y.pointer, type, nil, Int64(n), Int64(pixels), Int64(c),
                            Int64(groups), scratch.pointer)
                    }
                    // x * scale + shift in fp32 cannot do better than the resolution of the mean.
                    let error = worst(
                        y.values, expected.values, absolute: 1e-5 + mean * 2e-6,
                        relative: type == KERNELS_F32 ? 1e-5 : 0x1p-8)
                    #expect(error <= 1, "[\(n), \(pixels), \(c)] in \(groups), SiLU \(silu), to \(type)")
                    #expect(y.isTailIntact && scratch.isTailIntact)
                }
            }
        }
    }

    /// No variance at all: the bias comes out, up to what fp32 resolves after the division by sqrt(eps).
    @Test(arguments: InstructionSet.present) func constantsBecomeTheBias(_ set: InstructionSet) {
        let (pixels, c) = (70, 20)
        let bias = (0..<c).map { Float($0) }
        let ones = [Float](repeating: 1, count: c)
        let x = [Float](repeating: 2.75, count: pixels * c)
        let y = Elements(count: x.count)
        let scratch = Elements(count: kernels_group_norm_scratch_bytes(1, Int64(pixels), Int64(c)) / 4)
        let expected = (0..<pixels).flatMap { _ in bias }
        set.run {
            kernels_group_norm(
                x, ones, bias, 1e-5, false, y.pointer, KERNELS_F32, nil, 1, Int64(pixels), Int64(c), 4, scratch.pointer)
        }
        #expect(worst(y.values, expected, absolute: 2e-4, relative: 0) <= 1)
        set.run { kernels_layer_norm(x, ones, bias, 1e-5, y.pointer, KERNELS_F32, nil, Int64(pixels), Int64(c)) }
        #expect(y.values == expected)
    }

    @Test(arguments: InstructionSet.present) func notANumberSpoilsItsOwnRowOrGroupOnly(_ set: InstructionSet) {
        var x = RandomValues(seed: 7).withOneNaN(count: 4 * 40, at: 45)
        let ones = [Float](repeating: 1, count: 40)
        let y = Elements(count: x.count)
        set.run { kernels_layer_norm(x, ones, ones, 1e-5, y.pointer, KERNELS_F32, nil, 4, 40) }
        #expect(y.values.enumerated().allSatisfy { ($0 / 40 == 1) == $1.isNaN })

        // One image of 4 pixels in 4 groups of 10 channels: channel 5 is in group 0.
        let scratch = Elements(count: kernels_group_norm_scratch_bytes(1, 4, 40) / 4)
        set.run {
            kernels_group_norm(x, ones, ones, 1e-5, true, y.pointer, KERNELS_F32, nil, 1, 4, 40, 4, scratch.pointer)
        }
        #expect(y.values.enumerated().allSatisfy { ($0 % 40 < 10) == $1.isNaN })

        x[45] = .infinity
        set.run { kernels_layer_norm(x, ones, ones, 1e-5, y.pointer, KERNELS_F32, nil, 4, 40) }
        #expect(y.values.enumerated().allSatisfy { ($0 / 40 == 1) == $1.isNaN })
    }
}

extension RandomValues {
    fileprivate func withOneNaN(count: Int, at index: Int) -> [Float] {
        var copy = self
        var values = copy.floats(count)
        values[index] = .nan
        return values
    }
}
