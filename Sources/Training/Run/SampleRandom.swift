import Diffusion

/// The random numbers of one purpose and one index, of the run's seed: they depend on nothing else, so that a run needs to
/// remember no generator, and goes on anywhere with the numbers it would have had.
///
/// Source: SplitMix64 (Steele, Lea, Flood 2014); normal numbers by ``Diffusion/PhiloxGenerator``.
struct SampleRandom {
    /// What the numbers are for.
    enum Purpose: UInt64 {
        case order = 1, sample, noise, posterior, augmentation, validation, split
    }

    private var state: UInt64

    init(seed: Int, _ purpose: Purpose, _ index: Int = 0) {
        state = Self.mix(UInt64(bitPattern: Int64(seed)))
        for word in [purpose.rawValue, UInt64(bitPattern: Int64(index))] { state = Self.mix(state ^ Self.mix(word)) }
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9e37_79b9_7f4a_7c15
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }

    mutating func next() -> UInt64 {
        defer { state &+= 0x9e37_79b9_7f4a_7c15 }
        return Self.mix(state)
    }

    /// In [0, 1), of 53 bits.
    mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// In [low, high).
    mutating func uniform(_ low: Double, _ high: Double) -> Double { low + (high - low) * uniform() }

    /// A whole number from 0 to `count` - 1, the upper half of a product (Lemire 2019; its bias is below 2^-40).
    mutating func below(_ count: Int) -> Int {
        Int(next().multipliedFullWidth(by: UInt64(max(1, count))).high)
    }

    /// True for that share of calls.
    mutating func chance(_ share: Double) -> Bool { uniform() < share }

    /// Normal numbers, from a generator of their own.
    mutating func normals(_ count: Int) -> [Float] {
        var generator = PhiloxGenerator(seed: next())
        return generator.randn(count: count)
    }

    /// The numbers 0 to `count` - 1 in a random order (Fisher and Yates).
    mutating func permutation(_ count: Int) -> [Int] {
        var order = Array(0..<count)
        for last in stride(from: count - 1, to: 0, by: -1) { order.swapAt(last, below(last + 1)) }
        return order
    }
}
