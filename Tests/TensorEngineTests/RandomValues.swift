import CKernels
import TensorEngine
import Testing

/// Reproducible numbers (SplitMix64: Steele, Lea & Flood 2014).
struct RandomValues {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func bits() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func floats(_ count: Int, in range: ClosedRange<Float> = -1...1) -> [Float] {
        (0..<count).map { _ in
            range.lowerBound + (range.upperBound - range.lowerBound) * Float(bits() >> 40) / Float(1 << 24)
        }
    }

    func bytes(_ count: Int) -> [UInt8] {
        var copy = self
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: copy.bits() >> 32) }
    }

    /// Numbers that bfloat16 holds exactly, so that only what happens after the conversion is under test.
    mutating func bfloats(_ count: Int, in range: ClosedRange<Float> = -1...1) -> [Float] {
        floats(count, in: range).map { BFloat16($0).value }
    }
}

/// The upper half of a single, rounded to nearest with ties to even; written from the definition, by arithmetic and not by
/// the kernels' bit trick.
struct BFloat16: Equatable {
    var bits: UInt16

    init(bits: UInt16) { self.bits = bits }

    init(_ x: Float) {
        if x.isNaN {
            bits = UInt16(truncatingIfNeeded: x.bitPattern >> 16) | 0x40
            return
        }
        let below = Float(bitPattern: x.bitPattern & 0xFFFF_0000)  // towards zero
        guard x.isFinite, below != x else {
            bits = UInt16(x.bitPattern >> 16)
            return
        }
        let lower = UInt16(below.bitPattern >> 16)
        // The next one away from zero; past the greatest one it is an infinity, as far again as the step before.
        let step = Float(bitPattern: below.bitPattern | 0x1_0000) - Float(bitPattern: below.bitPattern & ~0x1_0000)
        let rest = (x - below).magnitude * 2
        let up = rest > step.magnitude || (rest == step.magnitude && lower & 1 == 1)
        bits = up ? lower + 1 : lower
    }

    var value: Float { Float(bitPattern: UInt32(bits) << 16) }
}

/// Numbers as one of the kernels' two types lies in memory.
func encoded(_ values: [Float], _ type: kernels_type) -> [UInt8] {
    type == KERNELS_F32
        ? values.withUnsafeBytes { Array($0) } : values.map { BFloat16($0).bits }.withUnsafeBytes { Array($0) }
}

/// Room for a kernel's results in one of its two types, with a tail that no kernel may touch.
final class Elements {
    let type: kernels_type
    let count: Int
    let pointer: UnsafeMutableRawPointer
    private static let tail = 256

    private var size: Int { type == KERNELS_F32 ? 4 : 2 }

    /// Every byte is 0xFF: not a number in both types.
    init(count: Int, _ type: kernels_type = KERNELS_F32) {
        self.type = type
        self.count = count
        let bytes = count * (type == KERNELS_F32 ? 4 : 2) + Self.tail
        pointer = .allocate(byteCount: bytes, alignment: 64)
        pointer.initializeMemory(as: UInt8.self, repeating: 0xFF, count: bytes)
    }

    deinit { pointer.deallocate() }

    var floatPointer: UnsafeMutablePointer<Float> { pointer.assumingMemoryBound(to: Float.self) }
    var bfloatPointer: UnsafeMutablePointer<UInt16> { pointer.assumingMemoryBound(to: UInt16.self) }

    var values: [Float] {
        (0..<count).map { type == KERNELS_F32 ? floatPointer[$0] : BFloat16(bits: bfloatPointer[$0]).value }
    }
    var bytes: [UInt8] { [UInt8](UnsafeRawBufferPointer(start: pointer, count: count * size)) }
    var isTailIntact: Bool {
        UnsafeRawBufferPointer(start: pointer + count * size, count: Self.tail).allSatisfy { $0 == 0xFF }
    }
}

/// The greatest |a - b| as a share of what is allowed, `absolute + relative |b|`: at most 1 where all is well. Two that
/// are not numbers agree, as do equal infinities.
func worst(_ a: [Float], _ b: [Float], absolute: Float, relative: Float) -> Float {
    guard a.count == b.count else { return .infinity }
    return zip(a, b).reduce(0) { found, pair in
        let (x, y) = pair
        if x == y || (x.isNaN && y.isNaN) { return found }
        let share = (x - y).magnitude / (absolute + relative * y.magnitude)
        return share.isNaN ? .infinity : max(found, share)
    }
}

/// What one CPU would run.
enum InstructionSet: CaseIterable {
    case scalar, avx2, avx512, avx512BF16

    /// Those this CPU has.
    static let present: [InstructionSet] = {
        let cpu = kernels_cpu()
        return allCases.filter {
            switch $0 {
            case .scalar: true
            case .avx2: cpu.avx2
            case .avx512: cpu.avx512
            case .avx512BF16: cpu.avx512_bf16
            }
        }
    }()

    /// Runs `body` as such a CPU would; other threads are not affected.
    func run<R>(_ body: () throws -> R) rethrows -> R {
        let all = kernels_cpu_features(avx2: true, avx512: true, avx512_bf16: true)
        kernels_limit_cpu(
            kernels_cpu_features(
                avx2: self != .scalar, avx512: self == .avx512 || self == .avx512BF16, avx512_bf16: self == .avx512BF16)
        )
        defer { kernels_limit_cpu(all) }
        return try body()
    }
}

/// Both element types.
let elementTypes: [kernels_type] = [KERNELS_F32, KERNELS_BF16]

extension ComputePath {
    /// Cancels the case, with the reason, where this CPU does not have the path.
    func require() throws {
        if !isSupported { try Test.cancel("\(rawValue): \(reason)") }
    }
}

/// Says which instruction sets the tests of kernels leave out on this CPU.
@Suite struct InstructionSetTests {
    @Test(arguments: InstructionSet.allCases) func isPresent(_ set: InstructionSet) throws {
        guard InstructionSet.present.contains(set) else {
            try Test.cancel("this CPU lacks \(set): the kernels for it are not tested here")
        }
        #expect(set.run { kernels_cpu().avx2 } == (set != .scalar))
    }
}
