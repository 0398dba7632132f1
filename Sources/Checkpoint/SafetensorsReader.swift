/// Reads safetensors: eight bytes of little-endian header length, a JSON header, the data section.
///
/// All rules of the format are enforced: https://github.com/huggingface/safetensors, section Format.
struct SafetensorsReader {
    /// The limit the reference implementation sets.
    static let maximumHeaderLength = 100_000_000

    let memory: Memory
    let path: String

    private struct Entry {
        let name: String
        let type: StoredElementType
        let shape: [Int]
        let count: Int
        let begin: Int
        let end: Int
    }

    /// The checkpoint, or the first rule that is broken.
    func read() throws(CheckpointError) -> Checkpoint {
        let bytes = memory.bytes
        let announced = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
        guard announced <= UInt64(Self.maximumHeaderLength) else {
            throw malformed("header length", "\(announced)", "at most \(Self.maximumHeaderLength)")
        }
        let length = Int(announced)
        guard length >= 2 else { throw malformed("header length", "\(length)", "at least 2") }
        guard length <= bytes.count - 8 else {
            throw CheckpointError(
                path: path, cause: .truncated, place: "header", found: "\(bytes.count - 8) bytes",
                expected: "\(length) bytes")
        }
        let dataStart = 8 + length
        var scanner = HeaderScanner(bytes: UnsafeRawBufferPointer(rebasing: bytes[8..<dataStart]), path: path)
        let (entries, metadata) = try header(&scanner)
        try checkCoverage(entries, dataCount: bytes.count - dataStart)

        var tensors: [String: StoredTensor] = [:]
        tensors.reserveCapacity(entries.count)
        for entry in entries {
            tensors[entry.name] = StoredTensor(
                name: entry.name, elementType: entry.type, shape: entry.shape, count: entry.count, memory: memory,
                offset: dataStart + entry.begin)
        }
        return Checkpoint(
            path: path, format: .safetensors, tensors: tensors, metadata: metadata, memory: memory,
            dataRange: dataStart..<bytes.count)
    }

    private func header(
        _ scanner: inout HeaderScanner
    ) throws(CheckpointError) -> (entries: [Entry], metadata: [String: String]) {
        var entries: [Entry] = []
        var names: Set<String> = []
        var metadata: [String: String] = [:]
        try scanner.object { (scanner, name) throws(CheckpointError) in
            guard names.insert(name).inserted else {
                throw scanner.error(found: "a second \"\(name)\"", expected: "each key once")
            }
            guard name == "__metadata__" else {
                entries.append(try entry(name, &scanner))
                return
            }
            try scanner.object { (scanner, key) throws(CheckpointError) in
                guard metadata.updateValue(try scanner.string(), forKey: key) == nil else {
                    throw scanner.error(found: "a second \"\(key)\" in __metadata__", expected: "each key once")
                }
            }
        }
        try scanner.end()
        return (entries, metadata)
    }

    /// One tensor's `{"dtype": ..., "shape": [...], "data_offsets": [begin, end]}`.
    private func entry(_ name: String, _ scanner: inout HeaderScanner) throws(CheckpointError) -> Entry {
        var typeName: String?
        var shape: [Int]?
        var offsets: [Int]?
        try scanner.object { (scanner, field) throws(CheckpointError) in
            let isRepeated: Bool
            switch field {
            case "dtype": (isRepeated, typeName) = (typeName != nil, try scanner.string())
            case "shape": (isRepeated, shape) = (shape != nil, try scanner.integers())
            case "data_offsets": (isRepeated, offsets) = (offsets != nil, try scanner.integers())
            default:
                throw scanner.error(
                    found: "field \"\(field)\" of tensor \(name)", expected: "dtype, shape and data_offsets")
            }
            if isRepeated {
                throw scanner.error(found: "a second \"\(field)\" of tensor \(name)", expected: "each field once")
            }
        }
        let place = "tensor \(name)"
        guard let typeName else { throw malformed(place, "no dtype", "dtype, shape and data_offsets") }
        guard let shape else { throw malformed(place, "no shape", "dtype, shape and data_offsets") }
        guard let offsets else { throw malformed(place, "no data_offsets", "dtype, shape and data_offsets") }
        guard let type = StoredElementType(rawValue: typeName) else {
            throw CheckpointError(
                path: path, cause: .unsupported, place: place, found: "dtype \(typeName)",
                expected: StoredElementType.allCases.map(\.rawValue).joined(separator: ", "))
        }
        guard offsets.count == 2, offsets[0] <= offsets[1] else {
            throw malformed(place, "data_offsets \(offsets)", "[begin, end] with begin <= end")
        }
        guard let count = elementCount(shape),
            case let (size, false) = count.multipliedReportingOverflow(by: type.byteCount)
        else { throw malformed(place, "shape \(shape)", "a shape whose size in bytes can be counted") }
        guard size == offsets[1] - offsets[0] else {
            throw malformed(
                place, "data_offsets \(offsets) of \(offsets[1] - offsets[0]) bytes",
                "\(size) bytes for \(typeName) \(shape)")
        }
        return Entry(name: name, type: type, shape: shape, count: count, begin: offsets[0], end: offsets[1])
    }

    /// The tensors must cover the data section from its first to its last byte, each byte once.
    private func checkCoverage(_ entries: [Entry], dataCount: Int) throws(CheckpointError) {
        var covered = 0
        for entry in entries.sorted(by: { ($0.begin, $0.end) < ($1.begin, $1.end) }) {
            guard entry.begin == covered else {
                throw malformed(
                    "tensor \(entry.name)", "data from byte \(entry.begin)",
                    "byte \(covered), where the tensor before it ends (no holes, no overlaps)")
            }
            covered = entry.end
        }
        if covered > dataCount {
            throw CheckpointError(
                path: path, cause: .truncated, place: "data section", found: "\(dataCount) bytes",
                expected: "\(covered) bytes")
        }
        if covered < dataCount {
            throw malformed("data section", "\(dataCount) bytes", "\(covered) bytes, the end of the last tensor")
        }
    }

    private func malformed(_ place: String, _ found: String, _ expected: String) -> CheckpointError {
        CheckpointError(path: path, cause: .malformed, place: place, found: found, expected: expected)
    }
}
