import CCheckpoint
import CKernels

/// The element types that are read, by the names safetensors gives them.
public enum StoredElementType: String, Sendable, CaseIterable {
    case f64 = "F64"
    case f32 = "F32"
    case f16 = "F16"
    case bf16 = "BF16"
    case i64 = "I64"
    case i32 = "I32"
    case i16 = "I16"
    case i8 = "I8"
    case u8 = "U8"
    case bool = "BOOL"

    /// Whether elements are floating-point numbers.
    public var isFloat: Bool { [.f64, .f32, .f16, .bf16].contains(self) }

    /// Bytes of one element.
    public var byteCount: Int {
        switch self {
        case .f64, .i64: 8
        case .f32, .i32: 4
        case .f16, .bf16, .i16: 2
        case .i8, .u8, .bool: 1
        }
    }
}

/// A tensor in a checkpoint: a view into the mapped file, which lives as long as any of its tensors.
///
/// Elements are little-endian, as in both formats. Strides are honoured, so that a view saved by torch (a slice, a
/// transpose) reads as the tensor it was.
public struct StoredTensor: @unchecked Sendable {
    /// Changes the values of a tensor after they were converted to float: `[count]`, row-major.
    public typealias Amendment = @Sendable (UnsafeMutableBufferPointer<Float>) -> Void

    /// The key in the file.
    public let name: String
    /// The type of the elements as stored.
    public let elementType: StoredElementType
    /// Extents, outermost first; empty for a scalar.
    public let shape: [Int]
    /// The number of elements.
    public let count: Int

    private let memory: Memory
    /// The bytes from the first element to the last one.
    private let bytes: UnsafeRawBufferPointer
    /// How the elements lie where they are not row-major without gaps: extents and distances in elements, one per
    /// dimension. The extents are those of the file, which `shape` may have divided differently.
    private let layout: (extents: [Int], strides: [Int])?
    /// The tensor this is made of and what is done to its values; `bytes` is then empty.
    private let amended: Amended?

    private final class Amended: Sendable {
        let base: StoredTensor
        let changes: [Amendment]

        init(base: StoredTensor, changes: [Amendment]) {
            self.base = base
            self.changes = changes
        }
    }

    /// A row-major tensor over `bytes` of `memory`, whose extent the caller has checked.
    init(name: String, elementType: StoredElementType, shape: [Int], count: Int, memory: Memory, offset: Int) {
        self.name = name
        self.elementType = elementType
        self.shape = shape
        self.count = count
        self.memory = memory
        self.bytes = UnsafeRawBufferPointer(
            rebasing: memory.bytes[offset..<offset + count * elementType.byteCount])
        self.layout = nil
        self.amended = nil
    }

    /// A strided tensor over `range` of `memory`; the caller has checked that every index lies in it.
    init(
        name: String, elementType: StoredElementType, shape: [Int], strides: [Int], count: Int, memory: Memory,
        range: Range<Int>
    ) {
        self.name = name
        self.elementType = elementType
        self.shape = shape
        self.count = count
        self.memory = memory
        self.bytes = UnsafeRawBufferPointer(rebasing: memory.bytes[range])
        self.layout = Self.isRowMajor(shape: shape, strides: strides) ? nil : (shape, strides)
        self.amended = nil
    }

    private init(_ other: StoredTensor, name: String, shape: [Int]) {
        self.name = name
        self.elementType = other.elementType
        self.shape = shape
        self.count = other.count
        self.memory = other.memory
        self.bytes = other.bytes
        self.layout = other.layout
        self.amended = other.amended
    }

    /// A part of another, which is not amended.
    private init(
        _ other: StoredTensor, shape: [Int], count: Int, bytes range: Range<Int>, strides: [Int]? = nil
    ) {
        self.name = other.name
        self.elementType = other.elementType
        self.shape = shape
        self.count = count
        self.memory = other.memory
        self.bytes = UnsafeRawBufferPointer(rebasing: other.bytes[range])
        self.layout = strides.map { (shape, $0) }
        self.amended = nil
    }

    private init(amending other: StoredTensor, changes: [Amendment]) {
        self.name = other.name
        self.elementType = .f32
        self.shape = other.shape
        self.count = other.count
        self.memory = .empty
        self.bytes = UnsafeRawBufferPointer(start: nil, count: 0)
        self.layout = nil
        self.amended = Amended(base: other, changes: changes)
    }

    /// The tensor as F32 with its values changed by each of `changes` in turn, every time they are read: nothing is
    /// computed or kept before.
    public func amended(by changes: [Amendment]) -> StoredTensor {
        StoredTensor(amending: self, changes: changes)
    }

    private static func isRowMajor(shape: [Int], strides: [Int]) -> Bool {
        var expected = 1
        for (extent, stride) in zip(shape, strides).reversed() where extent != 1 {
            if stride != expected { return false }
            expected = expected.multipliedReportingOverflow(by: extent).partialValue
        }
        return true
    }

    /// The same elements under another name.
    public func renamed(_ name: String) -> StoredTensor { StoredTensor(self, name: name, shape: shape) }

    /// The same elements in another shape of as many elements, or nil.
    public func reshaped(_ shape: [Int]) -> StoredTensor? {
        elementCount(shape) == count ? StoredTensor(self, name: name, shape: shape) : nil
    }

    /// Entry `index` of the first dimension: one row of a vocabulary, without reading the others. Nil where there is none, or
    /// where the values are amended and there is no memory for a copy.
    public func entry(_ index: Int) -> StoredTensor? {
        guard let extent = shape.first, index >= 0, index < extent else { return nil }
        let size = count / extent
        let width = elementType.byteCount
        if let layout, layout.extents == shape {
            // From its first element to the last of the whole, which lies behind its own.
            let start = min(index * layout.strides[0] * width, bytes.count)
            return StoredTensor(
                self, shape: Array(shape.dropFirst()), count: size, bytes: start..<bytes.count,
                strides: Array(layout.strides.dropFirst()))
        }
        guard layout == nil, amended == nil else { return gathered()?.entry(index) }
        return StoredTensor(
            self, shape: Array(shape.dropFirst()), count: size,
            bytes: index * size * width..<(index + 1) * size * width)
    }

    /// Calls `body` with the elements, row-major without gaps, not necessarily aligned. A strided view is gathered
    /// into a copy first.
    /// - Throws: `CheckpointError` of cause `.outOfMemory` where there is no memory for the copy.
    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) throws(CheckpointError) -> R {
        guard layout == nil, amended == nil else {
            guard let copy = gathered() else {
                throw CheckpointError(
                    path: name, cause: .outOfMemory, place: "tensor \(name)",
                    found: "no memory for a copy of \(count * elementType.byteCount) bytes")
            }
            return try copy.withUnsafeBytes(body)
        }
        return withExtendedLifetime(memory) { memory.withBytes(bytes, body) }
    }

    /// The elements where they are in memory or in a mapped file, for as long as the tensor or another of its checkpoint
    /// lives; nil of a tensor whose elements lie apart or are made up when they are read.
    public var mappedBytes: UnsafeRawBufferPointer? {
        layout == nil && amended == nil && !memory.isMade ? bytes : nil
    }

    /// All elements as floats, row-major.
    public func floats() -> [Float] {
        [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            copyFloats(into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
            initialized = count
        }
    }

    /// Converts all elements to float, row-major, into `destination`, which must hold `count` elements.
    /// F64 and integers beyond 2^24 are rounded to nearest; BOOL gives 0 or 1. What the file's mapping held in memory
    /// for the elements is given back.
    public func copyFloats(into destination: UnsafeMutableBufferPointer<Float>) {
        precondition(destination.count == count, "\(name): a buffer of \(destination.count) for \(count) elements")
        if let amended {
            amended.base.copyFloats(into: destination)
            for change in amended.changes { change(destination) }
            return
        }
        guard let target = destination.baseAddress, count > 0 else { return }
        defer { memory.release(bytes) }
        forEachPiece { first, piece in
            convert(piece, into: target + first, count: piece.count / elementType.byteCount)
        }
    }

    /// Calls `body` with the stored elements in row-major order, in pieces, each with the index of its first element; what
    /// lies apart in the file is brought together a piece at a time.
    private func forEachPiece(_ body: (_ first: Int, _ piece: UnsafeRawBufferPointer) -> Void) {
        guard let layout else {
            withExtendedLifetime(memory) { memory.withBytes(bytes) { body(0, $0) } }
            return
        }
        guard let source = bytes.baseAddress, count > 0 else { return }
        let size = elementType.byteCount
        let capacity = 1024
        var index = [Int](repeating: 0, count: layout.extents.count)
        var from = 0
        withExtendedLifetime(memory) {
            withUnsafeTemporaryAllocation(byteCount: capacity * size, alignment: 8) { piece in
                for first in stride(from: 0, to: count, by: capacity) {
                    let part = min(capacity, count - first)
                    for to in 0..<part {
                        guard let target = piece.baseAddress else { return }
                        (target + to * size).copyMemory(from: source + from * size, byteCount: size)
                        for axis in layout.extents.indices.reversed() {
                            index[axis] += 1
                            from += layout.strides[axis]
                            if index[axis] < layout.extents[axis] { break }
                            from -= layout.strides[axis] * layout.extents[axis]
                            index[axis] = 0
                        }
                    }
                    body(first, UnsafeRawBufferPointer(rebasing: piece[..<(part * size)]))
                }
            }
        }
    }

    private func convert(_ bytes: UnsafeRawBufferPointer, into target: UnsafeMutablePointer<Float>, count: Int) {
        guard let source = bytes.baseAddress else { return }
        switch elementType {
        case .f32: UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: count * 4)
        case .f16:
            for i in 0..<count {
                target[i] = float(fromHalf: source.loadUnaligned(fromByteOffset: i &* 2, as: UInt16.self))
            }
        case .bf16:
            for i in 0..<count {
                let bits = source.loadUnaligned(fromByteOffset: i &* 2, as: UInt16.self)
                target[i] = Float(bitPattern: UInt32(bits) << 16)
            }
        case .f64:
            for i in 0..<count { target[i] = Float(source.loadUnaligned(fromByteOffset: i &* 8, as: Double.self)) }
        case .i64:
            for i in 0..<count { target[i] = Float(source.loadUnaligned(fromByteOffset: i &* 8, as: Int64.self)) }
        case .i32:
            for i in 0..<count { target[i] = Float(source.loadUnaligned(fromByteOffset: i &* 4, as: Int32.self)) }
        case .i16:
            for i in 0..<count { target[i] = Float(source.loadUnaligned(fromByteOffset: i &* 2, as: Int16.self)) }
        case .i8: for i in 0..<count { target[i] = Float(source.load(fromByteOffset: i, as: Int8.self)) }
        case .u8: for i in 0..<count { target[i] = Float(source.load(fromByteOffset: i, as: UInt8.self)) }
        case .bool: for i in 0..<count { target[i] = source.load(fromByteOffset: i, as: UInt8.self) == 0 ? 0 : 1 }
        }
    }

    /// Checks that there is neither NaN nor infinity among the stored elements. What the file's mapping held in memory for
    /// them is given back.
    /// - Throws: `CheckpointError` of cause `.notFinite` naming the tensor and the place in it.
    public func checkFinite(path: String) throws(CheckpointError) {
        if let amended { return try amended.base.checkFinite(path: path) }
        guard elementType.isFloat else { return }
        let type: numbers_type =
            switch elementType {
            case .f16: NUMBERS_F16
            case .bf16: NUMBERS_BF16
            case .f64: NUMBERS_F64
            default: NUMBERS_F32
            }
        var special: (index: Int, value: Float)?
        forEachPiece { first, piece in
            guard special == nil else { return }
            let size = elementType.byteCount
            let index = Int(numbers_first_special(piece.baseAddress, type, Int64(piece.count / size)))
            guard index >= 0, let start = piece.baseAddress else { return }
            var value = Float.zero
            let element = UnsafeRawBufferPointer(start: start + index * size, count: size)
            withUnsafeMutablePointer(to: &value) { convert(element, into: $0, count: 1) }
            special = (first + index, value)
        }
        memory.release(bytes)
        guard let special else { return }
        var rest = special.index
        let place = shape.reversed().map { extent in
            defer { rest /= extent }
            return rest % extent
        }
        throw CheckpointError(
            path: path, cause: .notFinite, place: "tensor \(name)",
            found: "\(nameOfNonFinite(special.value)) at "
                + "\(Array(place.reversed()))", expected: "finite numbers")
    }

    /// A row-major copy of a strided view or of amended values; nil where there is no memory for it.
    private func gathered() -> StoredTensor? {
        guard layout != nil || amended != nil else { return self }
        let size = elementType.byteCount
        let copy = Memory.allocated(count * size) { target in
            guard amended == nil else {
                copyFloats(into: target.bindMemory(to: Float.self))
                return
            }
            forEachPiece { first, piece in
                guard let target = target.baseAddress, let source = piece.baseAddress else { return }
                (target + first * size).copyMemory(from: source, byteCount: piece.count)
            }
        }
        return copy.map {
            StoredTensor(name: name, elementType: elementType, shape: shape, count: count, memory: $0, offset: 0)
        }
    }
}

/// The product of the extents, or nil when one is negative or the product overflows.
func elementCount(_ shape: [Int]) -> Int? {
    var count = 1
    var overflow = false
    for extent in shape {
        guard extent >= 0 else { return nil }
        let (product, overflowed) = count.multipliedReportingOverflow(by: extent)
        count = product
        overflow = overflow || overflowed
    }
    return overflow ? nil : count
}

/// IEEE 754 binary16 to binary32, exact, subnormals and NaN payloads included. Integer arithmetic and one
/// multiplication, because the compiler's own conversion is a library call on x86-64 without F16C.
@inline(__always)
func float(fromHalf bits: UInt16) -> Float {
    let magnitude = UInt32(bits & 0x7fff) << 13
    // 2^112 moves the exponent from bias 15 to bias 127, and normalises subnormals on the way.
    let scaled = (Float(bitPattern: magnitude) * Float(bitPattern: 0x7780_0000)).bitPattern
    let special: UInt32 = magnitude >= 0x0f80_0000 ? 0x7f80_0000 | magnitude : scaled
    return Float(bitPattern: special | UInt32(bits & 0x8000) << 16)
}

extension StoredElementType {
    /// Converts floats to this type, rounded to nearest even; nil for a type that is not a float.
    public func encoded(_ values: UnsafeBufferPointer<Float>) -> [UInt8]? {
        switch self {
        case .f32: return Array(UnsafeRawBufferPointer(values))
        case .f64: return values.map(Double.init).withUnsafeBytes(Array.init)
        case .f16: return values.map { Float16($0).bitPattern }.withUnsafeBytes(Array.init)
        case .bf16:
            let count = values.count
            return [UInt16](unsafeUninitializedCapacity: count) { target, initialized in
                if count > 0 { kernels_f32_to_bf16(values.baseAddress, target.baseAddress, Int64(count)) }
                initialized = count
            }.withUnsafeBytes(Array.init)
        case .i64, .i32, .i16, .i8, .u8, .bool: return nil
        }
    }
}
