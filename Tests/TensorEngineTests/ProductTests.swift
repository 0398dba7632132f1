import CKernels
import TensorEngine
import Testing

/// Linear maps and convolutions of each compute path against loops that follow the definition.
@Suite struct ProductTests {
    static let paths = ComputePath.allCases

    /// A product and its input's size.
    struct Shape: CustomTestStringConvertible, Sendable {
        var n = 1, h = 1, w = 1
        let inputs: Int, outputs: Int
        var kernel = 1, stride = 1, padBegin = 0, padEnd = 0
        var isLinear = false

        var kind: ProductKind {
            isLinear ? .linear : .convolution(kernel: kernel, stride: stride, padBegin: padBegin, padEnd: padEnd)
        }
        var oh: Int { (h + padBegin + padEnd - kernel) / stride + 1 }
        var ow: Int { (w + padBegin + padEnd - kernel) / stride + 1 }
        var testDescription: String {
            isLinear ? "linear [\(n), \(inputs)] -> \(outputs)" : "\(kind) [\(n), \(h), \(w), \(inputs)] -> \(outputs)"
        }

        static func linear(_ n: Int, _ inputs: Int, _ outputs: Int) -> Shape {
            Shape(n: n, inputs: inputs, outputs: outputs, isLinear: true)
        }
    }

    static let shapes: [Shape] = [
        .linear(1, 1, 1), .linear(1, 320, 64), .linear(3, 33, 7), .linear(77, 64, 129), .linear(300, 17, 5),
        .linear(257, 40, 641), .linear(5, 1280, 16), .linear(2, 4096, 3),
        Shape(h: 1, w: 1, inputs: 3, outputs: 5, kernel: 3, padBegin: 1, padEnd: 1),
        Shape(h: 5, w: 7, inputs: 4, outputs: 3, kernel: 3, padBegin: 1, padEnd: 1),
        Shape(n: 2, h: 9, w: 6, inputs: 17, outputs: 20, kernel: 3, padBegin: 1, padEnd: 1),
        Shape(n: 3, h: 8, w: 8, inputs: 32, outputs: 64, kernel: 3, padBegin: 1, padEnd: 1),
        Shape(h: 16, w: 16, inputs: 3, outputs: 32, kernel: 3, padBegin: 1, padEnd: 1),
        Shape(h: 16, w: 16, inputs: 32, outputs: 4, kernel: 3, padBegin: 1, padEnd: 1),
        Shape(n: 2, h: 9, w: 7, inputs: 16, outputs: 33, kernel: 3, stride: 2, padBegin: 1, padEnd: 1),
        Shape(h: 8, w: 10, inputs: 20, outputs: 9, kernel: 3, stride: 2, padBegin: 0, padEnd: 1),
        Shape(h: 7, w: 5, inputs: 6, outputs: 8, kernel: 3, padBegin: 0, padEnd: 0),
        Shape(n: 2, h: 6, w: 6, inputs: 5, outputs: 7, kernel: 3, stride: 2, padBegin: 1, padEnd: 0),
        Shape(n: 2, h: 5, w: 3, inputs: 24, outputs: 48),
        Shape(h: 6, w: 6, inputs: 3, outputs: 4, kernel: 1, stride: 2),
        Shape(h: 17, w: 16, inputs: 4, outputs: 650, kernel: 3, padBegin: 1, padEnd: 1),
    ]

    private struct Values {
        let x: [Float], weights: [Float], bias: [Float], otherBias: [Float], sum: [Float]

        init(_ shape: Shape) {
            var random = RandomValues(seed: UInt64(shape.inputs * 1000 + shape.outputs))
            x = random.bfloats(shape.n * shape.h * shape.w * shape.inputs)
            weights = random.bfloats(shape.outputs * shape.inputs * shape.kernel * shape.kernel)
            bias = random.floats(shape.outputs, in: -2...2)
            otherBias = random.floats(shape.outputs, in: -2...2)
            sum = random.floats(shape.n * shape.oh * shape.ow * shape.outputs, in: -3...3)
        }
    }

    /// [n, oh, ow, outputs] from weights [outputs, inputs, kernel, kernel], without a bias.
    private func definition(_ shape: Shape, _ values: Values) -> [Double] {
        var y: [Double] = []
        for row in 0..<shape.n * shape.oh * shape.ow {
            let (image, i, j) = (row / (shape.oh * shape.ow), row / shape.ow % shape.oh, row % shape.ow)
            for output in 0..<shape.outputs {
                var total = 0.0
                for ky in 0..<shape.kernel {
                    for kx in 0..<shape.kernel {
                        let yy = i * shape.stride + ky - shape.padBegin
                        let xx = j * shape.stride + kx - shape.padBegin
                        guard yy >= 0, yy < shape.h, xx >= 0, xx < shape.w else { continue }
                        let from = ((image * shape.h + yy) * shape.w + xx) * shape.inputs
                        for input in 0..<shape.inputs {
                            let tap = ((output * shape.inputs + input) * shape.kernel + ky) * shape.kernel + kx
                            total += Double(values.x[from + input]) * Double(values.weights[tap])
                        }
                    }
                }
                y.append(total)
            }
        }
        return y
    }

    private func tensor(_ engine: Engine, _ shape: Shape, _ values: Values) throws -> Tensor {
        try engine.tensor(
            values.x, shape: shape.isLinear ? [shape.n, shape.inputs] : [shape.n, shape.h, shape.w, shape.inputs])
    }

    @Test(arguments: paths, shapes) func equalsTheDefinition(_ path: ComputePath, _ shape: Shape) throws {
        try path.require()
        let engine = try Engine(path: path)
        let values = Values(shape)
        // Sums of so many products of numbers up to 1, in fp32.
        let depth = Float(shape.inputs * shape.kernel * shape.kernel)
        let tolerance = 2e-6 * depth.squareRoot() + 2e-6
        func check(_ y: Tensor, _ expected: [Float], _ what: Comment, relative: Float = 0) {
            #expect(worst(engine.floats(y), expected, absolute: tolerance, relative: relative) <= 1, what)
        }
        let products = definition(shape, values)
        func expected(bias: [Float]?, sum: [Float]? = nil) -> [Float] {
            products.enumerated().map { Float($1 + Double(bias?[$0 % shape.outputs] ?? 0) + Double(sum?[$0] ?? 0)) }
        }
        let x = try tensor(engine, shape, values)
        let outputShape = shape.isLinear ? [shape.n, shape.outputs] : [shape.n, shape.oh, shape.ow, shape.outputs]

        for bias in [values.bias, nil] {
            let weights = try engine.weights(shape.kind, inputs: shape.inputs, outputs: shape.outputs, bias: bias) {
                _ = $0.update(from: values.weights)
            }
            let plain = expected(bias: bias)
            let y = try engine.product(x, weights)
            #expect(y.shape == outputShape)
            check(y, plain, "plain")
            check(try engine.product(x, weights), plain, "again")
            let other = try engine.tensor(values.otherBias, shape: [shape.outputs])
            check(
                try engine.product(x, weights, bias: other), expected(bias: values.otherBias),
                "another bias")
            let sum = try engine.tensor(values.sum, shape: outputShape)
            try engine.product(x, weights, accumulateInto: sum)
            check(sum, expected(bias: bias, sum: values.sum), "accumulated")
            // The type that the next product reads.
            let narrow = try engine.product(x, weights, to: engine.activationType)
            #expect(narrow.elementType == engine.activationType)
            check(narrow, plain, "narrow", relative: engine.activationType == .bfloat16 ? 0x1p-8 : 0)
        }
    }

    /// Winograd's way against the direct one and both against fp32: with a sum, a bias, odd sizes and a last block of tiles that
    /// is not full.
    @Test(
        arguments: paths, [(1, 32, 32, 128, 128), (3, 33, 31, 144, 130), (2, 70, 17, 136, 160), (1, 32, 32, 1040, 128)])
    func winogradIsNearlyAsExact(_ path: ComputePath, _ size: (Int, Int, Int, Int, Int)) throws {
        try path.require()
        // The last picture alone: of this size it has blocks to itself in a batch too.
        let (last, inBatch) = try checkWinograd(path, size)
        #expect(last == inBatch)
    }

    /// Pictures so small that several share a block: all in one, and in two that a picture lies across.
    @Test(
        arguments: paths.filter { $0.activationType == .bfloat16 }, [(3, 16, 16, 144, 130), (5, 15, 17, 128, 136)])
    func winogradOfSmallPicturesIsNearlyAsExact(_ path: ComputePath, _ size: (Int, Int, Int, Int, Int)) throws {
        try path.require()
        let (last, inBatch) = try checkWinograd(path, size)
        #expect(distance(last, inBatch) < 1e-6)
    }

    /// Returns the last picture's result alone, and in the batch.
    private func checkWinograd(
        _ path: ComputePath, _ size: (n: Int, h: Int, w: Int, inputs: Int, outputs: Int)
    ) throws -> (last: [Float], inBatch: [Float]) {
        let (n, h, w, inputs, outputs) = size
        let kind = ProductKind.convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1)
        var random = RandomValues(seed: 9)
        let x = random.bfloats(n * h * w * inputs)
        let values = random.floats(outputs * inputs * 9, in: -0.05...0.05)
        let (bias, sum) = (random.floats(outputs), random.floats(n * h * w * outputs))
        func weights(_ engine: Engine) throws -> Weights {
            try engine.weights(kind, inputs: inputs, outputs: outputs, bias: bias) { _ = $0.update(from: values) }
        }
        func results(_ engine: Engine) throws -> [[Float]] {
            let weights = try weights(engine)
            let input = try engine.tensor(x, shape: [n, h, w, inputs])
            let plain = try engine.product(input, weights)
            let other = try engine.product(
                input, weights, bias: try engine.tensor(sum, shape: [sum.count]).slice(0..<outputs))
            let added = try engine.tensor(sum, shape: [n, h, w, outputs])
            try engine.product(input, weights, accumulateInto: added)
            return [plain, other, added].map(engine.floats)
        }
        let exact = try results(try Engine(path: .openBLAS, usesWinograd: false))
        let direct = try results(try Engine(path: path, usesWinograd: false))
        let before = Engine.threadCount
        defer { Engine.threadCount = before }
        Engine.threadCount = 1
        let winograd = try results(try Engine(path: path))
        let isNarrow = path.activationType == .bfloat16
        for (index, expected) in exact.enumerated() {
            #expect(direct[index] != winograd[index])
            #expect(distance(direct[index], expected) < (isNarrow ? 3e-3 : 3e-6))
            #expect(distance(winograd[index], expected) < (isNarrow ? 6e-3 : 3e-6))
        }
        for threads in [3, 5] {
            Engine.threadCount = threads
            #expect(try results(try Engine(path: path)) == winograd)
        }
        let engine = try Engine(path: path)
        // A picture that is doubled on the way, to this size and to whole ones.
        let small = try engine.tensor(
            Array(x.prefix(n * ((h + 1) / 2) * ((w + 1) / 2) * inputs)), shape: [n, (h + 1) / 2, (w + 1) / 2, inputs])
        let sizes: [(height: Int?, width: Int?)] = [(h, w), (nil, nil)]
        for size in sizes {
            let doubled = try engine.upsampled(small, height: size.height, width: size.width)
            let apart = try engine.product(doubled, try weights(engine))
            let together = try engine.product(
                ofUpsampled: small, height: size.height, width: size.width, try weights(engine))
            #expect(engine.floats(together) == engine.floats(apart))
        }
        let last = try engine.tensor(x, shape: [n, h, w, inputs]).slice(n - 1..<n)
        return (engine.floats(try engine.product(last, try weights(engine))), winograd[0].suffix(h * w * outputs))
    }

    /// |a - b| / |b| in the Euclidean norm.
    private func distance(_ a: [Float], _ b: [Float]) -> Float {
        let difference = zip(a, b).reduce(Float(0)) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        return (difference / b.reduce(0) { $0 + $1 * $1 }).squareRoot()
    }

    /// Weights are asked for once, however often and in whatever shape they are used.
    @Test(arguments: paths) func weightsAreReadOnce(_ path: ComputePath) throws {
        try path.require()
        let engine = try Engine(path: path)
        var reads = 0
        let weights = try engine.weights(.linear, inputs: 64, outputs: 64, bias: nil) {
            reads += 1
            for i in $0.indices { $0[i] = Float(i % 7) }
        }
        for _ in 0..<3 {
            _ = try engine.product(try engine.tensor([Float](repeating: 1, count: 640), shape: [10, 64]), weights)
        }
        #expect(reads == 1)
    }

    /// What one engine has packed serves another of its path where it lies; what is missing or misplaced is made.
    @Test(arguments: paths) func preparedWeightsAreNotReadAgain(_ path: ComputePath) throws {
        try path.require()
        let alignment = Engine.packedWeightsAlignment
        var kept: [String: UnsafeMutableRawBufferPointer] = [:]
        defer { for buffer in kept.values { buffer.deallocate() } }
        var generator = RandomValues(seed: 5)
        let random = generator.floats(128 * 128 * 9)
        func run(_ prepared: ((String) -> UnsafeRawBufferPointer?)?, keep: Bool) throws -> (values: [Float], reads: Int)
        {
            let engine = try Engine(path: path)
            engine.preparedWeights = prepared
            var reads = 0
            func result(_ kind: ProductKind, _ name: String?, _ channels: Int, side: Int) throws -> Tensor {
                let weights = try engine.weights(kind, inputs: channels, outputs: channels, bias: nil, name: name) {
                    reads += 1
                    _ = $0.update(from: random[..<$0.count])
                }
                made.append(weights)
                let x = try engine.tensor(Array(random[..<(side * side * channels)]), shape: [1, side, side, channels])
                return try engine.product(x, weights)
            }
            var made: [Weights] = []
            let convolution = ProductKind.convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1)
            let values = try [
                result(.linear, "a", 32, side: 6), result(.linear, nil, 32, side: 6),
                result(convolution, "b", 32, side: 6), result(convolution, "winograd's", 128, side: 32),
            ].flatMap(engine.floats)
            guard keep else { return (values, reads) }
            engine.forEachPackedWeights { name, bytes, isNew in
                let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count + 4, alignment: alignment)
                copy.copyMemory(from: bytes)
                kept[name] = copy
                if !isNew { reads = -1 }
            }
            return (values, reads)
        }
        let first = try run(nil, keep: true)
        #expect(first.reads == 4)
        #expect(kept.count == 3)
        let second = try run({ kept[$0].map { UnsafeRawBufferPointer($0) } }, keep: false)
        #expect(second.values == first.values)
        #expect(second.reads == 1)
        let misplaced = try run({ kept[$0].map { UnsafeRawBufferPointer(rebasing: $0[4...]) } }, keep: false)
        #expect(misplaced.values == first.values)
        #expect(misplaced.reads == 4)
        let short = try run({ kept[$0].map { UnsafeRawBufferPointer(rebasing: $0[..<64]) } }, keep: false)
        #expect(short.values == first.values)
        #expect(short.reads == 4)
    }

    @Test(arguments: paths) func anEmptyInputGivesAnEmptyResult(_ path: ComputePath) throws {
        try path.require()
        let engine = try Engine(path: path)
        let weights = try engine.weights(.linear, inputs: 8, outputs: 4, bias: nil) { $0.update(repeating: 1) }
        let x = try engine.empty([0, 8])
        #expect(engine.floats(try engine.product(x, weights)).isEmpty)
    }
}
