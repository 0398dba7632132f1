import Bytes
import Foundation

/// PyTorch's random number generator on CUDA devices, and `torch.randn(device: "cuda")` for float32.
///
/// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox4x32-10); cuRAND's device functions
/// `curand_init` and `curand_normal4`; PyTorch `aten/src/ATen/native/cuda/DistributionTemplates.h`
/// (`calc_execution_policy`, the grid-stride kernel, `normal_kernel`). The block function is proved by the published
/// vectors of Random123. The GPU computes the sine by `__sincosf`, so its values differ from these around the sixth digit.
///
/// A thread makes four normals at a time; with no more numbers than threads it uses the first and drops three. Hence a
/// number depends on the size of its draw and, beyond ``residentThreads``, on the device.
public struct PhiloxGenerator: Sendable, Equatable {
    /// The seed, Philox's key.
    public let seed: UInt64
    /// How far each thread's sequence has been used, in 32-bit words; torch's `philox_offset_per_thread`.
    public private(set) var offset: UInt64
    /// The threads the device runs at once: multiprocessors times threads of each, 2048 or 1536. Draws up to this size
    /// are the same on every device.
    public let residentThreads: Int

    private static let blockSize = 256
    /// What an A100 runs: 108 multiprocessors of 2048 threads.
    public static let defaultResidentThreads = 108 * 2048

    /// The generator of `torch.Generator("cuda").manual_seed(seed)`.
    public init(seed: UInt64, residentThreads: Int = PhiloxGenerator.defaultResidentThreads) {
        self.seed = seed
        self.residentThreads = max(Self.blockSize, residentThreads)
        offset = 0
    }

    /// `torch.randn(count, device: "cuda")`: float32 from the standard normal distribution.
    public mutating func randn(count: Int) -> [Float] {
        guard count > 0 else { return [] }
        var numbers = [Float](repeating: 0, count: count)
        let blocks = min(residentThreads / Self.blockSize, (count + Self.blockSize - 1) / Self.blockSize)
        let threads = blocks * Self.blockSize
        let rounds = (count - 1) / (threads * 4) + 1
        for round in 0..<rounds {
            for thread in 0..<threads {
                let first = round * threads * 4 + thread
                if first >= count { break }
                let normals = Self.normals(
                    Self.block(counter: counter(thread: UInt64(thread), round: UInt64(round)), key: key))
                for (lane, place) in stride(from: first, to: count, by: threads).prefix(4).enumerated() {
                    numbers[place] = normals[lane]
                }
            }
        }
        offset &+= UInt64(rounds * 4)
        return numbers
    }

    private var key: SIMD2<UInt32> {
        SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    }

    /// The low half of the 128-bit counter is the place in the sequence (in blocks of four words), the high half the
    /// subsequence, one per thread.
    private func counter(thread: UInt64, round: UInt64) -> SIMD4<UInt32> {
        let place = offset / 4 &+ round
        return SIMD4(
            UInt32(truncatingIfNeeded: place), UInt32(truncatingIfNeeded: place >> 32),
            UInt32(truncatingIfNeeded: thread), UInt32(truncatingIfNeeded: thread >> 32))
    }

    /// Philox4x32-10: ten rounds on a counter of four words with a key of two.
    package static func block(counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
        var counter = counter
        var key = key
        for _ in 0..<10 {
            let first = UInt32(0xD251_1F53).multipliedFullWidth(by: counter.x)
            let second = UInt32(0xCD9E_8D57).multipliedFullWidth(by: counter.z)
            counter = SIMD4(second.high ^ counter.y ^ key.x, second.low, first.high ^ counter.w ^ key.y, first.low)
            key &+= SIMD2(0x9E37_79B9, 0xBB67_AE85)
        }
        return counter
    }

    /// `curand_normal4`: two pairs by Box and Muller, the sine first.
    private static func normals(_ words: SIMD4<UInt32>) -> SIMD4<Float> {
        func pair(_ first: UInt32, _ second: UInt32) -> (Float, Float) {
            let uniform = Float(first) * 0x1p-32 + 0x1p-33
            let turn = Float(0x1p-31 * Double.pi)
            let angle = Float(second) * turn + turn / 2
            let radius = (-2 * Foundation.log(uniform)).squareRoot()
            return (radius * Foundation.sin(angle), radius * Foundation.cos(angle))
        }
        let (x, y) = pair(words.x, words.y)
        let (z, w) = pair(words.z, words.w)
        return SIMD4(x, y, z, w)
    }
}

extension PhiloxGenerator {
    static let magic = Array("philox  ".utf8)
    private static let stateSize = 8 + 3 * 8

    /// Everything the next draws depend on, 32 bytes.
    public var state: [UInt8] {
        var bytes = Self.magic
        bytes.append(littleEndian: seed)
        bytes.append(littleEndian: offset)
        bytes.append(littleEndian: UInt64(residentThreads))
        return bytes
    }

    /// The generator whose ``state`` was `state`.
    ///
    /// - Throws: ``RandomStateError`` when the bytes are no such state.
    public init(state: [UInt8]) throws(RandomStateError) {
        guard state.count == Self.stateSize, state.starts(with: Self.magic) else {
            throw RandomStateError(
                problem: "the state of a Philox generator has \(Self.stateSize) bytes and begins with 'philox  '; "
                    + "found \(state.count) bytes")
        }
        let threads: UInt64 = state.littleEndian(at: 24)
        guard (UInt64(Self.blockSize)...1 << 32).contains(threads) else {
            throw RandomStateError(
                problem: "in the state of a Philox generator the resident threads are \(threads); expected 256 to 2^32")
        }
        seed = state.littleEndian(at: 8)
        offset = state.littleEndian(at: 16)
        residentThreads = Int(threads)
    }
}
