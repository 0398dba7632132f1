import Checkpoint
import Testing

@Suite struct SafetensorsReaderTests {
    @Test func everyElementTypeReadsAsFloats() throws {
        let checkpoint = try Checkpoint.open(fixture("Checkpoint/kinds.safetensors"))
        #expect(checkpoint.format == .safetensors)
        #expect(checkpoint.metadata == ["note": "é😀\n\"quoted\""])
        #expect(checkpoint.tensors.count == 14)
        for type in StoredElementType.allCases {
            let tensor = try #require(checkpoint.tensors[type.rawValue.lowercased()])
            #expect(tensor.elementType == type)
            #expect(tensor.shape == [2, 3])
            #expect(tensor.floats() == (type == .bool ? [0, 1, 1, 1, 1, 1] : [0, 1, 2, 3, 4, 5]))
        }
        #expect(checkpoint.tensors["scalar"]?.shape == [])
        #expect(checkpoint.tensors["scalar"]?.floats() == [23])
        #expect(checkpoint.tensors["empty"]?.floats() == [])
        #expect(try checkpoint.tensors["odd"]?.withUnsafeBytes { Array($0) } == [7, 8, 9])
    }

    @Test func halvesConvertExactly() throws {
        let half = try #require(try Checkpoint.open(fixture("Checkpoint/kinds.safetensors")).tensors["half/special"])
        let bits: [UInt16] = [0, 0x8000, 1, 0x83ff, 0x0400, 0x7bff, 0x7c00, 0xfc00, 0x3555, 0xc000]
        #expect(half.floats().map(\.bitPattern) == bits.map { Float(Float16(bitPattern: $0)).bitPattern })
    }

    @Test func allHalvesConvertAsTheCompilerDoes() throws {
        let bits = (0...UInt16.max).map { $0 }
        let data = bits.withUnsafeBytes(Array.init)
        let header = #"{"h":{"dtype":"F16","shape":[65536],"data_offsets":[0,131072]}}"#
        let tensor = try #require(try open(safetensors(header) + data).tensors["h"])
        let wrong = zip(tensor.floats(), bits).filter { value, bits in
            let expected = Float(Float16(bitPattern: bits))
            return value.bitPattern != expected.bitPattern && !(value.isNaN && expected.isNaN)
        }
        #expect(wrong.isEmpty)
    }

    @Test func theDataSectionIsWhatFollowsTheHeader() throws {
        let bytes = safetensors(#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}} "#, data: 3)
        #expect(try open(bytes).withUnsafeDataSection { Array($0) } == [0, 1, 2])
    }

    @Test func aTensorOutlivesItsCheckpoint() throws {
        func tensor() throws -> StoredTensor? {
            try open(safetensors(#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#, data: 3)).tensors["a"]
        }
        #expect(try tensor()?.floats() == [0, 1, 2])
    }
}

@Suite struct TorchReaderTests {
    /// One content by three pickle protocols, with and without zip64.
    @Test(arguments: ["lightning.ckpt", "protocol-4.pt", "protocol-5-zip64.pt"])
    func aTrainingCheckpointGivesItsStateDict(name: String) throws {
        let checkpoint = try Checkpoint.open(fixture("Checkpoint/\(name)"))
        #expect(checkpoint.format == .torchZip)
        #expect(checkpoint.tensors.count == 15)
        let kinds: [(String, StoredElementType)] = [
            ("double", .f64), ("float", .f32), ("half", .f16), ("bfloat16", .bf16), ("long", .i64), ("int", .i32),
            ("short", .i16), ("char", .i8), ("byte", .u8), ("bool", .bool),
        ]
        for (name, type) in kinds {
            let tensor = try #require(checkpoint.tensors[name])
            #expect(tensor.elementType == type)
            #expect(tensor.shape == [2, 3])
            #expect(tensor.floats() == (type == .bool ? [0, 1, 1, 1, 1, 1] : [0, 1, 2, 3, 4, 5]))
        }
        #expect(checkpoint.metadata["global_step"] == "470000")
        #expect(checkpoint.metadata["pytorch-lightning_version"] == "1.4.2")
        #expect(checkpoint.metadata["learning_rate"] == "0.5")
        #expect(checkpoint.metadata["finished"] == "true")
        #expect(checkpoint.metadata["minus"] == "-5")
        #expect(checkpoint.metadata["minus_long"] == "\(-(1 << 40))")
        #expect(checkpoint.metadata["beyond"] == nil)
    }

    @Test func viewsOfOneStorageReadByTheirStrides() throws {
        let tensors = try Checkpoint.open(fixture("Checkpoint/lightning.ckpt")).tensors
        #expect(tensors["parameter"]?.floats() == (0..<24).map(Float.init))
        #expect(tensors["transposed"]?.shape == [6, 4])
        let transposed = (0..<24).map { index in Float(index % 4 * 6 + index / 4) }
        #expect(tensors["transposed"]?.floats() == transposed)
        #expect(tensors["sliced"]?.floats() == [1, 3, 7, 9, 13, 15, 19, 21])
        #expect(tensors["sliced"]?.reshaped([8])?.floats() == [1, 3, 7, 9, 13, 15, 19, 21])
        #expect(tensors["sliced"]?.reshaped([7]) == nil)
        #expect(tensors["transposed"]?.renamed("t").floats() == tensors["transposed"]?.floats())
        #expect(try tensors["transposed"]?.withUnsafeBytes { $0.count } == 96)
        #expect(tensors["scalar"]?.floats() == [23])
        #expect(tensors["empty"]?.floats() == [])
    }

    @Test func aPlainDictOfTensorsIsRead() throws {
        let tensors = try open(torch(Pickle.tensor())).tensors
        #expect(tensors["w"]?.shape == [2, 3])
        #expect(try tensors["w"]?.withUnsafeBytes { Array($0) } == Array(0..<24))
    }

    /// Its code raises an error; nothing of it is run.
    @Test func aTorchScriptArchiveGivesTheTensorsOfItsModules() throws {
        let file = try Checkpoint.open(fixture("encoders/openai.pt"))
        #expect(file.tensors.count == 41)
        #expect(file.tensors["visual.transformer.resblocks.0.attn.in_proj_weight"]?.shape == [192, 64])
        #expect(file.tensors["context_length"]?.floats() == [10])
        #expect(file.tensors["logit_scale"]?.shape == [])
    }

    @Test func theGoldenModelIsRead() throws {
        let model = try Checkpoint.open(fixture("sd2-tiny/tiny-sd2.ckpt"))
        #expect(model.format == .torchZip)
        #expect(model.tensors.count == 973)
        let weight = try #require(model.tensors["model.diffusion_model.time_embed.0.weight"])
        #expect(weight.elementType == .f16)
        #expect(weight.shape == [128, 32])
        // The sum as NumPy has it, in double.
        let sum = weight.floats().reduce(0.0) { $0 + Double($1) }
        #expect(abs(sum - goldenSum) < 1e-9)
        let adapter = try Checkpoint.open(fixture("sd2-tiny/cross_attention-199999.pt"))
        #expect(adapter.tensors.count == 45)
        #expect(adapter.tensors.keys.allSatisfy { $0.hasPrefix("diffusion_model.") })
        #expect(adapter.tensors.values.allSatisfy { $0.elementType == .f32 })
        let golden = try Checkpoint.open(fixture("sd2-tiny/golden.safetensors"))
        #expect(golden.tensors["xT"]?.shape == [1, 4, 16, 16])
    }

    private let goldenSum = 6.2791337966918945
}
