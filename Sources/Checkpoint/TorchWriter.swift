import Bytes

/// Writes what `torch.save` writes of a dict of tensors: a zip of stored entries with `data.pkl` and one record per
/// tensor.
///
/// The pickle is protocol 2 with `torch._utils._rebuild_tensor_v2`; records begin at multiples of 64 bytes, as torch's own
/// do. Files beyond 4 GiB, which need zip64, are not written.
public struct TorchWriter: Sendable {
    private let tensors: [StoredTensor]
    private let type: StoredElementType?

    /// A writer of tensors, each under its own name, in this order.
    /// - Parameter type: what tensors of floats are converted to, rounded to nearest even; nil keeps each one's own.
    public init(_ tensors: [StoredTensor], type: StoredElementType? = nil) {
        self.tensors = tensors
        self.type = type
    }

    private func elementType(of tensor: StoredTensor) -> StoredElementType {
        tensor.elementType.isFloat ? type ?? tensor.elementType : tensor.elementType
    }

    private static let storages: [StoredElementType: String] = [
        .f64: "DoubleStorage", .f32: "FloatStorage", .f16: "HalfStorage", .bf16: "BFloat16Storage", .i64: "LongStorage",
        .i32: "IntStorage", .i16: "ShortStorage", .i8: "CharStorage", .u8: "ByteStorage", .bool: "BoolStorage",
    ]

    /// Creates or replaces the file `path`, durably. The file is there whole or as it was: `path` may be what the tensors
    /// are read from.
    /// - Throws: as `write(to:path:)`.
    public func write(toPath path: String) throws(CheckpointError) {
        let file = try onFile { () throws(FileError) in try AtomicFile(path) }
        try write(to: file.descriptor, path: path)
        try onFile { () throws(FileError) in try file.commit() }
    }

    /// Records beside the tensors' own: `data.pkl`, `byteorder`, `version`.
    private static let otherRecords = 3

    /// Writes to a descriptor at the file's beginning; neither synced nor closed. `path` is for messages.
    /// - Throws: `CheckpointError` with the errno, or when the file would need zip64.
    public func write(to descriptor: Int32, path: String) throws(CheckpointError) {
        let most = Int(UInt16.max) - Self.otherRecords
        guard tensors.count <= most else {
            throw CheckpointError(
                path: path, cause: .unsupported, place: "tensors", found: "\(tensors.count)",
                expected: "at most \(most), the records of a zip without zip64")
        }
        let size = tensors.reduce(0.0) {
            $0 + Double($1.count) * Double(elementType(of: $1).byteCount) + 1024 + Double($1.name.utf8.count)
        }
        guard size < Double(UInt32.max) else {
            throw CheckpointError(
                path: path, cause: .unsupported, place: "size", found: "\(Int(min(size, 0x1p62))) bytes",
                expected: "less than 4 GiB")
        }
        var archive = Archive(descriptor: descriptor, path: path)
        pickle().withUnsafeBytes { archive.add("data.pkl", $0) }
        archive.add("byteorder", "little")
        for (index, tensor) in tensors.enumerated() {
            let type = elementType(of: tensor)
            if type != tensor.elementType, let bytes = tensor.floats().withUnsafeBufferPointer(type.encoded) {
                bytes.withUnsafeBytes { archive.add("data/\(index)", $0) }
            } else {
                try tensor.withUnsafeBytes { archive.add("data/\(index)", $0) }
            }
        }
        archive.add("version", "3\n")
        try archive.finish()
    }

    /// `{name: _rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())}`
    private func pickle() -> [UInt8] {
        var bytes: [UInt8] = [0x80, 2, UInt8(ascii: "}"), UInt8(ascii: "(")]
        func op(_ character: Unicode.Scalar) { bytes.append(UInt8(ascii: character)) }
        func text(_ text: String) {
            op("X")
            bytes.append(littleEndian: UInt32(text.utf8.count))
            bytes += Array(text.utf8)
        }
        func int(_ value: Int) {
            if let small = Int32(exactly: value) {
                op("J")
                bytes.append(littleEndian: small)
            } else {
                bytes += [0x8a, 8]
                bytes.append(littleEndian: value)
            }
        }
        func global(_ module: String, _ name: String) { bytes += Array("c\(module)\n\(name)\n".utf8) }
        func tuple(_ values: [Int]) {
            op("(")
            for value in values { int(value) }
            op("t")
        }
        for (index, tensor) in tensors.enumerated() {
            text(tensor.name)
            global("torch._utils", "_rebuild_tensor_v2")
            op("(")
            op("(")
            text("storage")
            global("torch", Self.storages[elementType(of: tensor)] ?? "")
            text("\(index)")
            text("cpu")
            int(tensor.count)
            op("t")
            op("Q")
            int(0)
            tuple(tensor.shape)
            tuple(Self.strides(tensor.shape))
            bytes.append(0x89)  // False
            global("collections", "OrderedDict")
            op(")")
            op("R")
            op("t")
            op("R")
        }
        op("u")
        op(".")
        return bytes
    }

    /// Row-major. Where there is no element none is used, and they may be anything.
    private static func strides(_ shape: [Int]) -> [Int] {
        var strides: [Int] = []
        var stride = 1
        for extent in shape.reversed() {
            strides.append(stride)
            stride = stride.multipliedReportingOverflow(by: max(extent, 1)).partialValue
        }
        return strides.reversed()
    }

    /// A zip written from front to back; the first error is thrown at the end.
    private struct Archive {
        let descriptor: Int32
        let path: String
        private var position = 0
        private var directory: [UInt8] = []
        private var count = 0
        private var failure: FileError?

        init(descriptor: Int32, path: String) {
            self.descriptor = descriptor
            self.path = path
        }

        mutating func add(_ name: String, _ text: String) {
            Array(text.utf8).withUnsafeBytes { add(name, $0) }
        }

        mutating func add(_ name: String, _ content: UnsafeRawBufferPointer) {
            let name = Array("archive/\(name)".utf8)
            // torch pads by an extra field of its own ("FB"), so that a record can be mapped.
            let begin = position + 30 + name.count + 4
            let padding = (64 - begin % 64) % 64
            var common: [UInt8] = []
            for value in [20, 0, 0, 0, 0] as [UInt16] { common.append(littleEndian: value) }
            common.append(littleEndian: crc32(content))
            common.append(littleEndian: UInt32(content.count))
            common.append(littleEndian: UInt32(content.count))
            common.append(littleEndian: UInt16(name.count))
            directory.append(littleEndian: 0x0201_4b50 as UInt32)
            directory.append(littleEndian: 20 as UInt16)
            directory += common
            for _ in 0..<4 { directory.append(littleEndian: 0 as UInt16) }
            directory.append(littleEndian: 0 as UInt32)
            directory.append(littleEndian: UInt32(position))
            directory += name
            var header: [UInt8] = []
            header.append(littleEndian: 0x0403_4b50 as UInt32)
            header += common
            header.append(littleEndian: UInt16(4 + padding))
            header += name + Array("FB".utf8)
            header.append(littleEndian: UInt16(padding))
            header += [UInt8](repeating: UInt8(ascii: "Z"), count: padding)
            header.withUnsafeBytes { write($0) }
            write(content)
            count += 1
        }

        mutating func finish() throws(CheckpointError) {
            var end = directory
            end.append(littleEndian: 0x0605_4b50 as UInt32)
            for value in [0, 0, count, count] { end.append(littleEndian: UInt16(value)) }
            end.append(littleEndian: UInt32(directory.count))
            end.append(littleEndian: UInt32(position))
            end.append(littleEndian: 0 as UInt16)
            end.withUnsafeBytes { write($0) }
            if let failure { throw CheckpointError(failure) }
        }

        private mutating func write(_ bytes: UnsafeRawBufferPointer) {
            if failure == nil {
                do throws(FileError) { try writeAll(bytes, to: descriptor, path: path) } catch { failure = error }
            }
            position += bytes.count
        }
    }
}
