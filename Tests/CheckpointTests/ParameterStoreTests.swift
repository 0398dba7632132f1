import Checkpoint
import Foundation
import Glibc
import Testing

private func store(_ shapes: [(String, [Int])]) throws -> ParameterStore {
    var writer = SafetensorsWriter()
    for (name, shape) in shapes {
        writer.add(name, type: .f32, shape: shape, floats: (0..<shape.reduce(1, *)).map(Float.init))
    }
    return ParameterStore(try reread(writer))
}

/// Writes and opens again.
private func reread(_ writer: SafetensorsWriter) throws -> Checkpoint {
    let descriptor = anonymousFile()
    defer { close(descriptor) }
    try writer.write(to: descriptor, path: "written")
    return try Checkpoint.open(descriptor: descriptor, path: "written")
}

@Suite struct ParameterStoreTests {
    @Test func allDifferencesAreListedAtOnce() throws {
        let store = try store([("a", [2, 3]), ("b", [4]), ("c.d", [1]), ("ema.x", [1]), ("betas", [5]), ("x.num", [])])
        #expect(store.take("a", shape: [2, 3]).floats() == [0, 1, 2, 3, 4, 5])
        #expect(store.take("b", shape: [5]).floats() == [0, 0, 0, 0, 0])
        #expect(store.take("m.n", shape: [2, 2]).floats() == [0, 0, 0, 0])
        #expect(store["m"].take("k", shape: [1]).shape == [1])
        let error = try #require(throws: CheckpointError.self) {
            try store.finish(ignoring: [.exact("betas"), .prefix("ema."), .suffix(".num")])
        }
        #expect(
            error.description == """
                written: the tensors do not fit the model: 2 missing, 1 misshapen, 1 unused
                  missing (expected shape):
                    m.k [1]
                    m.n [2, 2]
                  misshapen:
                    b found [4], expected [5]
                  unused (found shape):
                    c.d [1]
                """)
    }

    @Test func aStoreThatFitsFinishes() throws {
        let store = try store([("net.0.attn1.to_q.weight", [2, 3]), ("net.0.proj.weight", [2, 3, 1, 1])])
        let scope = store["net"][0]
        #expect(scope.contains("attn1.to_q.weight"))
        #expect(!scope.contains("attn2.to_q.weight"))
        #expect(scope.shape(of: "proj.weight") == [2, 3, 1, 1])
        #expect(scope["attn1"].take("to_q.weight", shape: [2, 3]).floats() == [0, 1, 2, 3, 4, 5])
        let proj = scope.take("proj.weight", shape: [2, 3], orShape: [2, 3, 1, 1])
        #expect(proj.shape == [2, 3])
        #expect(proj.floats() == [0, 1, 2, 3, 4, 5])
        try store.finish()
    }

    @Test func neitherOfTwoShapesIsReportedWithBoth() throws {
        let store = try store([("p", [3, 2])])
        _ = store.take("p", shape: [2, 3], orShape: [2, 3, 1, 1])
        let error = try #require(throws: CheckpointError.self) { try store.finish() }
        #expect(error.description.contains("p found [3, 2], expected [2, 3] or [2, 3, 1, 1]"))
    }

    @Test func anImpossibleShapeIsReported() throws {
        let store = try store([])
        #expect(store.take("huge", shape: [.max, 2]).count == 0)
        #expect(throws: CheckpointError.self) { try store.finish() }
    }

    @Test func shardsMergeUnlessTheyOverlap() throws {
        var first = SafetensorsWriter()
        first.add("a", type: .f32, shape: [1], floats: [1])
        var second = SafetensorsWriter()
        second.add("b", type: .f32, shape: [1], floats: [2])
        let shards = [try reread(first), try reread(second)]
        #expect(ParameterStore(parts: [try .init(shards)], path: "model").names == ["a", "b"])
        let error = try #require(throws: CheckpointError.self) { try ParameterStore.Part(shards + shards) }
        #expect(error.description.contains("each key in one file"))
    }

    @Test func randomParametersDependOnSeedAndNameAlone() throws {
        let store = ParameterStore(randomSeed: 7)
        let weight = store.take("layer.weight", shape: [64, 48])
        _ = store.take("norm.weight", shape: [999])
        #expect(weight.floats() == ParameterStore(randomSeed: 7).take("layer.weight", shape: [64, 48]).floats())
        #expect(weight.floats() != ParameterStore(randomSeed: 8).take("layer.weight", shape: [64, 48]).floats())
        #expect(weight.floats() != store.take("other.weight", shape: [64, 48]).floats())
        let values = weight.floats()
        let mean = values.reduce(0, +) / Float(values.count)
        let variance = values.reduce(0) { $0 + $1 * $1 } / Float(values.count)
        #expect(abs(mean) < 0.01)
        #expect(abs(variance * 48 - 1) < 0.05)
        let norm = store.take("norm.weight", shape: [999]).floats()
        #expect(norm.allSatisfy { (0.9...1.1).contains($0) })
        let bias = store.take("norm.bias", shape: [999]).floats()
        #expect(bias.allSatisfy { (-0.1...0.1).contains($0) })
        #expect(Set(norm).count > 900)
        try store.finish()
    }

    @Test func partsOfARandomTensorAreThoseOfTheWhole() throws {
        let whole = ParameterStore(randomSeed: 7).take("m.weight", shape: [6, 5])
        let rows = try (0..<6).map { try #require(whole.entry($0)).floats() }
        #expect(Array(rows.joined()) == whole.floats())
        #expect(Set(whole.floats()).count == 30)
        #expect(try #require(whole.renamed("n").reshaped([5, 6])?.entry(4)).floats() == Array(whole.floats()[24...]))
    }

    @Test func aPartComesFromTheFileAndTheRestIsMadeUp() throws {
        var writer = SafetensorsWriter()
        writer.add("part.a", type: .f32, shape: [2], floats: [1, 2])
        writer.add("other", type: .f32, shape: [1], floats: [3])
        let checkpoint = try reread(writer)
        let store = ParameterStore(checkpoint, prefix: "part.", randomSeed: 7)
        #expect(store["part"].take("a", shape: [2]).floats() == [1, 2])
        let madeUp = store.take("other", shape: [4]).floats()
        #expect(madeUp == ParameterStore(randomSeed: 7).take("other", shape: [4]).floats())
        #expect(store.contains("part.a") && store.shape(of: "other") == [4])
        try store.finish()
        _ = store["part"].take("b", shape: [2])
        let missing = try #require(throws: CheckpointError.self) { try store.finish() }
        #expect(missing.description.contains("part.b [2]"))
        let unused = ParameterStore(checkpoint, prefix: "part.", randomSeed: 7)
        #expect(throws: CheckpointError.self) { try unused.finish() }
    }

    /// Resident bytes of the mapping of `path` (proc(5), smaps).
    private func resident(_ path: String) throws -> Int {
        let smaps = try #require(try FileHandle(forReadingAtPath: "/proc/self/smaps")?.readToEnd())
        let lines = String(decoding: smaps, as: UTF8.self).split(separator: "\n")
        let name = URL(filePath: path).lastPathComponent
        let start = try #require(lines.firstIndex { $0.hasSuffix(name) })
        let line = try #require(lines[start...].first { $0.hasPrefix("Rss:") })
        return try #require(line.split(separator: " ").compactMap { Int($0) }.first) << 10
    }

    @Test func convertedTensorsLeaveNothingOfTheirFileInMemory() throws {
        let path = NSTemporaryDirectory() + "released-\(UUID().uuidString).safetensors"
        defer { unlink(path) }
        let values = (0..<700_000).map { Float($0) }
        var writer = SafetensorsWriter()
        for name in ["a", "b", "c"] { writer.add(name, type: .f32, shape: [values.count], floats: values) }
        try writer.write(toPath: path)
        let checkpoint = try Checkpoint.open(path)
        _ = checkpoint.withUnsafeDataSection { $0.reduce(0, &+) }
        #expect(try resident(path) > 8_000_000)
        for tensor in checkpoint.tensors.values {
            #expect(tensor.floats() == values)
            #expect(tensor.floats() == values)
        }
        #expect(try resident(path) < 200_000)
    }

    @Test func aRandomModelCanBeWritten() throws {
        let store = ParameterStore(randomSeed: 7)
        #expect(!store.contains("a.weight"))
        let weight = store["a"].take("weight", shape: [3, 5])
        _ = store["a"].take("bias", shape: [3])
        let written = try reread(store.takenTensors(metadata: ["seed": "7"]))
        #expect(written.metadata == ["seed": "7"])
        #expect(written.tensors.keys.sorted() == ["a.bias", "a.weight"])
        #expect(written.tensors["a.weight"]?.floats() == weight.floats())
    }
}

@Suite struct SafetensorsWriterTests {
    @Test func theFileIsDeterministicAlignedAndReadsBack() throws {
        let metadata = ["z": "ü\u{1}\"\\", "a": "line\nline"]
        let path = NSTemporaryDirectory() + "writer-\(UUID().uuidString).safetensors"
        defer { unlink(path) }
        var contents: [[UInt8]] = []
        for names in [["b", "a", "c"], ["c", "b", "a"]] {
            var writer = SafetensorsWriter(metadata: metadata)
            for name in names {
                switch name {
                case "a": writer.add("a", type: .f16, shape: [3], floats: [1, 65504, 1e-7])
                case "b": writer.add("b", type: .bf16, shape: [2], floats: [1.00390625, -.infinity])
                default: writer.add("c", type: .f32, shape: [1, 2], floats: [0.1, -5])
                }
            }
            try writer.write(toPath: path)
            contents.append([UInt8](try Data(contentsOf: URL(filePath: path))))
        }
        #expect(contents[0] == contents[1])
        let headerLength = Int(contents[0][0]) + Int(contents[0][1]) << 8
        #expect(headerLength.isMultiple(of: 8))
        let checkpoint = try Checkpoint.open(path)
        #expect(checkpoint.metadata == metadata)
        #expect(checkpoint.tensors["a"]?.floats() == [1, 65504, Float(Float16(1e-7))])
        #expect(checkpoint.tensors["b"]?.floats() == [1, -.infinity])
        #expect(checkpoint.tensors["c"]?.floats() == [0.1, -5])
    }

    @Test func thePiecesAreTheDataSection() throws {
        var writer = SafetensorsWriter()
        writer.add("small", type: .u8, shape: [2]) { emit in
            for byte: UInt8 in [1, 2] { withUnsafeBytes(of: byte) { emit($0) } }
        }
        writer.add("large", type: .f32, shape: [1], floats: [0.5])
        var pieces: [UInt8] = []
        try writer.forEachDataPiece { pieces += Array($0) }
        #expect(pieces == [0, 0, 0, 0x3f, 1, 2])
        #expect(try reread(writer).withUnsafeDataSection { Array($0) } == pieces)
    }

    @Test func wrongBytesNamesAndShapesAreRefused() throws {
        func message(_ build: (inout SafetensorsWriter) -> Void) throws -> String {
            var writer = SafetensorsWriter()
            build(&writer)
            return try #require(throws: CheckpointError.self) { try reread(writer) }.description
        }
        #expect(
            try message { $0.add("a", type: .f32, shape: [2], floats: [1]) }.contains("4 bytes to write, expected 8"))
        #expect(try message { $0.add("a", type: .f32, shape: [1], floats: [1, 2]) }.contains("8 bytes to write"))
        #expect(try message { $0.add("a", type: .i64, shape: [1], floats: [1]) }.contains("0 bytes to write"))
        #expect(try message { $0.add("a", type: .u8, shape: [.max, 3]) { _ in } }.contains("can be counted"))
        #expect(
            try message { $0.add("__metadata__", type: .u8, shape: [0]) { _ in } }.contains("none named __metadata__"))
    }

    @Test func aFullDiskIsAnErrorWithItsErrno() throws {
        var writer = SafetensorsWriter()
        writer.add("a", type: .f32, shape: [1], floats: [1])
        let full = open("/dev/full", O_WRONLY)
        defer { close(full) }
        let error = try #require(throws: CheckpointError.self) { try writer.write(to: full, path: "/dev/full") }
        #expect(error.cause == .system(code: ENOSPC))
    }
}
