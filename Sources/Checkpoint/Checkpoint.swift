import Bytes

/// The tensors of one file, mapped and checked but not read: nothing is converted until a tensor is asked for.
///
/// Formats are told by content. safetensors follows https://github.com/huggingface/safetensors (Format); PyTorch's
/// zip is what `torch.save` writes since 1.6. Proven by Tests/Fixtures/sd2-tiny and Tests/Fixtures/Checkpoint.
public struct Checkpoint: Sendable {
    /// The formats that are read.
    public enum Format: String, Sendable {
        case safetensors
        case torchZip = "torch zip"
    }

    /// The file, as it was named by the caller.
    public let path: String
    /// The format the content has.
    public let format: Format
    /// All tensors by key. For torch, those of `state_dict` where there is one, else those of the top-level dict.
    public let tensors: [String: StoredTensor]
    /// safetensors: `__metadata__`. torch: the numbers, booleans and strings beside the tensors, such as `global_step`.
    public let metadata: [String: String]

    private let memory: Memory
    private let dataRange: Range<Int>

    init(
        path: String, format: Format, tensors: [String: StoredTensor], metadata: [String: String], memory: Memory,
        dataRange: Range<Int>
    ) {
        self.path = path
        self.format = format
        self.tensors = tensors
        self.metadata = metadata
        self.memory = memory
        self.dataRange = dataRange
    }

    /// Opens and checks a checkpoint. While the result or any of its tensors lives, the file must be replaced by rename
    /// only, never changed in place: a page that someone cuts off reads as zeros, which `MappedFiles.check()` reports.
    /// - Throws: `CheckpointError` naming what was found and what was expected.
    public static func open(_ path: String) throws(CheckpointError) -> Checkpoint {
        let file = try RegularFile.open(path).mapError { CheckpointError($0, path) }.get()
        defer { file.close() }
        return try open(descriptor: file.descriptor, path: path)
    }

    /// Opens a checkpoint through a descriptor, which stays the caller's; `path` serves for messages only.
    /// - Throws: as `open(_:)`.
    public static func open(descriptor: Int32, path: String) throws(CheckpointError) -> Checkpoint {
        let memory = try Memory(mapping: descriptor, path: path)
        switch signature(of: memory.bytes) {
        case .safetensors: return try SafetensorsReader(memory: memory, path: path).read()
        case .zip: return try TorchReader(memory: memory, path: path).read()
        case .other(let found):
            throw CheckpointError(
                path: path, cause: .unsupported, place: "first bytes", found: found,
                expected: "safetensors, or a zip written by torch.save")
        }
    }

    /// Calls `body` with the data section of a safetensors file, all tensors in file order: what a hash of the
    /// tensors covers. For torch, the whole file.
    public func withUnsafeDataSection<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try withExtendedLifetime(memory) { try body(UnsafeRawBufferPointer(rebasing: memory.bytes[dataRange])) }
    }

    private enum Signature {
        case safetensors
        case zip
        case other(String)
    }

    /// What the first bytes say. The other kinds are those that people are known to name `.ckpt` or `.safetensors`.
    private static func signature(of bytes: UnsafeRawBufferPointer) -> Signature {
        func starts(_ prefix: [UInt8]) -> Bool { bytes.starts(with: prefix) }
        func starts(_ prefix: String) -> Bool { bytes.starts(with: prefix.utf8) }
        // Eight bytes of header length, then a JSON object. A length may begin like a pickle (128 is 80 00), but all that may
        // be read has no high bytes.
        if bytes.count >= 9, bytes[8] == UInt8(ascii: "{"), bytes[4..<8].allSatisfy({ $0 == 0 }) { return .safetensors }
        if starts([0x50, 0x4b, 0x03, 0x04]) { return .zip }
        if starts("version https://git-lfs") { return .other("a Git LFS pointer (the file itself was not downloaded)") }
        if starts("GGUF") { return .other("a GGUF file") }
        if starts([0x89, 0x48, 0x44, 0x46]) { return .other("an HDF5 file") }
        if starts([0x89, 0x50, 0x4e, 0x47]) || starts([0xff, 0xd8, 0xff]) { return .other("an image") }
        if starts("<!DOCTYPE") || starts("<!doctype") || starts("<html") { return .other("an HTML page") }
        if starts([0x80, 0x02, 0x8a, 0x0a]) {
            return .other("a torch file from before version 1.6 (load and save it again with a newer torch)")
        }
        if starts([0x80]), bytes.count > 1, bytes[1] <= 5 { return .other("a bare pickle") }
        // Another length is left to the reader's message.
        if bytes.count >= 9, bytes[8] == UInt8(ascii: "{") { return .safetensors }
        if bytes.count < 9 || bytes.starts(with: [0, 0, 0, 0]) {
            return .other("\(bytes.count) bytes of no known kind")
        }
        let hexadecimal = bytes.prefix(8).map { String($0, radix: 16) }.joined(separator: " ")
        return .other("no known kind (\(hexadecimal))")
    }
}
