/// The learnt positions of a vision transformer: one row for the class token, then one for each cell of a square grid.
struct PositionTable {
    /// How a model's authors fit its positions to another number of patches. All of them take PyTorch's bicubic interpolation
    /// (a = -3/4, half-pixel centres, edges repeated, no antialiasing), and differ in the step between samples.
    enum Fitting: Sendable {
        /// The ratio of both sides: transformers.
        case bySize
        /// facebook's code asks for a tenth of a patch more than there are, which kept an older PyTorch from rounding down, and
        /// interpolates by that factor.
        case byFactor(surplus: Double)
    }

    /// Rows of `width` values.
    let values: [Float]
    /// Values of a row.
    let width: Int
    /// Cells of a side of the grid.
    let side: Int

    /// The table for a grid of `newSide` cells a side; itself where that is its own.
    func fitted(to newSide: Int, _ fitting: Fitting) -> PositionTable {
        if newSide == side { return self }
        let step =
            switch fitting {
            case .bySize: Double(side) / Double(newSide)
            case .byFactor(let surplus): Double(side) / (Double(newSide) + surplus)
            }
        let taps = (0..<newSide).map { Self.taps(at: (Double($0) + 0.5) * step - 0.5, of: side) }
        var result = Array(values[..<width])
        result.reserveCapacity((1 + newSide * newSide) * width)
        for rows in taps {
            for columns in taps {
                var sum = [Float](repeating: 0, count: width)
                for row in rows {
                    for column in columns {
                        let weight = row.weight * column.weight
                        let start = (1 + row.index * side + column.index) * width
                        for c in 0..<width { sum[c] += weight * values[start + c] }
                    }
                }
                result += sum
            }
        }
        return PositionTable(values: result, width: width, side: newSide)
    }

    /// The four samples around a place, and their weights.
    private static func taps(at place: Double, of count: Int) -> [(index: Int, weight: Float)] {
        let first = place.rounded(.down)
        let t = place - first
        func near(_ x: Double) -> Double { (1.25 * x - 2.25) * x * x + 1 }
        func far(_ x: Double) -> Double { ((-0.75 * x + 3.75) * x - 6) * x + 3 }
        return zip(-1...2, [far(t + 1), near(t), near(1 - t), far(2 - t)]).map { offset, weight in
            (min(max(Int(first) + offset, 0), count - 1), Float(weight))
        }
    }
}
