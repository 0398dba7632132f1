/// The connected parts of a mask: pixels above a threshold that touch at a side.
public struct MaskParts: Sendable {
    /// Of each pixel, the part it belongs to; -1 where it belongs to none.
    public let labels: [Int]
    /// Pixels of each part.
    public let sizes: [Int]

    /// The parts of `mask`, rows of `width` pixels.
    public init(_ mask: [Float], width: Int, above threshold: Float) {
        var labels = [Int](repeating: -1, count: mask.count)
        var sizes: [Int] = []
        var waiting: [Int] = []
        for start in mask.indices where labels[start] < 0 && mask[start] > threshold {
            let label = sizes.count
            sizes.append(0)
            labels[start] = label
            waiting.append(start)
            while let pixel = waiting.popLast() {
                sizes[label] += 1
                let column = pixel % width
                func visit(_ next: Int) {
                    guard mask.indices.contains(next), labels[next] < 0, mask[next] > threshold else { return }
                    labels[next] = label
                    waiting.append(next)
                }
                if column > 0 { visit(pixel - 1) }
                if column + 1 < width { visit(pixel + 1) }
                visit(pixel - width)
                visit(pixel + width)
            }
        }
        self.labels = labels
        self.sizes = sizes
    }
}
