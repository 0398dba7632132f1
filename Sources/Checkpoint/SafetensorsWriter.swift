import Bytes

/// Writes safetensors, streamed: what it holds of each tensor is a name, a shape and where the bytes come from.
///
/// The bytes of the file are a function of tensors and metadata alone: tensors lie in the order of falling element
/// size, then of name, as the reference implementation puts them, which aligns each to its element; the header is
/// padded with spaces to a multiple of eight bytes or more.
public struct SafetensorsWriter: Sendable {
    /// Hands a tensor's bytes, little-endian and row-major, in one or several pieces to `emit`.
    public typealias Provider = @Sendable (_ emit: (UnsafeRawBufferPointer) -> Void) -> Void

    private struct Entry: Sendable {
        let name: String
        let type: StoredElementType
        let shape: [Int]
        let provide: Provider
    }

    /// The strings for `__metadata__`; may be set until the file is written.
    public var metadata: [String: String]
    /// The alignment of the first tensor's bytes in the file: eight, or a greater power of two.
    public var dataAlignment = 8
    private var entries: [Entry] = []

    /// A writer without tensors.
    public init(metadata: [String: String] = [:]) {
        self.metadata = metadata
    }

    /// Adds a tensor whose bytes `provide` hands out each time they are needed.
    public mutating func add(_ name: String, type: StoredElementType, shape: [Int], provide: @escaping Provider) {
        entries.append(Entry(name: name, type: type, shape: shape, provide: provide))
    }

    /// Adds a tensor of another checkpoint as it is. Where there is no memory for a copy that it needs, no bytes come, which
    /// the check of sizes reports.
    public mutating func add(_ tensor: StoredTensor) {
        add(tensor.name, type: tensor.elementType, shape: tensor.shape) { try? tensor.withUnsafeBytes($0) }
    }

    /// Adds a tensor converted from floats, to nearest even: F64, F32, F16 or BF16. They are converted here, once, however
    /// often the bytes are needed.
    public mutating func add(_ name: String, type: StoredElementType, shape: [Int], floats: [Float]) {
        let encoded = floats.withUnsafeBufferPointer { type.encoded($0) }
        // A type without floats provides nothing, which the check of sizes reports.
        add(name, type: type, shape: shape) { encoded?.withUnsafeBytes($0) }
    }

    /// Calls `body` with the data section, piece by piece in file order, for instance to hash it before the header
    /// that names the hash is written.
    /// - Throws: `CheckpointError` when a provider's bytes do not fit its shape; `path` is for its message.
    public func forEachDataPiece(path: String = "safetensors", _ body: (UnsafeRawBufferPointer) -> Void)
        throws(CheckpointError)
    {
        for (entry, size) in try layout(path: path) {
            try provide(entry, size: size, path: path, body)
        }
    }

    /// Creates or replaces the file `path`, durably. The file is there whole or as it was: `path` may be what the tensors
    /// are read from.
    /// - Throws: as `write(to:path:)`.
    public func write(toPath path: String) throws(CheckpointError) {
        let file = try onFile { () throws(FileError) in try AtomicFile(path) }
        try write(to: file.descriptor, path: path)
        try onFile { () throws(FileError) in try file.commit() }
    }

    /// Writes to a descriptor from its present position; neither synced nor closed. `progress` hears of every tensor before
    /// it is written, how many are and of how many, and may end it by throwing.
    /// - Throws: `CheckpointError` with the errno, or when two tensors share a name, or a provider's bytes do not
    ///   fit its shape; `path` is for its message.
    public func write(
        to descriptor: Int32, path: String,
        progress: (_ tensor: Int, _ tensors: Int) throws(CheckpointError) -> Void = { _, _ in }
    ) throws(CheckpointError) {
        let layout = try layout(path: path)
        var header = Array(headerText(layout).utf8)
        header += [UInt8](repeating: UInt8(ascii: " "), count: -(8 + header.count) & (max(8, dataAlignment) - 1))
        var size: [UInt8] = []
        size.append(littleEndian: UInt64(header.count))
        try onFile { () throws(FileError) in try writeAll(size + header, to: descriptor, path: path) }
        var failure: FileError?
        for (index, (entry, size)) in layout.enumerated() {
            try progress(index, layout.count)
            try provide(entry, size: size, path: path) { piece in
                guard failure == nil else { return }
                do throws(FileError) { try writeAll(piece, to: descriptor, path: path) } catch { failure = error }
            }
            if let failure { throw CheckpointError(failure) }
        }
    }

    private func provide(
        _ entry: Entry, size: Int, path: String, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(CheckpointError) {
        var provided = 0
        entry.provide { piece in
            provided += piece.count
            if provided <= size { body(piece) }
        }
        guard provided == size else {
            throw CheckpointError(
                path: path, cause: .malformed, place: "tensor \(entry.name)", found: "\(provided) bytes to write",
                expected: "\(size) for \(entry.type.rawValue) \(entry.shape)")
        }
    }

    /// The entries in file order with their sizes in bytes.
    private func layout(path: String) throws(CheckpointError) -> [(Entry, Int)] {
        var names: Set<String> = ["__metadata__"]
        var result: [(Entry, Int)] = []
        let sorted = entries.sorted { ($1.type.byteCount, $0.name) < ($0.type.byteCount, $1.name) }
        for entry in sorted {
            guard names.insert(entry.name).inserted else {
                throw CheckpointError(
                    path: path, cause: .malformed, place: "tensor \(entry.name)", found: "two of this name to write",
                    expected: "each name once, and none named __metadata__")
            }
            guard let count = elementCount(entry.shape),
                case let (size, false) = count.multipliedReportingOverflow(by: entry.type.byteCount)
            else {
                throw CheckpointError(
                    path: path, cause: .malformed, place: "tensor \(entry.name)", found: "shape \(entry.shape)",
                    expected: "a shape whose size in bytes can be counted")
            }
            result.append((entry, size))
        }
        return result
    }

    private func headerText(_ layout: [(Entry, Int)]) -> String {
        var members: [String] = []
        if !metadata.isEmpty {
            let pairs = metadata.sorted { $0.key < $1.key }.map { "\(quoted($0.key)):\(quoted($0.value))" }
            members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
        }
        var offset = 0
        for (entry, size) in layout {
            let shape = entry.shape.map(String.init).joined(separator: ",")
            members.append(
                "\(quoted(entry.name)):{\"dtype\":\"\(entry.type.rawValue)\",\"shape\":[\(shape)],"
                    + "\"data_offsets\":[\(offset),\(offset + size)]}")
            offset += size
        }
        return "{\(members.joined(separator: ","))}"
    }

    private func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case "\r": result += "\\r"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
