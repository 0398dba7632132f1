import Checkpoint
import Foundation
import TensorEngine

/// The golden data in Tests/Fixtures/sd2-tiny: a tiny random model and what the authors' code computed from it.
package struct Golden: Sendable {
    /// Folder of the fixtures of all tests.
    package static let fixtures = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures")
    /// Folder of the tiny model.
    package static let folder = fixtures.appendingPathComponent("sd2-tiny")

    /// Path of a file in the tiny model's folder.
    package static func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

    private let checkpoint: Checkpoint

    /// Opens golden.safetensors.
    package init() throws { checkpoint = try Checkpoint.open(Self.path("golden.safetensors")) }

    /// The values of a tensor, in its file's order.
    package subscript(_ name: String) -> [Float] { checkpoint.tensors[name]?.floats() ?? [] }

    /// The shape of a tensor.
    package func shape(_ name: String) -> [Int] { checkpoint.tensors[name]?.shape ?? [] }

    /// Compute paths this CPU can run in fp32.
    package static let exactPaths: [ComputePath] = [.oneDNNFP32, .openBLAS]
}

/// |a - b| / |b| in the Euclidean norm; infinite where the sizes differ or a value is not a number.
package func relativeError(_ a: [Float], _ b: [Float]) -> Double {
    guard a.count == b.count, !b.isEmpty else { return .infinity }
    var difference = 0.0
    var size = 0.0
    for (x, y) in zip(a, b) {
        difference += Double(x - y) * Double(x - y)
        size += Double(y) * Double(y)
    }
    let error = (difference / size).squareRoot()
    return error.isNaN ? .infinity : error
}
