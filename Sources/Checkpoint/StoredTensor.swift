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
    /// Distances in elements, one a dimension; nil for a row-major tensor without gaps.
    private let strides: [Int]?
    /// The tensor this is made of and what is done to its values; `bytes` is then empty.
    private let amended: Amended?

    private final class Amended: Sendable {
        let base: StoredTensor
        let changes: [ParameterStore.Amendment]

        init(base: StoredTensor, changes: [ParameterStore.Amendment]) {
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
        self.strides = nil
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
        self.strides = Self.isRowMajor(shape: shape, strides: strides) ? nil : strides
        self.amended = nil
    }

    private init(_ other: StoredTensor, name: String, shape: [Int]) {
        self.name = name
        self.elementType = other.elementType
        self.shape = shape
        self.count = other.count
        self.memory = other.memory
        self.bytes = other.bytes
        self.strides = nil
        self.amended = other.amended
    }

    private init(_ other: StoredTensor, shape: [Int], count: Int, bytes range: Range<Int>) {
        self.name = other.name
        self.elementType = other.elementType
        self.shape = shape
        self.count = count
        self.memory = other.memory
        self.bytes = UnsafeRawBufferPointer(rebasing: other.bytes[range])
        self.strides = nil
        self.amended = nil
    }

    private init(amending other: StoredTensor, changes: [ParameterStore.Amendment]) {
        self.name = other.name
        self.elementType = .f32
        self.shape = other.shape
        self.count = other.count
        self.memory = .empty
        self.bytes = UnsafeRawBufferPointer(start: nil, count: 0)
        self.strides = nil
        self.amended = Amended(base: other, changes: changes)
    }

    /// The tensor as F32 with its values changed by each of `changes` in turn, every time they are read: nothing is
    /// computed or kept before.
    public func amended(by changes: [ParameterStore.Amendment]) -> StoredTensor {
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
    public func renamed(_ name: String) -> StoredTensor {
        strides == nil ? StoredTensor(self, name: name, shape: shape) : gathered().renamed(name)
    }

    /// The same elements in another shape of as many elements, or nil.
    public func reshaped(_ shape: [Int]) -> StoredTensor? {
        guard elementCount(shape) == count else { return nil }
        return strides == nil ? StoredTensor(self, name: name, shape: shape) : gathered().reshaped(shape)
    }

    /// Entry `index` of the first dimension, or nil: one row of a vocabulary, without reading the others.
    public func entry(_ index: Int) -> StoredTensor? {
        guard let extent = shape.first, index >= 0, index < extent else { return nil }
        guard strides == nil, amended == nil else { return gathered().entry(index) }
        let size = count / extent
        let range = index * size * elementType.byteCount..<(index + 1) * size * elementType.byteCount
        return StoredTensor(self, shape: Array(shape.dropFirst()), count: size, bytes: range)
    }

    /// Calls `body` with the elements, row-major without gaps, not necessarily aligned. A strided view is gathered
    /// into a copy first.
    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try withExtendedLifetime(memory) {
            guard strides == nil, amended == nil else { return try gathered().withUnsafeBytes(body) }
            return try memory.withBytes(bytes, body)
        }
    }

    /// The elements where they are in memory or in a mapped file, for as long as the tensor or another of its checkpoint
    /// lives; nil of a tensor whose elements lie apart or are made up when they are read.
    public var mappedBytes: UnsafeRawBufferPointer? {
        strides == nil && amended == nil && !memory.isMade ? bytes : nil
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
        withUnsafeBytes { bytes in
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
    }

    /// A row-major copy of a strided view or of amended values.
    private func gathered() -> StoredTensor {
        guard strides != nil || amended != nil else { return self }
        let size = elementType.byteCount
        let copy = Memory.allocated(count * size) { target in
            guard let strides else {
                copyFloats(into: target.bindMemory(to: Float.self))
                return
            }
            guard let source = bytes.baseAddress, let target = target.baseAddress, count > 0 else { return }
            var index = [Int](repeating: 0, count: shape.count)
            var from = 0
            for to in 0..<count {
                (target + to * size).copyMemory(from: source + from * size, byteCount: size)
                for axis in shape.indices.reversed() {
                    index[axis] += 1
                    from += strides[axis]
                    if index[axis] < shape[axis] { break }
                    from -= strides[axis] * shape[axis]
                    index[axis] = 0
                }
            }
        }
        // A view has no more elements than its storage, which is mapped: a copy of it that does not fit
        // in memory leaves nothing to continue with.
        guard let copy else { fatalError("out of memory for a copy of \(name) \(shape)") }
        return StoredTensor(
            name: name, elementType: elementType, shape: shape, count: count, memory: copy, offset: 0)
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
