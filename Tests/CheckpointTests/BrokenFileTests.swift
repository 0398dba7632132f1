import Checkpoint
import Glibc
import Testing

/// A broken file and what its error must say.
struct BrokenFile: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let bytes: [UInt8]
    let message: String

    init(_ description: String, _ bytes: [UInt8], _ message: String) {
        testDescription = description
        self.bytes = bytes
        self.message = message
    }
}

private let sound = #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#

private func one(_ fields: String) -> String { "{\"a\":{\(fields)}}" }

private let brokenSafetensors: [BrokenFile] = [
    BrokenFile("no bytes", [], "truncated: file: found 0 bytes"),
    BrokenFile("eight zeros", [UInt8](repeating: 0, count: 8), "first bytes: found 8 bytes of no known kind"),
    BrokenFile(
        "header of no length", [UInt8](repeating: 0, count: 8) + Array("{}".utf8),
        "header length: found 0, expected at least 2"),
    BrokenFile("header too long", [1, 0, 0, 0, 1, 0, 0, 0] + Array("{}".utf8), "expected at most 100000000"),
    BrokenFile(
        "header length beyond Int", [UInt8](repeating: 255, count: 8) + Array("{}".utf8), "found 18446744073709551615"),
    BrokenFile(
        "header cut", Array(safetensors(sound).prefix(30)), "truncated: header: found 22 bytes, expected 54 bytes"),
    BrokenFile("data cut", safetensors(sound, data: 7), "truncated: data section: found 7 bytes, expected 8 bytes"),
    BrokenFile("data too long", safetensors(sound, data: 9), "data section: found 9 bytes, expected 8 bytes"),
    BrokenFile(
        "something after the header", safetensors(sound + "x", data: 8), "found x, expected the end of the header"),
    BrokenFile(
        "unknown dtype", safetensors(one(#""dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]"#), data: 2),
        "tensor a: found dtype F8_E4M3, expected F64, F32"),
    BrokenFile("no dtype", safetensors(one(#""shape":[2],"data_offsets":[0,2]"#), data: 2), "tensor a: found no dtype"),
    BrokenFile(
        "no shape", safetensors(one(#""dtype":"U8","data_offsets":[0,2]"#), data: 2), "tensor a: found no shape"),
    BrokenFile(
        "no offsets", safetensors(one(#""dtype":"U8","shape":[2]"#), data: 2), "tensor a: found no data_offsets"),
    BrokenFile(
        "one offset", safetensors(one(#""dtype":"U8","shape":[2],"data_offsets":[0]"#), data: 2),
        "found data_offsets [0]"),
    BrokenFile(
        "offsets reversed", safetensors(one(#""dtype":"U8","shape":[2],"data_offsets":[2,0]"#), data: 2),
        "with begin <= end"),
    BrokenFile(
        "unknown field", safetensors(one(#""dtype":"U8","shape":[2],"data_offsets":[0,2],"x":1"#), data: 2),
        "found field \"x\" of tensor a"),
    BrokenFile(
        "field twice", safetensors(one(#""dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]"#), data: 2),
        "a second \"dtype\" of tensor a"),
    BrokenFile(
        "size is not the shape's", safetensors(one(#""dtype":"F32","shape":[2],"data_offsets":[0,4]"#), data: 4),
        "of 4 bytes, expected 8 bytes for F32 [2]"),
    BrokenFile(
        "shape overflows", safetensors(one(#""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]"#)),
        "whose size in bytes can be counted"),
    BrokenFile(
        "bytes overflow", safetensors(one(#""dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]"#)),
        "whose size in bytes can be counted"),
    BrokenFile(
        "number beyond Int", safetensors(one(#""dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,2]"#)),
        "a number beyond 2^63"),
    BrokenFile(
        "negative extent", safetensors(one(#""dtype":"U8","shape":[-1],"data_offsets":[0,0]"#)),
        "found -, expected a natural number"),
    BrokenFile(
        "fraction", safetensors(one(#""dtype":"U8","shape":[1.5],"data_offsets":[0,0]"#)), "found ., expected ]"),
    BrokenFile("leading zero", safetensors(one(#""dtype":"U8","shape":[01],"data_offsets":[0,0]"#)), "a leading zero"),
    BrokenFile(
        "hole",
        safetensors(
            #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}"#,
            data: 5), "tensor b: found data from byte 3, expected byte 2"),
    BrokenFile(
        "overlap",
        safetensors(
            #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
            data: 3), "tensor b: found data from byte 1, expected byte 2"),
    BrokenFile(
        "key twice",
        safetensors(
            #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
            data: 2), "a second \"a\""),
    BrokenFile("metadata twice", safetensors(#"{"__metadata__":{"k":"1","k":"2"}}"#), "a second \"k\" in __metadata__"),
    BrokenFile("metadata of numbers", safetensors(#"{"__metadata__":{"k":1}}"#), "found 1, expected \""),
    BrokenFile("tensor is no object", safetensors(#"{"a":[1]}"#), "found [, expected {"),
    BrokenFile("half a surrogate pair", safetensors(#"{"\ud800":{}}"#), "half of a surrogate pair"),
    BrokenFile("unknown escape", safetensors(#"{"\q":{}}"#), #"the escape \q"#),
    BrokenFile("control character", safetensors("{\"\n\":{}}"), "a control character in a string"),
    BrokenFile("not UTF-8", safetensors("{\"").prefix(10) + [0xff, 0x22, 0x7d], "header"),
]

private let brokenTorch: [BrokenFile] = [
    BrokenFile(
        "os.system", torch(Pickle().global("os", "system").raw([0x28]).text("true").raw([0x74, 0x52, 0x2e]).bytes),
        "found global os.system, expected only"),
    BrokenFile(
        "os.system by STACK_GLOBAL", torch(Pickle().text("posix").text("system").raw([0x93, 0x2e]).bytes),
        "found global posix.system"),
    BrokenFile(
        "builtins.eval", torch(Pickle().global("builtins", "eval").raw([0x2e]).bytes), "found global builtins.eval"),
    BrokenFile("modules in modules", torch(nest(100)), "modules nested deeper than 64"),
    BrokenFile("a module of itself", torch(ownModule), "found no tensors"),
    BrokenFile("EXT1", torch([0x80, 2, 0x82, 1, 0x2e]), "found opcode 0x82"),
    BrokenFile("INST", torch([0x80, 2, 0x28, 0x69] + Array("os\nsystem\n".utf8)), "found opcode 0x69"),
    BrokenFile("protocol 9", torch([0x80, 9, 0x2e]), "found pickle protocol 9"),
    BrokenFile("cut", torch(Array(Pickle.tensor().dropLast(5))), "truncated: data.pkl at byte"),
    BrokenFile(
        "string beyond the end", torch([0x80, 2, 0x58, 255, 255, 255, 255]), "found 0 bytes, expected 4294967295 more"),
    BrokenFile(
        "length beyond Int", torch([0x80, 2, 0x8d] + [UInt8](repeating: 255, count: 8)),
        "a length of 18446744073709551615"),
    BrokenFile("empty stack", torch([0x80, 2, 0x2e]), "an empty stack"),
    BrokenFile("no mark", torch([0x80, 2, 0x74, 0x2e]), "no mark on the stack"),
    BrokenFile("memo", torch([0x80, 2, 0x68, 3, 0x2e]), "memo 3, which was never stored"),
    BrokenFile("key without a value", torch([0x80, 2, 0x7d, 0x28, 0x4e, 0x75, 0x2e]), "a key without a value"),
    BrokenFile(
        "items of a number", torch([0x80, 2, 0x4b, 1, 0x4e, 0x61, 0x2e]), "items for something that is no container"),
    BrokenFile(
        "call of a number", torch([0x80, 2, 0x4b, 1, 0x29, 0x52, 0x2e]), "a call of something that is no function"),
    BrokenFile("a list at the top", torch([0x80, 2, 0x5d, 0x2e]), "something else at the top, expected a dict"),
    BrokenFile("no tensors", torch([0x80, 2, 0x7d, 0x2e]), "found no tensors"),
    BrokenFile("copies of copies", torch(explosion), "more elements than bytes"),
    BrokenFile("wrong checksum", wrongChecksum, "found another checksum"),
    BrokenFile("missing record", torch(Pickle.tensor(key: "7")), "zip: found no entry archive/data/7"),
    BrokenFile(
        "path in a key", torch(Pickle.tensor(key: "../../etc/passwd")), "found no entry archive/data/../../etc/passwd"),
    BrokenFile("record of another size", torch(Pickle.tensor(count: 7)), "found 24 bytes, expected 7 elements of F32"),
    BrokenFile(
        "record of another type", torch(Pickle.tensor("HalfStorage")), "found 24 bytes, expected 6 elements of F16"),
    BrokenFile(
        "unknown storage", torch(Pickle.tensor("ComplexFloatStorage")), "found global torch.ComplexFloatStorage"),
    BrokenFile(
        "view beyond", torch(Pickle.tensor(offset: 1)),
        "offset 1, shape [2, 3] and strides [3, 1], expected a view inside"),
    BrokenFile(
        "stride beyond", torch(Pickle.tensor(strides: [4, 1])), "expected a view inside its storage of 6 elements"),
    BrokenFile("negative offset", torch(Pickle.tensor(offset: -1)), "offset -1"),
    BrokenFile("negative extent", torch(Pickle.tensor(shape: [-2, -3])), "shape [-2, -3]"),
    BrokenFile("negative stride", torch(Pickle.tensor(offset: 5, strides: [-3, -1])), "strides [-3, -1]"),
    BrokenFile(
        "expanded beyond its storage", torch(Pickle.tensor(shape: [1 << 40], strides: [0])), "shape [1099511627776]"),
    BrokenFile(
        "overflowing shape", torch(Pickle.tensor(shape: [1 << 40, 1 << 40], strides: [0, 0])), "expected a view inside"),
    BrokenFile("overflowing stride", torch(Pickle.tensor(strides: [.max, .max])), "expected a view inside"),
    BrokenFile("strides of another rank", torch(Pickle.tensor(strides: [1])), "storage, offset, shape and strides"),
    BrokenFile(
        "deflated", zip([with(ZipEntry("archive/data.pkl", [0x80])) { $0.method = 8 }]), "found a deflated entry"),
    BrokenFile(
        "encrypted", zip([with(ZipEntry("archive/data.pkl", [0x80])) { $0.flags = 1 }]), "found an encrypted entry"),
    BrokenFile("name twice", zip([ZipEntry("a/data.pkl", []), ZipEntry("a/data.pkl", [])]), "a second a/data.pkl"),
    BrokenFile("name not UTF-8", zip([with(ZipEntry("a", [])) { $0.name = [0xff] }]), "a name that is not UTF-8"),
    BrokenFile("two pickles", zip([ZipEntry("a/data.pkl", []), ZipEntry("b/data.pkl", [])]), "found 2 data.pkl"),
    BrokenFile("no pickle", zip([ZipEntry("word/document.xml", [])]), "found no data.pkl"),
    BrokenFile(
        "big-endian", zip([ZipEntry("a/byteorder", Array("big".utf8)), ZipEntry("a/data.pkl", [])]),
        "found \"big\", expected \"little\""),
    BrokenFile("zip cut", Array(torch(Pickle.tensor()).dropLast(1)), "truncated: zip end of central directory"),
    BrokenFile(
        "directory beyond", overwritten(at: -10, with: [255, 255, 255, 127]), "zip central directory: found 2 entries"),
    BrokenFile(
        "too many entries", overwritten(at: -12, with: [255, 255]), "zip central directory: found 65535 entries"),
    BrokenFile("directory of something else", overwritten(at: -6, with: [0, 0, 0, 0]), "found 0 entries, expected 2"),
    BrokenFile("LFS pointer", Array("version https://git-lfs.github.com/spec/v1\n".utf8), "a Git LFS pointer"),
    BrokenFile("HTML", Array("<!DOCTYPE html><html>".utf8), "an HTML page"),
    BrokenFile("GGUF", Array("GGUF12345678".utf8), "a GGUF file"),
    BrokenFile("image", [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0], "an image"),
    BrokenFile("old torch", [0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20], "before version 1.6"),
    BrokenFile("bare pickle", Pickle.tensor(), "a bare pickle"),
    BrokenFile("anything", Array("hello, world".utf8), "no known kind (68 65 6c 6c"),
]

/// A TorchScript module that holds a module, and so on.
private func nest(_ count: Int) -> [UInt8] {
    var pickle = Pickle()
    for _ in 0..<count { pickle = pickle.global("__torch__", "Module").raw([0x29, 0x81, 0x7d]).text("m") }
    pickle = pickle.raw([0x4e])
    for _ in 0..<count { pickle = pickle.raw([0x73, 0x62]) }
    return pickle.raw([0x2e]).bytes
}

/// A TorchScript module that is a member of itself.
private let ownModule = Pickle().global("__torch__", "Module").raw([0x29, 0x81, 0x71, 0, 0x7d]).text("m")
    .raw([0x68, 0, 0x73, 0x62, 0x2e]).bytes

/// An OrderedDict made again and again of one long list of pairs.
private let explosion: [UInt8] = {
    var pickle = Pickle().global("collections", "OrderedDict").raw([0x71, 0]).raw([0x5d, 0x28])
    for _ in 0..<100 { pickle = pickle.raw([0x4e, 0x4e, 0x86]) }
    pickle = pickle.raw([0x65, 0x85, 0x71, 1])
    for _ in 0..<100 { pickle = pickle.raw([0x68, 0, 0x68, 1, 0x52]) }
    return pickle.raw([0x2e]).bytes
}()

private let wrongChecksum = zip([with(ZipEntry("archive/data.pkl", Pickle.tensor())) { $0.isChecksumRight = false }])

private func overwritten(at position: Int, with bytes: [UInt8]) -> [UInt8] {
    var file = torch(Pickle.tensor())
    file.replaceSubrange(file.count + position..<file.count + position + bytes.count, with: bytes)
    return file
}

private func with(_ entry: ZipEntry, _ change: (inout ZipEntry) -> Void) -> ZipEntry {
    var entry = entry
    change(&entry)
    return entry
}

@Suite struct BrokenFileTests {
    @Test(arguments: brokenSafetensors + brokenTorch)
    func theErrorNamesTheFault(file: BrokenFile) throws {
        let error = try #require(throws: CheckpointError.self) { try open(file.bytes, path: "broken.ckpt") }
        #expect(error.description.hasPrefix("broken.ckpt: "))
        #expect(error.description.contains(file.message), "\(error)")
        #expect(!error.found.isEmpty && !error.expected.isEmpty)
    }

    @Test func aMissingFileAndAFolderAreNamed() throws {
        let missing = try #require(throws: CheckpointError.self) { try Checkpoint.open("/nonexistent/x.ckpt") }
        #expect(missing.cause == .system(code: ENOENT))
        #expect(missing.description.contains("/nonexistent/x.ckpt: open: found No such file"))
        let folder = try #require(throws: CheckpointError.self) { try Checkpoint.open(fixture("")) }
        #expect(folder.description.contains("found a folder, expected a regular file"))
    }

    /// No cut of a sound file is read as a sound one.
    @Test(arguments: ["kinds.safetensors", "lightning.ckpt", "protocol-5-zip64.pt"])
    func everyTruncationIsAnError(name: String) throws {
        let whole = try fixtureBytes("Checkpoint/\(name)")
        for count in 0..<whole.count {
            #expect(throws: CheckpointError.self) { try open(Array(whole[..<count])) }
        }
    }
}

/// Mutated files may be refused or read, never crash; what is read must be readable to its end.
@Suite struct FuzzTests {
    private func run(_ bytes: [UInt8]) -> Bool {
        guard let checkpoint = try? open(bytes) else { return false }
        for tensor in checkpoint.tensors.values {
            precondition(tensor.floats().count == tensor.count)
        }
        return true
    }

    @Test func safetensors() throws {
        let original = try fixtureBytes("Checkpoint/kinds.safetensors")
        var random = TestRandom(state: UInt64(1 + 100 * fuzzFactor))
        var accepted = 0
        for _ in 0..<10_000 * fuzzFactor where run(random.mutated(original)) { accepted += 1 }
        // Most bytes are data or names, so that some mutants stay sound: the readers were reached.
        #expect(accepted > 100)
    }

    /// The pickle alone is mutated, in a zip whose checksum agrees.
    @Test(arguments: [(0, 2500), (1, 2500), (2, 20_000)]) func pickle(original: Int, count: Int) throws {
        let pickles = [try lightningPickle("lightning.ckpt"), try lightningPickle("protocol-4.pt"), Pickle.tensor()]
        var random = TestRandom(state: UInt64(2 + 100 * fuzzFactor))
        var accepted = 0
        for _ in 0..<count * fuzzFactor where run(torch(random.mutated(pickles[original]))) { accepted += 1 }
        // A long pickle is hit where it matters by almost every mutation, a short one not.
        #expect(accepted < count * fuzzFactor && accepted > (original == 2 ? 50 : -1), "\(accepted)")
    }

    @Test func zipStructure() throws {
        let original = torch(Pickle.tensor())
        var random = TestRandom(state: UInt64(3 + 100 * fuzzFactor))
        var accepted = 0
        for _ in 0..<10_000 * fuzzFactor where run(random.mutated(original)) { accepted += 1 }
        // Bytes of data may change unnoticed; those of the structure are noticed.
        #expect(accepted > 100 && accepted < 9_000 * fuzzFactor, "\(accepted)")
    }

    private func lightningPickle(_ name: String) throws -> [UInt8] {
        let bytes = try fixtureBytes("Checkpoint/\(name)")
        let nameLength = Int(bytes[26])
        let size = bytes[18..<22].reversed().reduce(0) { $0 << 8 | Int($1) }
        return Array(bytes[30 + nameLength..<30 + nameLength + size])
    }
}
