import Foundation
import Glibc
import Testing

@testable import Checkpoint

/// Files that change under their mapping. One at a time: the check is of all mapped files.
@Suite(.serialized) struct MappingTests {
    private func file(of count: Int) throws -> String {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("mapped-\(UUID().uuidString)").path
        var writer = SafetensorsWriter()
        writer.add("a", type: .f32, shape: [count], floats: Array(repeating: 1, count: count))
        try writer.write(toPath: path)
        return path
    }

    /// Without the watch this ends the test run by SIGBUS.
    @Test func aFileCutShortReadsAsZerosAndSaysSo() throws {
        let path = try file(of: 100_000)
        defer { unlink(path) }
        do {
            let tensor = try #require(try Checkpoint.open(path).tensors["a"])
            #expect(tensor.floats() == Array(repeating: 1, count: 100_000))
            #expect(truncate(path, 8192) == 0)
            let values = tensor.floats()
            #expect(values.first == 1 && values.last == 0)
            let error = try #require(throws: CheckpointError.self) { try MappedFiles.check() }
            #expect(error.path == path && error.cause == .truncated)
            #expect("\(error)".contains("8192 bytes") && "\(error)".contains("rename"), "\(error)")
        }
        // Nobody uses it any more.
        try MappedFiles.check()
    }

    @Test func aFileReplacedByRenameStaysAsItWas() throws {
        let path = try file(of: 100_000)
        defer { unlink(path) }
        let tensor = try #require(try Checkpoint.open(path).tensors["a"])
        let other = try file(of: 10)
        #expect(rename(other, path) == 0)
        #expect(tensor.floats().last == 1)
        try MappedFiles.check()
    }

    @Test func theFirstNumberThatIsNoneIsNamed() throws {
        for (type, value) in [
            (StoredElementType.f16, Float.nan), (.bf16, .infinity), (.f32, -.infinity), (.f64, .nan),
        ] {
            let path = FileManager.default.temporaryDirectory.appendingPathComponent("nan-\(UUID().uuidString)").path
            defer { unlink(path) }
            var values = [Float](repeating: 0.5, count: 100 * 100)
            values[0] = 65_504
            values[1] = .leastNonzeroMagnitude
            func tensor() throws -> StoredTensor {
                var writer = SafetensorsWriter()
                writer.add("w", type: type, shape: [100, 100], floats: values)
                try writer.write(toPath: path)
                return try #require(try Checkpoint.open(path).tensors["w"])
            }
            try tensor().checkFinite(path: path)
            values[7_321] = value
            let error = try #require(throws: CheckpointError.self) { try tensor().checkFinite(path: path) }
            #expect(error.cause == .notFinite && error.found.hasSuffix("at [73, 21]"), "\(error)")
        }
    }
}
