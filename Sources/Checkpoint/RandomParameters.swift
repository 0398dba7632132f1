/// Made-up parameters under which activations neither vanish nor explode: uniform, of variance 1 / fan-in for
/// matrices and convolutions, around one for the scales of norms and around zero for biases.
struct RandomParameters: Sendable {
    let seed: UInt64

    /// The tensor `name` of `shape`, F32, whose elements are made whenever they are read; nil when its size overflows or
    /// is beyond all addresses.
    func tensor(_ name: String, shape: [Int]) -> StoredTensor? {
        guard let count = elementCount(shape), case let (size, false) = count.multipliedReportingOverflow(by: 4) else {
            return nil
        }
        let (center, amplitude) = distribution(name, shape)
        let state = state(name)
        let memory = Memory(count: size) { offset, bytes in
            Self.fill(
                bytes.bindMemory(to: Float.self), first: offset / 4, state: state, center: center, amplitude: amplitude)
        }
        return memory.map {
            StoredTensor(name: name, elementType: .f32, shape: shape, count: count, memory: $0, offset: 0)
        }
    }

    /// Values are uniform in center - amplitude ... center + amplitude, whose variance is amplitude^2 / 3.
    private func distribution(_ name: String, _ shape: [Int]) -> (center: Float, amplitude: Float) {
        guard shape.count > 1 else { return (name.hasSuffix("weight") ? 1 : 0, 0.1) }
        let fanIn = shape.dropFirst().reduce(1, *)
        return (0, (3 / Float(max(fanIn, 1))).squareRoot())
    }

    /// FNV-1a of the name, mixed with the seed.
    private func state(_ name: String) -> UInt64 {
        let hash = name.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return Self.mix(hash ^ Self.mix(seed))
    }

    /// Element 2k and 2k + 1 are the halves of SplitMix64's k-th output (Steele, Lea, Flood 2014), so that any part
    /// can be made without the part before it.
    private static func fill(
        _ values: UnsafeMutableBufferPointer<Float>, first: Int, state: UInt64, center: Float, amplitude: Float
    ) {
        guard let target = values.baseAddress else { return }
        let scale = amplitude * 0x1p-31
        let end = first &+ values.count
        var i = first
        while i < end {
            let bits = mix(state &+ UInt64(i / 2 &+ 1) &* 0x9e37_79b9_7f4a_7c15)
            if i & 1 == 0 {
                target[i &- first] = center + scale * Float(Int32(truncatingIfNeeded: bits))
                i &+= 1
            }
            if i < end {
                target[i &- first] = center + scale * Float(Int32(truncatingIfNeeded: bits >> 32))
                i &+= 1
            }
        }
    }

    @inline(__always)
    private static func mix(_ value: UInt64) -> UInt64 {
        var z = value
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
