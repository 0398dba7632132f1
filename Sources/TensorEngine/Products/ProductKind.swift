/// The map that weights stand for.
public enum ProductKind: Hashable, Sendable {
    /// `[rows, inputs] -> [rows, outputs]`; PyTorch stores `[outputs, inputs]`.
    case linear
    /// A square convolution; PyTorch stores `[outputs, inputs, kernel, kernel]`. `padBegin` rows of zeros above and columns
    /// left, `padEnd` below and right.
    case convolution(kernel: Int, stride: Int, padBegin: Int, padEnd: Int)

    var kernel: Int {
        switch self {
        case .linear: 1
        case .convolution(let kernel, _, _, _): kernel
        }
    }
}
