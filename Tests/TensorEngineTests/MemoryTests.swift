import Testing

@testable import TensorEngine

/// Memory that cannot be had, and memory that must not be.
@Suite struct MemoryTests {
    /// Room for the values of weights is asked for outside of the pool; without an error this ends the process.
    @Test func weightsThatFitIntoNoMemoryAreAnError() throws {
        let error = #expect(throws: EngineError.self) { try withFloats(1 << 50) { _ in } }
        guard case .outOfMemory(let byteCount) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(byteCount == 4 << 50)
    }

    /// Weights that an earlier phase used make room for the next, and are laid out again when they are needed.
    @Test(arguments: ComputePath.allCases)
    func phasesTakeTurnsInMemory(_ path: ComputePath) throws {
        try path.require()
        let engine = try Engine(path: path)
        let size = 512
        let x = try engine.converted(
            try engine.tensor((0..<4 * size).map { Float($0 % 7) }, shape: [4, size]), to: engine.activationType)
        let parts = try (0..<4).map { part in
            try engine.weights(.linear, inputs: size, outputs: size, bias: nil, name: "part \(part)") { values in
                for i in values.indices { values[i] = Float((i + part) % 5) }
            }
        }
        func results() throws -> [[Float]] {
            try parts.map { part in
                engine.beginPhase()
                return engine.floats(try engine.product(x, part))
            }
        }
        let unlimited = try results()
        let held = engine.memoryHeld
        engine.memoryLimit = held / 2
        #expect(try results() == unlimited)
        #expect(try results() == unlimited)
        #expect(engine.memoryHeld <= held / 2)
        // All in one phase they do not fit.
        let error = #expect(throws: EngineError.self) {
            engine.beginPhase()
            for part in parts { _ = try engine.product(x, part) }
        }
        guard case .overLimit(_, let now, let limit) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(now <= limit && limit == held / 2)
    }

    /// The weights of the way back take their turn like those of the way forward.
    @Test(arguments: ComputePath.allCases)
    func phasesOfTheWayBackTakeTurnsInMemory(_ path: ComputePath) throws {
        try path.require()
        let engine = try Engine(path: path)
        let size = 512
        let gradient = try engine.tensor((0..<4 * size).map { Float($0 % 7) }, shape: [4, size])
        let parts = try (0..<4).map { part in
            try engine.weights(.linear, inputs: size, outputs: size, bias: nil, name: "part \(part)") { values in
                for i in values.indices { values[i] = Float((i + part) % 5) }
            }
        }
        func results() throws -> [[Float]] {
            try parts.map { part in
                engine.beginPhase()
                return engine.floats(try engine.productGradient(byInput: gradient, part))
            }
        }
        let unlimited = try results()
        let held = engine.memoryHeld
        engine.memoryLimit = held / 2
        #expect(try results() == unlimited)
        #expect(engine.memoryHeld <= held / 2)
    }

    /// OpenBLAS multiplies by the forward's weights where they lie, transposed and turned: the way back has none of its own.
    @Test(arguments: [ComputePath.openBLAS, .openBLASBF16])
    func theWayBackReadsTheForwardsWeights(_ path: ComputePath) throws {
        let engine = try Engine(path: path)
        let linear = try engine.weights(.linear, inputs: 256, outputs: 512, bias: nil) { $0.update(repeating: 0.1) }
        let kind = ProductKind.convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1)
        let convolution = try engine.weights(kind, inputs: 64, outputs: 256, bias: nil) { $0.update(repeating: 0.1) }
        // Enough channels and pixels for Winograd's way.
        let winograd = try engine.weights(kind, inputs: 128, outputs: 256, bias: nil) { $0.update(repeating: 0.1) }
        for (weights, shape) in [(linear, [4, 256]), (convolution, [1, 8, 8, 64]), (winograd, [1, 32, 32, 128])] {
            let x = try engine.converted(
                try engine.tensor([Float](repeating: 1, count: shape.reduce(1, *)), shape: shape),
                to: engine.activationType)
            let gradient = try engine.product(x, weights)
            engine.trimMemory()
            let held = engine.memoryHeld
            _ = try engine.productGradient(byInput: gradient, weights)
            engine.trimMemory()
            #expect(engine.memoryHeld == held, "\(shape)")
        }
    }

    @Test func productsOfTheWayBackCanBeInterrupted() throws {
        let engine = try Engine(path: .openBLAS)
        let x = try engine.tensor([1, 2], shape: [1, 2])
        let gradient = try engine.tensor([3], shape: [1, 1])
        let weights = try engine.weights(.linear, inputs: 2, outputs: 1, bias: nil) { $0.initialize(repeating: 1) }
        let sum = try engine.tensor([0, 0], shape: [1, 2])
        func isStopped(_ work: () throws -> Void) {
            let error = #expect(throws: EngineError.self) { try work() }
            guard case .stopped = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        engine.interruption = { true }
        isStopped { _ = try engine.productGradient(byInput: gradient, weights) }
        isStopped { try engine.productGradient(byWeights: Columns(sum), of: x, gradient) }
        #expect(engine.floats(sum) == [0, 0])
        engine.interruption = nil
        try engine.productGradient(byWeights: Columns(sum), of: x, gradient)
        #expect(engine.floats(sum) == [3, 6])
    }

    @Test func everyProductCanBeInterrupted() throws {
        let engine = try Engine(path: .openBLAS)
        let x = try engine.tensor([1, 2], shape: [1, 2])
        let weights = try engine.weights(.linear, inputs: 2, outputs: 1, bias: nil) { $0.initialize(repeating: 1) }
        var asked = 0
        engine.interruption = {
            asked += 1
            return asked == 3
        }
        for _ in 0..<2 { #expect(engine.floats(try engine.product(x, weights)) == [3]) }
        let error = #expect(throws: EngineError.self) { try engine.product(x, weights) }
        guard case .stopped = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        engine.interruption = nil
        #expect(engine.floats(try engine.product(x, weights)) == [3])
    }
}
