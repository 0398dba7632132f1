import CKernels
import TensorEngine
import Testing

/// Pooling, resizing, rectification and dilation against their scalar twins, on odd sizes.
@Suite struct PictureOperationTests {
    private static let sizes = [[1, 1, 1, 1], [2, 7, 5, 3], [1, 8, 6, 17], [1, 1, 9, 16], [3, 13, 2, 5]]
    private static let paths: [ComputePath] = [.oneDNNFP32, .openBLAS]

    private func values(_ shape: [Int], seed: UInt64 = 7) -> [Float] {
        var random = RandomValues(seed: seed)
        return random.floats(shape.reduce(1, *), in: -3...3)
    }

    @Test(arguments: sizes) func maxima(_ shape: [Int]) throws {
        let engine = try Engine(path: .openBLAS)
        let x = values(shape)
        let y = try engine.maxPooled(try engine.tensor(x, shape: shape))
        #expect(y.shape == [shape[0], (shape[1] + 1) / 2, (shape[2] + 1) / 2, shape[3]])
        var expected = [Float](repeating: .nan, count: y.count)
        reference_max_pool2(x, &expected, Int64(shape[0]), Int64(shape[1]), Int64(shape[2]), Int64(shape[3]))
        #expect(engine.floats(y) == expected)
    }

    @Test(arguments: sizes, [[1, 1], [5, 11], [16, 12], [3, 40]])
    func interpolation(_ shape: [Int], _ size: [Int]) throws {
        let engine = try Engine(path: .openBLAS)
        let x = values(shape)
        let y = try engine.resized(try engine.tensor(x, shape: shape), height: size[0], width: size[1])
        var expected = [Float](repeating: .nan, count: y.count)
        reference_resize_bilinear(
            x, &expected, Int64(shape[0]), Int64(shape[1]), Int64(shape[2]), Int64(size[0]), Int64(size[1]),
            Int64(shape[3]))
        #expect(y.shape == [shape[0], size[0], size[1], shape[3]])
        #expect(zip(engine.floats(y), expected).allSatisfy { abs($0 - $1) < 1e-5 })
    }

    @Test(arguments: [1, 5, 16_385]) func rectification(_ count: Int) throws {
        let engine = try Engine(path: .openBLAS)
        let (x, y) = (values([count]), values([count], seed: 8))
        var expected = [[Float]](repeating: y, count: 3)
        reference_relu(x, &expected[0], Int64(count))
        reference_add_relu(x, &expected[1], Int64(count))
        reference_sigmoid(x, &expected[2], Int64(count))
        let tensors = try [x, y, x].map { try engine.tensor($0, shape: [count]) }
        try engine.rectify(try engine.copy(tensors[0]), addingTo: tensors[1])
        try engine.rectify(tensors[0])
        try engine.sigmoid(tensors[2])
        #expect(engine.floats(tensors[0]) == expected[0])
        #expect(engine.floats(tensors[1]) == expected[1])
        #expect(zip(engine.floats(tensors[2]), expected[2]).allSatisfy { abs($0 - $1) < 1e-6 })
    }

    @Test(arguments: paths, [1, 2, 3, 8]) func dilation(_ path: ComputePath, _ dilation: Int) throws {
        for shape in Self.sizes {
            let (c, outputs) = (shape[3], 6)
            let engine = try Engine(path: path)
            let (x, weights, bias) = (values(shape), values([outputs, c, 3, 3], seed: 9), values([outputs], seed: 10))
            let made = try engine.weights(
                .convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1), inputs: c, outputs: outputs, bias: bias
            ) { _ = $0.update(from: weights) }
            let y = try engine.product(try engine.tensor(x, shape: shape), made, dilation: dilation)
            var expected = [Float](repeating: .nan, count: y.count)
            reference_dilated_convolution(
                x, weights, bias, &expected, Int64(shape[0]), Int64(shape[1]), Int64(shape[2]), Int64(c),
                Int64(outputs), 3, Int64(dilation))
            #expect(y.shape == Array(shape.dropLast()) + [outputs])
            #expect(zip(engine.floats(y), expected).allSatisfy { abs($0 - $1) < 1e-3 }, "\(shape)")
        }
    }

    @Test func whatDoesNotFitIsSaid() throws {
        let engine = try Engine(path: .openBLAS)
        let flat = try engine.tensor([1, 2, 3], shape: [3])
        #expect(throws: EngineError.self) { try engine.maxPooled(flat) }
        #expect(throws: EngineError.self) { try engine.resized(flat, height: 2, width: 2) }
        #expect(throws: EngineError.self) { try engine.rectify(flat, addingTo: try engine.tensor([1], shape: [1])) }
        let even = try engine.weights(
            .convolution(kernel: 2, stride: 1, padBegin: 1, padEnd: 1), inputs: 1, outputs: 1, bias: nil
        ) { $0.update(repeating: 1) }
        #expect(throws: EngineError.self) {
            try engine.product(try engine.tensor([1], shape: [1, 1, 1, 1]), even, dilation: 2)
        }
    }
}
