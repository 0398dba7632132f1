/// What a measure sees in a picture: rows of numbers, one for the whole picture or one for each part of it.
public struct Features: Sendable {
    /// Numbers of a row.
    public let width: Int
    /// All rows, each of length one.
    public let rows: [Float]
    /// Of each row, whether it shows the subject.
    public let foreground: [Bool]

    /// - Parameters:
    ///   - rows: as they were computed; each is brought to length one here.
    ///   - width: numbers of a row.
    ///   - foreground: whether each row shows the subject; all do when not given, or where none does.
    public init(rows: [Float], width: Int, foreground: [Bool]? = nil) {
        precondition(width > 0 && rows.count % width == 0, "\(rows.count) numbers in rows of \(width)")
        let count = rows.count / width
        precondition(foreground.map { $0.count == count } ?? true)
        self.width = width
        var normalised = rows
        for start in stride(from: 0, to: rows.count, by: width) {
            // In Double, since the squares of large numbers are none any more in Float.
            let length = rows[start..<start + width].reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
            guard length > 0 else { continue }
            for i in start..<start + width { normalised[i] = Float(Double(rows[i]) / length) }
        }
        self.rows = normalised
        let shown = foreground.map { $0.contains(true) ? $0 : nil } ?? nil
        self.foreground = shown ?? [Bool](repeating: true, count: count)
    }

    /// How much of this picture's subject is in `other`: the mean, over its rows of the foreground, of the greatest cosine with
    /// any row of `other`. Of pictures of one row it is their cosine.
    public func found(in other: Features) -> Double {
        guard width == other.width, !other.rows.isEmpty else { return 0 }
        var sum = 0.0
        var count = 0
        rows.withUnsafeBufferPointer { mine in
            other.rows.withUnsafeBufferPointer { theirs in
                for row in foreground.indices where foreground[row] {
                    var best = -Float.infinity
                    for start in stride(from: 0, to: theirs.count, by: width) {
                        var cosine: Float = 0
                        for i in 0..<width { cosine += mine[row * width + i] * theirs[start + i] }
                        best = max(best, cosine)
                    }
                    sum += Double(best)
                    count += 1
                }
            }
        }
        return count == 0 ? 0 : sum / Double(count)
    }
}
