import Bytes
import Foundation

/// PyTorch's CPU random number generator and `torch.randn` for float32.
///
/// Source: Matsumoto and Nishimura 1998 (mt19937); PyTorch `aten/src/ATen/core/MT19937RNGEngine.h`,
/// `DistributionsHelper.h` (uniform from 24 and 53 bits, `normal_distribution<double>` with its cached second value) and
/// `native/cpu/DistributionTemplates.h` (`normal_fill`: sixteen at a time). Proved by `Tests/Fixtures/random` to 1e-6:
/// torch's vector instructions round the logarithm and the sine differently in the last bits.
public struct TorchGenerator: Sendable, Equatable {
    private static let length = 624
    private static let middle = 397

    private var words: [UInt32]
    private var index: Int
    /// The second normal of the last pair, which a draw of fewer than 16 numbers takes first.
    private var cachedNormal: Double?

    /// The generator of `torch.Generator().manual_seed(seed)`; like torch's, it uses the low 32 bits.
    public init(seed: UInt64) {
        words = [UInt32(truncatingIfNeeded: seed)]
        words.reserveCapacity(Self.length)
        for place in 1..<Self.length {
            let last = words[place - 1]
            words.append(1_812_433_253 &* (last ^ (last >> 30)) &+ UInt32(place))
        }
        index = Self.length
    }

    /// `torch.randn(count)`: float32 from the standard normal distribution.
    public mutating func randn(count: Int) -> [Float] {
        [Float](unsafeUninitializedCapacity: max(0, count)) { buffer, initialized in
            randn(into: UnsafeMutableBufferPointer(rebasing: buffer[..<max(0, count)]))
            initialized = max(0, count)
        }
    }

    /// `torch.randn` into memory, which need not be initialised.
    public mutating func randn(into buffer: UnsafeMutableBufferPointer<Float>) {
        if buffer.count < 16 {
            for place in buffer.indices { buffer.initializeElement(at: place, to: Float(nextNormal())) }
            return
        }
        for place in buffer.indices { buffer.initializeElement(at: place, to: nextUniform()) }
        for start in stride(from: 0, through: buffer.count - 16, by: 16) { Self.transform(buffer, from: start) }
        if !buffer.count.isMultiple(of: 16) {
            // torch draws the last sixteen anew, over some that were done already.
            let start = buffer.count - 16
            for place in start..<buffer.count { buffer[place] = nextUniform() }
            Self.transform(buffer, from: start)
        }
    }

    /// Sixteen uniforms to sixteen normals: u1 = 1 - x[j], u2 = x[j + 8],
    /// x[j] = sqrt(-2 ln u1) cos(2 pi u2), x[j + 8] the same with the sine.
    private static func transform(_ buffer: UnsafeMutableBufferPointer<Float>, from start: Int) {
        // Not `2 * Float.pi`, which Swift rounds towards zero.
        let twoPi = Float(2 * Double.pi)
        for place in start..<(start + 8) {
            let radius = (-2 * Foundation.log(1 - buffer[place])).squareRoot()
            let angle = twoPi * buffer[place + 8]
            buffer[place] = radius * Foundation.cos(angle)
            buffer[place + 8] = radius * Foundation.sin(angle)
        }
    }

    /// Uniform in [0, 1) with 24 bits.
    private mutating func nextUniform() -> Float {
        Float(nextWord() & 0xFF_FFFF) * 0x1p-24
    }

    /// Uniform in [0, 1) with 53 bits, the first word high.
    private mutating func nextUniformDouble() -> Double {
        let high = UInt64(nextWord())
        let low = UInt64(nextWord())
        return Double((high << 32 | low) & 0x1F_FFFF_FFFF_FFFF) * 0x1p-53
    }

    private mutating func nextNormal() -> Double {
        if let cached = cachedNormal {
            cachedNormal = nil
            return cached
        }
        let angle = 2 * Double.pi * nextUniformDouble()
        let radius = (-2 * Foundation.log1p(-nextUniformDouble())).squareRoot()
        cachedNormal = radius * Foundation.sin(angle)
        return radius * Foundation.cos(angle)
    }

    private mutating func nextWord() -> UInt32 {
        if index == Self.length { regenerate() }
        var word = words[index]
        index += 1
        word ^= word >> 11
        word ^= (word << 7) & 0x9D2C_5680
        word ^= (word << 15) & 0xEFC6_0000
        return word ^ (word >> 18)
    }

    private mutating func regenerate() {
        for place in 0..<Self.length {
            let mixed = (words[place] & 0x8000_0000) | (words[(place + 1) % Self.length] & 0x7FFF_FFFF)
            let twist = (mixed >> 1) ^ (mixed & 1 == 0 ? 0 : 0x9908_B0DF)
            words[place] = words[(place + Self.middle) % Self.length] ^ twist
        }
        index = 0
    }
}

extension TorchGenerator {
    private static let magic = Array("mt19937 ".utf8)
    /// Tag, 624 words, index, whether a normal is cached, and its bits; little-endian.
    private static let stateSize = 8 + 4 * 624 + 4 + 4 + 8

    /// Everything the next draws depend on, 2520 bytes.
    public var state: [UInt8] {
        var bytes = Self.magic
        for word in words { bytes.append(littleEndian: word) }
        bytes.append(littleEndian: UInt32(index))
        bytes.append(littleEndian: UInt32(cachedNormal == nil ? 0 : 1))
        bytes.append(littleEndian: (cachedNormal ?? 0).bitPattern)
        return bytes
    }

    /// The generator whose ``state`` was `state`.
    ///
    /// - Throws: ``RandomStateError`` when the bytes are no such state.
    public init(state: [UInt8]) throws(RandomStateError) {
        guard state.count == Self.stateSize, state.starts(with: Self.magic) else {
            throw RandomStateError(
                problem: "the state of a torch CPU generator has \(Self.stateSize) bytes and begins with 'mt19937 '; "
                    + "found \(state.count) bytes")
        }
        words = (0..<Self.length).map { state.littleEndian(at: 8 + 4 * $0) }
        let index: UInt32 = state.littleEndian(at: Self.stateSize - 16)
        let flag: UInt32 = state.littleEndian(at: Self.stateSize - 12)
        guard index <= Self.length, flag <= 1 else {
            throw RandomStateError(
                problem: "in the state of a torch CPU generator the index is \(index) (at most 624) "
                    + "and the cache flag \(flag) (0 or 1)")
        }
        self.index = Int(index)
        cachedNormal = flag == 1 ? Double(bitPattern: state.littleEndian(at: Self.stateSize - 8)) : nil
    }
}
