import Testing

@testable import TensorEngine

/// Every way back against finite differences of its forward, on odd sizes and on every path.
///
/// In bfloat16 a difference of two roundings says nothing. There the gradient is held against that of the fp32 path.
@Suite struct GradientTests {
    /// One operation: the shapes of its inputs, its result, and the gradients by its inputs of a gradient by the result.
    struct Operation: CustomTestStringConvertible, Sendable {
        let name: String
        let shapes: [[Int]]
        let forward: @Sendable (Engine, [Tensor]) throws -> Tensor
        let backward: @Sendable (Engine, [Tensor], Tensor) throws -> [Tensor]
        var testDescription: String { name }

        init(
            _ name: String, _ shapes: [[Int]], _ forward: @escaping @Sendable (Engine, [Tensor]) throws -> Tensor,
            backward: @escaping @Sendable (Engine, [Tensor], Tensor) throws -> [Tensor]
        ) {
            self.name = name
            self.shapes = shapes
            self.forward = forward
            self.backward = backward
        }
    }

    static let operations: [Operation] =
        [linear, convolution("3x3", kernel: 3, 1, 1), convolution("3x3, uneven padding", kernel: 3, 0, 2)]
        + [convolution("1x1", kernel: 1, 0, 0), winograd, upsampledConvolution]
        + [layerNorm, groupNorm(silu: false), groupNorm(silu: true)]
        + [activation(.silu), activation(.gelu), activation(.quickGELU), geglu]
        + [attention(heads: 3, size: 7, 19, 37), attention(heads: 1, size: 40, 53, 300)]
        + [sharedAttention, upsampling, concatenation, residualSum]

    // MARK: The operations

    /// Weights of fixed values.
    private static func weights(
        _ engine: Engine, _ kind: ProductKind, _ inputs: Int, _ outputs: Int
    ) throws -> Weights {
        var random = RandomValues(seed: 77)
        let values = random.floats(inputs * outputs * kind.kernel * kind.kernel, in: -0.3...0.3)
        let bias = random.floats(outputs)
        return try engine.weights(kind, inputs: inputs, outputs: outputs, bias: bias) { _ = $0.update(from: values) }
    }
    private static func norm(_ engine: Engine, _ c: Int) throws -> NormWeights {
        var random = RandomValues(seed: 78)
        return try NormWeights(weight: random.floats(c, in: 0.5...1.5), bias: random.floats(c), engine: engine)
    }

    /// By its input, its weights and its bias; the weights are columns of a wider matrix.
    private static let linear = Operation("linear", [[3, 11, 13], [17, 13], [17]]) { engine, inputs in
        let values = engine.floats(inputs[1])
        let weights = try engine.weights(.linear, inputs: 13, outputs: 17, bias: engine.floats(inputs[2])) {
            _ = $0.update(from: values)
        }
        return try engine.product(inputs[0], weights)
    } backward: { engine, inputs, gradient in
        let values = engine.floats(inputs[1])
        let weights = try engine.weights(.linear, inputs: 13, outputs: 17, bias: nil) { _ = $0.update(from: values) }
        let wide = try engine.tensor([Float](repeating: 0, count: 17 * 20), shape: [17, 20])
        let bias = try engine.tensor([Float](repeating: 0, count: 17), shape: [17])
        try engine.productGradient(byWeights: Columns(wide, 4, 13), of: inputs[0], gradient)
        try engine.productGradient(byBias: bias, gradient)
        return [
            try engine.productGradient(byInput: gradient, weights),
            try engine.concatenatedGradient(wide, channels: 4..<17), bias,
        ]
    }

    private static func convolution(_ name: String, kernel: Int, _ begin: Int, _ end: Int) -> Operation {
        let kind = ProductKind.convolution(kernel: kernel, stride: 1, padBegin: begin, padEnd: end)
        return Operation("convolution \(name)", [[2, 7, 5, 6]]) { engine, inputs in
            try engine.product(inputs[0], try weights(engine, kind, 6, 10))
        } backward: { engine, _, gradient in
            [try engine.productGradient(byInput: gradient, try weights(engine, kind, 6, 10))]
        }
    }

    /// So wide that both ways are Winograd's in bfloat16, and in fp32.
    private static let winograd = Operation("convolution by Winograd", [[1, 31, 33, 128]]) { engine, inputs in
        let kind = ProductKind.convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1)
        return try engine.product(inputs[0], try weights(engine, kind, 128, 129))
    } backward: { engine, _, gradient in
        let kind = ProductKind.convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1)
        return [try engine.productGradient(byInput: gradient, try weights(engine, kind, 128, 129))]
    }

    private static let upsampledConvolution = Operation("convolution of upsampled", [[1, 4, 3, 5]]) { engine, inputs in
        let kind = ProductKind.convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1)
        return try engine.product(ofUpsampled: inputs[0], height: 7, width: 6, try weights(engine, kind, 5, 5))
    } backward: { engine, inputs, gradient in
        let kind = ProductKind.convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1)
        return [
            try engine.productGradient(
                byUpsampledInput: gradient, of: inputs[0].shape, try weights(engine, kind, 5, 5))
        ]
    }

    /// By its input, scale and shift.
    private static let layerNorm = Operation("layer norm", [[37, 45], [45], [45]]) { engine, inputs in
        let norm = try NormWeights(
            weight: engine.floats(inputs[1]), bias: engine.floats(inputs[2]), engine: engine)
        return try engine.layerNorm(inputs[0], norm)
    } backward: { engine, inputs, gradient in
        let norm = try NormWeights(
            weight: engine.floats(inputs[1]), bias: engine.floats(inputs[2]), engine: engine)
        let kept = try engine.layerNormKept(inputs[0], norm).kept
        let zeros = [Float](repeating: 0, count: 45)
        let (weight, bias) = (try engine.tensor(zeros, shape: [45]), try engine.tensor(zeros, shape: [45]))
        try engine.layerNormParameterGradient(gradient, of: kept, weight: weight, bias: bias)
        return [try engine.layerNormGradient(gradient, of: kept), weight, bias]
    }

    private static func groupNorm(silu: Bool) -> Operation {
        Operation("group norm\(silu ? ", SiLU" : "")", [[2, 13, 11, 30]]) { engine, inputs in
            try engine.groupNorm(inputs[0], try norm(engine, 30), groups: 6, epsilon: 1e-5, silu: silu)
        } backward: { engine, inputs, gradient in
            let kept = try engine.groupNormKept(
                inputs[0], try norm(engine, 30), groups: 6, epsilon: 1e-5, silu: silu
            ).kept
            return [try engine.groupNormGradient(gradient, of: kept)]
        }
    }

    private static func activation(_ function: Activation) -> Operation {
        Operation("\(function)", [[7, 59]]) { engine, inputs in
            try engine.activate(inputs[0], function)
        } backward: { engine, inputs, gradient in
            [try engine.activationGradient(gradient, of: inputs[0], function)]
        }
    }

    private static let geglu = Operation("GEGLU", [[35, 2 * 29]]) { engine, inputs in
        try engine.geglu(inputs[0])
    } backward: { engine, inputs, gradient in
        [try engine.gegluGradient(gradient, of: inputs[0])]
    }

    /// q, k and v in one tensor, as a fused product leaves them.
    private static func attention(heads: Int, size: Int, _ queries: Int, _ keys: Int) -> Operation {
        let c = heads * size
        return Operation("attention \(heads) x \(size)", [[2, queries, c], [2, keys, 2 * c]]) { engine, inputs in
            let (q, kv) = (try products(engine, inputs[0]), try products(engine, inputs[1]))
            return try engine.attention(q: Columns(q), k: Columns(kv, 0, c), v: Columns(kv, c, c), heads: heads)
        } backward: { engine, inputs, gradient in
            let (q, kv) = (try products(engine, inputs[0]), try products(engine, inputs[1]))
            let kept = try engine.attentionKept(
                q: Columns(q), k: Columns(kv, 0, c), v: Columns(kv, c, c), heads: heads
            ).kept
            let (dq, dkv) = (try engine.empty(q.shape), try engine.empty(kv.shape))
            try engine.attentionGradient(
                gradient, of: kept, q: Columns(dq), keysValues: (Columns(dkv, 0, c), Columns(dkv, c, c)))
            return [dq, dkv]
        }
    }

    /// One memory for the whole batch: its gradient is the sum over the batch.
    private static let sharedAttention = Operation("attention, shared keys", [[3, 50, 24], [1, 70, 48]]) {
        engine, inputs in
        let (q, kv) = (try products(engine, inputs[0]), try products(engine, inputs[1]))
        return try engine.attention(q: Columns(q), k: Columns(kv, 0, 24), v: Columns(kv, 24, 24), heads: 2)
    } backward: { engine, inputs, gradient in
        let (q, kv) = (try products(engine, inputs[0]), try products(engine, inputs[1]))
        let kept = try engine.attentionKept(
            q: Columns(q), k: Columns(kv, 0, 24), v: Columns(kv, 24, 24), heads: 2
        ).kept
        let (dq, dkv) = (try engine.empty(q.shape), try engine.empty(kv.shape))
        try engine.attentionGradient(
            gradient, of: kept, q: Columns(dq), keysValues: (Columns(dkv, 0, 24), Columns(dkv, 24, 24)))
        return [dq, dkv]
    }

    private static func products(_ engine: Engine, _ x: Tensor) throws -> Tensor {
        try engine.converted(x, to: engine.activationType)
    }

    private static let upsampling = Operation("upsample", [[2, 4, 3, 5]]) { engine, inputs in
        try engine.upsampled(inputs[0], height: 7, width: 6)
    } backward: { engine, inputs, gradient in
        [try engine.upsampledGradient(gradient, of: inputs[0].shape)]
    }

    private static let concatenation = Operation("concatenate", [[2, 3, 5, 7], [2, 3, 5, 4]]) { engine, inputs in
        try engine.concatenated(inputs[0], inputs[1], entries: [0, 1])
    } backward: { engine, _, gradient in
        [
            try engine.concatenatedGradient(gradient, channels: 0..<7),
            try engine.concatenatedGradient(gradient, channels: 7..<11),
        ]
    }

    /// x + f(x): both operands read x.
    private static let residualSum = Operation("residual sum", [[19, 13]]) { engine, inputs in
        try engine.product(inputs[0], try weights(engine, .linear, 13, 13), addedTo: inputs[0])
    } backward: { engine, _, gradient in
        let sum = try engine.productGradient(byInput: gradient, try weights(engine, .linear, 13, 13))
        try engine.add(gradient, to: sum)
        return [sum]
    }

    // MARK: The tests

    private struct Trial {
        let engine: Engine
        let operation: Operation
        var values: [[Float]]
        let gradient: [Float]
        let gradientShape: [Int]

        init(_ path: ComputePath, _ operation: Operation) throws {
            engine = try Engine(path: path)
            self.operation = operation
            var random = RandomValues(seed: 1)
            // Numbers that bfloat16 holds: all paths begin with the same.
            values = operation.shapes.map { random.bfloats($0.reduce(1, *)) }
            let inputs = try zip(values, operation.shapes).map { [engine] in try engine.tensor($0, shape: $1) }
            let result = try operation.forward(engine, inputs)
            gradientShape = result.shape
            gradient = random.bfloats(result.count)
        }

        private func tensors() throws -> [Tensor] {
            try zip(values, operation.shapes).map { try engine.tensor($0, shape: $1) }
        }

        /// The sum of the result's elements, each weighted by its gradient.
        func loss() throws -> Double {
            let result = engine.floats(try operation.forward(engine, try tensors()))
            return zip(result, gradient).reduce(0) { $0 + Double($1.0) * Double($1.1) }
        }

        func gradients() throws -> [[Float]] {
            let dy = try engine.tensor(gradient, shape: gradientShape)
            return try operation.backward(engine, try tensors(), dy).map { engine.floats($0) }
        }
    }

    @Test(arguments: [ComputePath.oneDNNFP32, .openBLAS], operations)
    func followsFiniteDifferences(_ path: ComputePath, _ operation: Operation) throws {
        var trial = try Trial(path, operation)
        let gradients = try trial.gradients()
        #expect(gradients.count == operation.shapes.count)
        var random = RandomValues(seed: 2)
        let step: Float = 1.0 / 128
        for (input, gradient) in gradients.enumerated() {
            #expect(gradient.count == trial.values[input].count)
            let size = gradient.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
            let start = trial.values[input]
            for _ in 0..<3 {
                let direction = random.floats(start.count)
                func loss(at distance: Float) throws -> Double {
                    trial.values[input] = zip(start, direction).map { $0 + distance * $1 }
                    return try trial.loss()
                }
                // Two central differences, extrapolated: the error is of the fourth order in the step.
                let near = (try loss(at: step) - loss(at: -step)) / Double(2 * step)
                let far = (try loss(at: 2 * step) - loss(at: -2 * step)) / Double(4 * step)
                let slope = (4 * near - far) / 3
                let expected = zip(gradient, direction).reduce(0) { $0 + Double($1.0) * Double($1.1) }
                // As a share of what a random direction sees of a gradient of this size.
                let error = (slope - expected).magnitude / (size * (1.0 / 3).squareRoot())
                #expect(error < 5e-4, "input \(input)")
            }
            trial.values[input] = start
        }
    }

    /// The way back is the same on every path, as far as its products are.
    @Test(arguments: operations) func inBFloat16Too(_ operation: Operation) throws {
        try compareWithFP32(.openBLASBF16, operation)
    }

    @Test(
        .enabled(if: ComputePath.oneDNNBF16.isSupported, "\(ComputePath.oneDNNBF16.reason)"), arguments: operations)
    func inBFloat16ByOneDNN(_ operation: Operation) throws {
        try compareWithFP32(.oneDNNBF16, operation)
    }

    private func compareWithFP32(_ path: ComputePath, _ operation: Operation) throws {
        let (found, expected) = (try Trial(path, operation).gradients(), try Trial(.openBLAS, operation).gradients())
        for (narrow, exact) in zip(found, expected) {
            #expect(relativeError(narrow, exact) < 0.01)
        }
    }

    private func relativeError(_ a: [Float], _ b: [Float]) -> Double {
        let difference = zip(a, b).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
        let size = b.reduce(0) { $0 + Double($1) * Double($1) }
        let error = (difference / size).squareRoot()
        return a.count == b.count && !error.isNaN ? error : .infinity
    }

    @Test(arguments: [ComputePath.oneDNNFP32, .openBLAS, .openBLASBF16], operations)
    func sameBitsOnAnyNumberOfThreads(_ path: ComputePath, _ operation: Operation) throws {
        let before = Engine.threadCount
        defer { Engine.threadCount = before }
        let trial = try Trial(path, operation)
        var found: [[[Float]]] = []
        for threads in [1, 3] {
            Engine.threadCount = threads
            found.append(try trial.gradients())
        }
        #expect(found[0] == found[1])
    }

    /// Gradients of parameters add up; gradients of activations are written.
    @Test func parametersAddUp() throws {
        let engine = try Engine(path: .openBLAS)
        var random = RandomValues(seed: 3)
        let x = try engine.tensor(random.floats(5 * 3), shape: [5, 3])
        let gradient = try engine.tensor(random.floats(5 * 2), shape: [5, 2])
        let sum = try engine.tensor([Float](repeating: 0, count: 6), shape: [2, 3])
        try engine.productGradient(byWeights: Columns(sum), of: x, gradient)
        let once = engine.floats(sum)
        try engine.productGradient(byWeights: Columns(sum), of: x, gradient)
        #expect(engine.floats(sum) == once.map { 2 * $0 })
    }

    @Test func whatDoesNotFitIsNamed() throws {
        let engine = try Engine(path: .openBLAS)
        let kind = ProductKind.convolution(kernel: 3, stride: 2, padBegin: 1, padEnd: 1)
        let strided = try engine.weights(kind, inputs: 4, outputs: 4, bias: nil) { $0.update(repeating: 1) }
        func message(_ work: () throws -> Void) -> String {
            #expect(throws: EngineError.self) { try work() }?.description ?? ""
        }
        let pixels = try engine.empty([1, 4, 4, 4])
        #expect(message { _ = try engine.productGradient(byInput: pixels, strided) }.contains("stride 1"))
        let kept = try engine.layerNormKept(pixels, try Self.norm(engine, 4)).kept
        #expect(
            message { _ = try engine.layerNormGradient(try engine.empty([4, 4]), of: kept) }.contains("layer norm"))
        let narrow = Columns(try engine.empty([3, 4]), 2, 4)
        #expect(
            message {
                try engine.productGradient(byWeights: narrow, of: try engine.empty([5, 4]), try engine.empty([5, 3]))
            }
            .contains("[3, 4]"))
    }
}
