import Checkpoint
import Foundation
import Glibc
import Testing

private func checkpoint(_ shapes: [String: [Int]]) throws -> Checkpoint {
    var writer = SafetensorsWriter()
    for (name, shape) in shapes {
        writer.add(name, type: .f16, shape: shape, floats: (0..<shape.reduce(1, *)).map(Float.init))
    }
    let descriptor = anonymousFile()
    defer { close(descriptor) }
    try writer.write(to: descriptor, path: "written")
    return try Checkpoint.open(descriptor: descriptor, path: "written")
}

@Suite struct KeyRenamingTests {
    @Test func theLongestEntryIsApplied() {
        let renaming = KeyRenaming(table: [
            .init("in.", "down."), .init("in.1.", "mid."), .init("in.1.norm.weight", "scale"),
        ])
        #expect(renaming("in.0.norm.weight") == "down.0.norm.weight")
        #expect(renaming("in.1.conv.weight") == "mid.conv.weight")
        #expect(renaming("in.1.norm.weight") == "scale")
        #expect(renaming("in.1.norm.bias") == "mid.norm.bias")
        // An entry stands for whole segments.
        #expect(renaming("in.10.conv") == "down.10.conv")
        #expect(renaming("inner.x") == "inner.x")
        for odd in ["", ".", "..", "in.", "in..", "a.b."] { _ = renaming(odd) }
        #expect(renaming("in.1.") == "mid.")
        #expect(KeyRenaming(table: [.init("", "model.")])("a.b") == "model.a.b")
    }
}

@Suite struct PartTests {
    @Test func partsAreFoundByPrefixAndNamedByTheirFiles() throws {
        let store = ParameterStore(
            parts: [
                try .init(
                    prefix: "unet.", [try checkpoint(["conv_in.weight": [2], "extra": [1]])], label: "unet/model.bin",
                    labels: ["unet/model.bin"], renaming: KeyRenaming(table: [.init("unet.first.", "conv_in.")])),
                try .init(
                    prefix: "vae.", [try checkpoint(["a": [2, 1]]), try checkpoint(["b": [3]])],
                    label: "vae/index.json", labels: ["vae/1", "vae/2"],
                    renaming: KeyRenaming(table: [.init("vae.", "")])),
            ], path: "model")
        #expect(store.shape(of: "unet.first.weight") == [2])
        #expect(store.take("unet.first.weight", shape: [2]).floats() == [0, 1])
        #expect(store.take("vae.b", shape: [3]).floats() == [0, 1, 2])
        _ = store.take("vae.a", shape: [2])
        _ = store.take("vae.c", shape: [4])
        let error = try #require(throws: CheckpointError.self) { try store.finish() }
        #expect(
            error.description == """
                model: the tensors do not fit the model: 1 missing, 1 misshapen, 1 unused
                  missing (expected shape):
                    vae/index.json: c [4]
                  misshapen:
                    vae/1: a found [2, 1], expected [2]
                  unused (found shape):
                    unet/model.bin: extra [1]
                """)
    }

    @Test func amendmentsAreAppliedWhereverValuesAreRead() throws {
        let base = ParameterStore(try checkpoint(["w": [2, 3], "v": [2]]))
        let store = ParameterStore(
            amending: ParameterStore(amending: base) { name, shape in
                name == "w" && shape == [2, 3] ? [{ $0[0] += 10 }] : []
            }
        ) { name, _ in name == "w" ? [{ values in for i in values.indices { values[i] *= 2 } }] : [] }
        let tensor = store.take("w", shape: [2, 3])
        let expected: [Float] = [20, 2, 4, 6, 8, 10]
        #expect(tensor.floats() == expected)
        #expect(tensor.elementType == .f32)
        #expect(tensor.entry(1)?.floats() == [6, 8, 10])
        #expect(tensor.reshaped([6])?.floats() == expected)
        #expect(tensor.renamed("x").floats() == expected)
        let bytes = try tensor.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        #expect(bytes == expected)
        #expect(store.take("v", shape: [2]).elementType == .f16)
        try store.finish()
        let descriptor = anonymousFile()
        defer { close(descriptor) }
        try store.takenTensors().write(to: descriptor, path: "merged")
        #expect(try Checkpoint.open(descriptor: descriptor, path: "merged").tensors["w"]?.floats() == expected)
    }
}

@Suite struct SignatureTests {
    /// A header of 128 bytes begins with the bytes 80 00, one of 640 with 80 02, as pickles do.
    @Test(arguments: [128, 128 + 256, 128 + 2 * 256, 128 + 5 * 256])
    func aLengthLikeAPickleIsALength(_ length: Int) throws {
        let header = #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#
        let padded = header + String(repeating: " ", count: length - header.utf8.count)
        #expect(try open(safetensors(padded, data: 2)).tensors["a"]?.floats() == [0, 1])
    }
}

@Suite struct TorchWriterTests {
    @Test func whatItWritesReadsBack() throws {
        let path = NSTemporaryDirectory() + "writer-\(UUID().uuidString).pt"
        defer { unlink(path) }
        // All element types, an empty tensor, a scalar; and a view with strides, which is written as the tensor it is.
        var tensors = Array(try Checkpoint.open(fixture("Checkpoint/kinds.safetensors")).tensors.values)
        tensors.append(
            try #require(try Checkpoint.open(fixture("Checkpoint/lightning.ckpt")).tensors["transposed"]))
        try TorchWriter(tensors).write(toPath: path)
        let written = try Checkpoint.open(path)
        #expect(written.format == .torchZip)
        #expect(written.tensors.count == tensors.count)
        for tensor in tensors {
            let copy = try #require(written.tensors[tensor.name])
            #expect(copy.shape == tensor.shape)
            #expect(copy.elementType == tensor.elementType)
            let bytes = try [copy, tensor].map { try $0.withUnsafeBytes { Array($0) } }
            #expect(bytes[0] == bytes[1], "\(tensor.name)")
        }
    }

    /// Strides of a tensor of no element are beyond all numbers where its other extents are large.
    @Test func anEmptyTensorMayBeVast() throws {
        let paths = ["safetensors", "pt"].map { NSTemporaryDirectory() + "vast-\(UUID().uuidString).\($0)" }
        defer { for path in paths { unlink(path) } }
        var writer = SafetensorsWriter()
        writer.add("vast", type: .f32, shape: [0, 1 << 62, 4], floats: [])
        try writer.write(toPath: paths[0])
        try TorchWriter(Array(try Checkpoint.open(paths[0]).tensors.values)).write(toPath: paths[1])
        #expect((try? Checkpoint.open(paths[1]))?.tensors["vast"]?.count ?? 0 == 0)
    }

    /// Finding 17: the count field of a zip has 16 bits.
    @Test func moreRecordsThanAZipCountsAreRefused() throws {
        let one = try #require(try Checkpoint.open(fixture("Checkpoint/kinds.safetensors")).tensors.values.first)
        let error = try #require(throws: CheckpointError.self) {
            try TorchWriter(Array(repeating: one, count: 65_533)).write(toPath: NSTemporaryDirectory() + "many.pt")
        }
        #expect(error.description.contains("found 65533, expected at most 65532"))
    }

    /// Finding 3: the writer once truncated the file it had mapped.
    @Test func theInputMayBeTheOutput() throws {
        let path = NSTemporaryDirectory() + "writer-\(UUID().uuidString).pt"
        defer { unlink(path) }
        let before = Array(try Checkpoint.open(fixture("Checkpoint/kinds.safetensors")).tensors.values)
        try TorchWriter(before).write(toPath: path)
        let mapped = try Checkpoint.open(path)
        try TorchWriter(Array(mapped.tensors.values)).write(toPath: path)
        let after = try Checkpoint.open(path)
        for tensor in before {
            let copy = try #require(after.tensors[tensor.name])
            let (copied, given) = (try copy.withUnsafeBytes { Array($0) }, try tensor.withUnsafeBytes { Array($0) })
            #expect(copied == given, "\(tensor.name)")
        }
        var writer = SafetensorsWriter()
        for tensor in after.tensors.values { writer.add(tensor) }
        try writer.write(toPath: path)
        let again = try Checkpoint.open(path)
        #expect(again.format == .safetensors)
        #expect(again.tensors.count == before.count)
    }

    /// Finding 12: the type asked for is the type written.
    @Test func floatsAreConverted() throws {
        let path = NSTemporaryDirectory() + "writer-\(UUID().uuidString).pt"
        defer { unlink(path) }
        let before = Array(try Checkpoint.open(fixture("Checkpoint/kinds.safetensors")).tensors.values)
        try TorchWriter(before, type: .f16).write(toPath: path)
        for tensor in try Checkpoint.open(path).tensors.values {
            let original = try #require(before.first { $0.name == tensor.name })
            #expect(tensor.elementType == (original.elementType.isFloat ? .f16 : original.elementType))
            if original.elementType.isFloat {
                #expect(tensor.floats() == original.floats().map { Float(Float16($0)) }, "\(tensor.name)")
            }
        }
    }

    @Test func aFullDiskIsAnErrorWithItsErrno() throws {
        let tensors = try Checkpoint.open(fixture("Checkpoint/kinds.safetensors")).tensors.values
        let full = open("/dev/full", O_WRONLY)
        defer { close(full) }
        let error = try #require(throws: CheckpointError.self) {
            try TorchWriter(Array(tensors)).write(to: full, path: "/dev/full")
        }
        #expect(error.cause == .system(code: ENOSPC))
    }
}
