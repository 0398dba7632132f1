import Testing

@testable import TensorEngine

@Suite struct OneDNNBackendTests {
    /// Finding 21: a process that sees ever new shapes keeps so many products and no more.
    @Test func productsAreBounded() throws {
        let engine = try Engine(path: .oneDNNFP32)
        let backend = try #require(engine.backend as? OneDNNBackend)
        backend.capacity = 16
        let kind = ProductKind.convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1)
        let weights = try engine.weights(kind, inputs: 4, outputs: 4, bias: nil) { buffer in
            for i in buffer.indices { buffer[i] = Float(i % 5) - 2 }
        }
        func result(_ width: Int) throws -> [Float] {
            let values = (0..<4 * width).map { Float($0 % 7) }
            return engine.floats(try engine.product(try engine.tensor(values, shape: [1, 1, width, 4]), weights))
        }
        let first = try result(1)
        for width in 2...backend.capacity + 100 { _ = try result(width) }
        #expect(backend.productCount <= backend.capacity + 2)
        // One that was given up is made again.
        #expect(try result(1) == first)
    }
}
