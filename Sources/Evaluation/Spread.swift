/// The mean of some scores, how far they scatter, and how sure the mean is.
public struct Spread: Sendable, Equatable, Codable {
    /// How many scores.
    public let count: Int
    /// Their mean.
    public let mean: Double
    /// Their standard deviation (of a sample).
    public let deviation: Double
    /// The middle 95 per cent of the means of 1,000 samples drawn with replacement (Efron 1979).
    public let low: Double
    /// Its upper end.
    public let high: Double

    /// The numbers of groups of scores, one group a subject; nil where there are none. With several subjects, subjects are drawn
    /// and not scores: those of one subject are no independent news. The same scores give the same interval.
    public init?(groups: [[Double]]) {
        let groups = groups.filter { !$0.isEmpty }
        let all = groups.flatMap(\.self)
        guard !all.isEmpty else { return nil }
        let mean = all.reduce(0, +) / Double(all.count)
        self.mean = mean
        count = all.count
        let squares = all.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
        deviation = all.count > 1 ? (squares / Double(all.count - 1)).squareRoot() : 0
        let units = groups.count > 1 ? groups : all.map { [$0] }
        let sums = units.map { (sum: $0.reduce(0, +), count: $0.count) }
        var random = SplitMix(state: 202_411)
        var means: [Double] = []
        for _ in 0..<1000 {
            var (sum, count) = (0.0, 0)
            for _ in sums {
                let unit = sums[Int(random.next() % UInt64(sums.count))]
                sum += unit.sum
                count += unit.count
            }
            means.append(sum / Double(count))
        }
        means.sort()
        (low, high) = (means[25], means[974])
    }
}

/// SplitMix64 (Steele, Lea & Flood 2014).
private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
