import CKernels
import Testing

@testable import TensorEngine

/// What the engine promises beyond single results: the same bits on any number of threads, memory that is used again,
/// errors that say what does not fit.
@Suite struct EngineTests {
    static let paths = ComputePath.allCases

    private func random(_ engine: Engine, _ shape: [Int], seed: UInt64) throws -> Tensor {
        var random = RandomValues(seed: seed)
        return try engine.tensor(random.floats(shape.reduce(1, *)), shape: shape)
    }

    /// A network in small: every operation once, on odd sizes. All results, one after the other.
    private struct Step {
        let engine: Engine
        let input: Tensor
        let convolution, down, shortcut, qkv, out, feedIn, feedOut: Weights
        let norm: NormWeights

        init(_ engine: Engine) throws {
            self.engine = engine
            var random = RandomValues(seed: 42)
            func weights(_ kind: ProductKind, _ inputs: Int, _ outputs: Int, _ count: Int) throws -> Weights {
                let values = random.floats(count, in: -0.1...0.1)
                return try engine.weights(kind, inputs: inputs, outputs: outputs, bias: random.floats(outputs)) {
                    _ = $0.update(from: values)
                }
            }
            input = try engine.tensor(random.floats(2 * 17 * 13 * 64), shape: [2, 17, 13, 64])
            let same = ProductKind.convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1)
            let half = ProductKind.convolution(kernel: 3, stride: 2, padBegin: 0, padEnd: 1)
            convolution = try weights(same, 64, 80, 64 * 80 * 9)
            down = try weights(half, 80, 80, 80 * 80 * 9)
            shortcut = try weights(.linear, 64, 80, 64 * 80)
            qkv = try weights(.linear, 80, 240, 80 * 240)
            out = try weights(.linear, 80, 80, 80 * 80)
            feedIn = try weights(.linear, 80, 640, 80 * 640)
            feedOut = try weights(.linear, 320, 80, 320 * 80)
            norm = try NormWeights(weight: random.floats(80), bias: random.floats(80), engine: engine)
        }

        func run() throws -> [[Float]] {
            var results: [Tensor] = []
            let sum = try engine.product(input, shortcut)
            try engine.product(try engine.activate(input, .silu), convolution, accumulateInto: sum)
            results.append(sum)
            let normed = try engine.groupNorm(sum, norm, groups: 16, epsilon: 1e-5, silu: true)
            results.append(normed)
            let tokens = try engine.copy(sum).reshaped([2, 17 * 13, 80])
            let qkv = try engine.product(
                try engine.layerNorm(tokens, norm), qkv, to: engine.activationType)
            results.append(qkv)
            let attended = try engine.attention(
                q: Columns(qkv, 0, 80), k: Columns(qkv, 80, 80), v: Columns(qkv, 160, 80), heads: 2)
            results.append(attended)
            try engine.product(attended, out, accumulateInto: tokens)
            let hidden = try engine.geglu(try engine.product(tokens, feedIn, to: engine.activationType))
            results.append(hidden)
            try engine.product(hidden, feedOut, accumulateInto: tokens)
            results.append(tokens)
            let picture = try tokens.reshaped([2, 17, 13, 80])
            results.append(try engine.product(picture, down))
            results.append(try engine.product(try engine.upsampled(picture), down))
            results.append(try engine.concatenated(picture, sum, entries: [1, 0]))
            results.append(try engine.gathered(picture, [1, 1, 0]))
            results.append(
                try engine.stacked([try picture.slice(1..<2), try picture.slice(0..<1)]))
            return results.map(engine.floats)
        }
    }

    private func bits(_ results: [[Float]]) -> [[UInt32]] { results.map { $0.map(\.bitPattern) } }

    @Test(arguments: paths) func resultsDoNotDependOnTheNumberOfThreads(_ path: ComputePath) throws {
        try path.require()
        let before = Engine.threadCount
        defer { Engine.threadCount = before }
        Engine.threadCount = 1
        let used = try Step(try Engine(path: path))
        let alone = bits(try used.run())
        #expect(alone.allSatisfy { !$0.isEmpty })
        for threads in [2, 3, 5] {
            Engine.threadCount = threads
            #expect(Engine.threadCount == threads)
            // Both an engine that has run before and one made for so many threads.
            #expect(bits(try used.run()) == alone, "\(threads) threads, an engine made on one")
            #expect(bits(try Step(try Engine(path: path)).run()) == alone, "\(threads) threads")
        }
    }

    @Test(arguments: paths) func memoryIsUsedAgain(_ path: ComputePath) throws {
        try path.require()
        let engine = try Engine(path: path)
        let step = try Step(engine)
        _ = try step.run()
        let held = engine.memoryHeld
        #expect(held > 0)
        for _ in 0..<3 { _ = try step.run() }
        #expect(engine.memoryHeld == held)
        engine.trimMemory()
        #expect(engine.memoryHeld < held)
        _ = try step.run()
        #expect(engine.memoryHeld <= held)
    }

    @Test func tensorsShareOrCopyMemoryAsTheySay() throws {
        let engine = try Engine(path: .openBLAS)
        let x = try engine.tensor([0, 1, 2, 3, 4, 5], shape: [3, 2])
        let copy = try engine.copy(x)
        try x.slice(1..<2).withFloats { $0[0] = 9 }
        #expect(engine.floats(x) == [0, 1, 9, 3, 4, 5])
        #expect(engine.floats(copy) == [0, 1, 2, 3, 4, 5])
        #expect(engine.floats(try x.reshaped([6]).slice(2..<4)) == [9, 3])
        #expect(engine.floats(try engine.gathered(x, [2, 0, 2])) == [4, 5, 0, 1, 4, 5])
    }

    /// What no machine has is refused by name. Sizes past the largest number are refused too.
    @Test func memoryThatIsNotThereIsAnError() throws {
        let engine = try Engine(path: .openBLAS)
        func isRefused(_ work: () throws -> Void) {
            let error = #expect(throws: EngineError.self) { try work() }
            guard case .outOfMemory = error else {
                Issue.record("found \(String(describing: error))")
                return
            }
        }
        isRefused { _ = try engine.empty([1 << 50]) }
        isRefused { _ = try engine.empty([.max, 3]) }
        isRefused { _ = try engine.empty([1 << 61, 1 << 2]) }
        isRefused { try withFloats(1 << 60) { _ throws(EngineError) in } }
        isRefused { try withFloats(.max) { _ throws(EngineError) in } }
        let weights = try engine.weights(.linear, inputs: 4, outputs: 1 << 52, bias: nil) { _ in }
        isRefused { _ = try weights.pack(as: nil, byteCount: 1 << 56) { _ throws(EngineError) in } }
        // The engine goes on.
        #expect(engine.floats(try engine.tensor([3], shape: [1])) == [3])
    }

    @Test(arguments: paths) func aSumCanLeaveItsInputAsItIs(_ path: ComputePath) throws {
        let engine = try Engine(path: path)
        var values = RandomValues(seed: 9)
        let numbers = values.floats(7 * 5)
        let weights = try engine.weights(.linear, inputs: 5, outputs: 7, bias: values.floats(7)) {
            _ = $0.update(from: numbers)
        }
        let (x, residual) = (try random(engine, [3, 5], seed: 1), try random(engine, [3, 7], seed: 2))
        let before = engine.floats(residual)
        let sum = try engine.product(x, weights, addedTo: residual)
        #expect(engine.floats(residual) == before)
        try engine.product(x, weights, accumulateInto: residual)
        #expect(engine.floats(sum) == engine.floats(residual))
        #expect(engine.floats(sum) != before)
    }

    @Test func batchesAreStackedInOrder() throws {
        let engine = try Engine(path: .openBLAS)
        let (a, b) = (try random(engine, [1, 5, 7], seed: 1), try random(engine, [1, 5, 7], seed: 2))
        let stacked = try engine.stacked([a, b, a])
        #expect(stacked.shape == [3, 5, 7])
        #expect(engine.floats(stacked) == engine.floats(a) + engine.floats(b) + engine.floats(a))
    }

    @Test(arguments: paths) func aProfileCountsCallsAndArithmetic(_ path: ComputePath) throws {
        try path.require()
        let engine = try Engine(path: path)
        let weights = try engine.weights(.linear, inputs: 8, outputs: 4, bias: nil) { $0.update(repeating: 1) }
        let x = try random(engine, [10, 8], seed: 1)
        _ = try engine.product(x, weights)
        let profile = EngineProfile()
        engine.profile = profile
        for _ in 0..<3 { _ = try engine.product(x, weights) }
        engine.profile = nil
        _ = try engine.product(x, weights)
        let entry = try #require(profile.entries["linear [10, 8] -> 4"])
        #expect(entry.calls == 3)
        #expect(entry.flops == 3 * 2 * 10 * 8 * 4)
        #expect(profile.flops == entry.flops)
    }

    // MARK: CPU

    @Test func aSmallerCPUHasFewerPaths() throws {
        InstructionSet.avx2.run {
            #expect(!ComputePath.oneDNNBF16.isSupported)
            #expect(ComputePath.best == .oneDNNFP32)
            #expect(ComputePath.oneDNNBF16.reason.contains("AVX-512 BF16 is missing"))
            let error = #expect(throws: EngineError.self) { _ = try Engine(path: .oneDNNBF16) }
            #expect(error?.description.contains("onednn-bf16") == true)
        }
    }

    // MARK: What does not fit

    private struct Misfit: Sendable {
        let name: String
        let mentions: [String]
        let operation: @Sendable (Engine) throws -> Void

        init(_ name: String, mentions: [String], _ operation: @escaping @Sendable (Engine) throws -> Void) {
            (self.name, self.mentions, self.operation) = (name, mentions, operation)
        }
    }

    private static let misfits: [Misfit] = [
        Misfit("tensor", mentions: ["tensor", "[3]", "[2, 2]"]) { _ = try $0.tensor([1, 2, 3], shape: [2, 2]) },
        Misfit("reshape", mentions: ["reshape", "[2, 3]", "[7]"]) { _ = try $0.empty([2, 3]).reshaped([7]) },
        Misfit("slice", mentions: ["slice 1..<4", "[3, 2]"]) { _ = try $0.empty([3, 2]).slice(1..<4) },
        Misfit("gather", mentions: ["slice 3..<4", "[3, 2]"]) { _ = try $0.gathered(try $0.empty([3, 2]), [0, 3]) },
        Misfit("concatenate", mentions: ["concatenate", "[2, 4, 3]", "[2, 5, 3]"]) {
            _ = try $0.concatenated(try $0.empty([2, 4, 3]), try $0.empty([2, 5, 3]), entries: [0, 1])
        },
        Misfit("concatenate entries", mentions: ["concatenate [0]", "[2, 3]"]) {
            _ = try $0.concatenated(try $0.empty([2, 3]), try $0.empty([2, 3]), entries: [0])
        },
        Misfit("concatenate no such entry", mentions: ["slice 2..<3", "[2, 3]"]) {
            _ = try $0.concatenated(try $0.empty([2, 3]), try $0.empty([2, 3]), entries: [0, 2])
        },
        Misfit("repeat", mentions: ["repeat 3 times", "[2, 3]"]) {
            _ = try $0.repeated(try $0.empty([2, 3]), count: 3)
        },
        Misfit("stack", mentions: ["stack", "[1, 3]", "[1, 4]"]) {
            _ = try $0.stacked([try $0.empty([1, 3]), try $0.empty([1, 4])])
        },
        Misfit("upsample", mentions: ["upsample", "[4, 4, 3]"]) { _ = try $0.upsampled(try $0.empty([4, 4, 3])) },
        Misfit("geglu", mentions: ["geglu", "[2, 3]"]) { _ = try $0.geglu(try $0.empty([2, 3])) },
        Misfit("layer norm", mentions: ["layer norm", "[2, 3]", "[4]"]) {
            _ = try $0.layerNorm(try $0.empty([2, 3]), try norm($0, 4))
        },
        Misfit("group norm", mentions: ["group norm", "[1, 2, 6]", "multiple of 4"]) {
            _ = try $0.groupNorm(try $0.empty([1, 2, 6]), try norm($0, 6), groups: 4, epsilon: 1e-5, silu: false)
        },
        Misfit("linear", mentions: ["linear", "[2, 5]", "8]"]) {
            _ = try $0.product(try $0.empty([2, 5]), try linear($0))
        },
        Misfit("bias", mentions: ["bias", "[5]", "[4]"]) {
            _ = try $0.product(try $0.empty([2, 8]), try linear($0), bias: try $0.empty([5]))
        },
        Misfit("sum", mentions: ["linear", "[3, 4]", "[2, 4]"]) {
            try $0.product(try $0.empty([2, 8]), try linear($0), accumulateInto: try $0.empty([3, 4]))
        },
        Misfit("narrow sum", mentions: ["linear", "float32"]) {
            try $0.product(try $0.empty([2, 8]), try linear($0), accumulateInto: try $0.empty([2, 4], .bfloat16))
        },
        Misfit("narrow bias", mentions: ["bias", "float32"]) {
            _ = try $0.product(try $0.empty([2, 8]), try linear($0), bias: try $0.empty([4], .bfloat16))
        },
        Misfit("convolution of rows", mentions: ["convolution", "[2, 8]", "[n, h, w, 8]"]) {
            _ = try $0.product(try $0.empty([2, 8]), try convolution($0))
        },
        Misfit("convolution of too small a picture", mentions: ["convolution", "[1, 1, 4, 8]"]) {
            _ = try $0.product(try $0.empty([1, 1, 4, 8]), try convolution($0))
        },
        Misfit("attention of unequal widths", mentions: ["attention of 2 heads", "[1, 5, 8]", "[1, 7, 6]"]) {
            let (q, k) = (try $0.empty([1, 5, 8], $0.activationType), try $0.empty([1, 7, 6], $0.activationType))
            _ = try $0.attention(q: Columns(q), k: Columns(k), v: Columns(k), heads: 2)
        },
        Misfit("attention past the columns", mentions: ["attention of 2 heads", "[1, 5, 8]", "4..<12"]) {
            let q = try $0.empty([1, 5, 8], $0.activationType)
            _ = try $0.attention(q: Columns(q), k: Columns(q), v: Columns(q, 4, 8), heads: 2)
        },
        Misfit("attention to nothing", mentions: ["attention of 2 heads", "[1, 0, 8]"]) {
            let (q, k) = (try $0.empty([1, 5, 8], $0.activationType), try $0.empty([1, 0, 8], $0.activationType))
            _ = try $0.attention(q: Columns(q), k: Columns(k), v: Columns(k), heads: 2)
        },
    ]

    private static func norm(_ engine: Engine, _ c: Int) throws -> NormWeights {
        try NormWeights(
            weight: [Float](repeating: 1, count: c), bias: [Float](repeating: 0, count: c), engine: engine)
    }
    private static func linear(_ engine: Engine) throws -> Weights {
        try engine.weights(.linear, inputs: 8, outputs: 4, bias: nil) { $0.update(repeating: 1) }
    }
    private static func convolution(_ engine: Engine) throws -> Weights {
        let kind = ProductKind.convolution(kernel: 3, stride: 2, padBegin: 0, padEnd: 1)
        return try engine.weights(kind, inputs: 8, outputs: 4, bias: nil) { $0.update(repeating: 1) }
    }

    @Test(arguments: paths) func errorsNameTheOperationAndTheShapes(_ path: ComputePath) throws {
        try path.require()
        let engine = try Engine(path: path)
        for misfit in Self.misfits {
            let error = #expect(throws: EngineError.self, "\(misfit.name)") { try misfit.operation(engine) }
            let message = error?.description ?? ""
            for part in misfit.mentions { #expect(message.contains(part), "\(misfit.name)") }
        }
    }

    /// On an fp32 path nothing reads bfloat16, and nothing may write it.
    @Test func exactPathsRefuseToNarrow() throws {
        for path in [ComputePath.oneDNNFP32, .openBLAS] {
            let engine = try Engine(path: path)
            let error = #expect(throws: EngineError.self) {
                _ = try engine.product(try engine.empty([2, 8]), try Self.linear(engine), to: .bfloat16)
            }
            #expect(error?.description.contains("linear") == true)
        }
    }
}
