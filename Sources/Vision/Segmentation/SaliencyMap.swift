/// How likely each pixel of a picture belongs to its subject.
public struct SaliencyMap: Sendable, Equatable {
    /// Columns.
    public let width: Int
    /// Rows.
    public let height: Int
    /// The network's output, 0 to 1, rows from the top.
    public let likelihoods: [Float]

    /// A map of `width * height` likelihoods.
    public init(width: Int, height: Int, likelihoods: [Float]) {
        precondition(likelihoods.count == width * height, "\(likelihoods.count) for \(width)x\(height)")
        self.width = width
        self.height = height
        self.likelihoods = likelihoods
    }

    /// The greatest likelihood: low where nothing in the picture stands out.
    public var peak: Float { likelihoods.max() ?? 0 }

    /// The mask: likelihoods stretched so that the least is 0 and the greatest 1, as the authors' code does it.
    public var mask: [Float] {
        guard let least = likelihoods.min(), let greatest = likelihoods.max(), greatest > least else {
            return [Float](repeating: 0, count: likelihoods.count)
        }
        return likelihoods.map { ($0 - least) / (greatest - least) }
    }
}
