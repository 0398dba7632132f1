/// The shape of one product, apart from its weights.
struct ProductShape: Hashable {
    var kind: ProductKind
    var inputs: Int
    var outputs: Int
    /// Input sizes; a linear map has n rows and h = w = 1.
    var n: Int
    var h: Int
    var w: Int
    var source: ElementType
    var destination: ElementType
    var bias: Bool
    var accumulate: Bool
    /// Products of this shape that are made at once, each of its own weights.
    var batch = 1

    /// Whether there is a whole window of the kernel in the padded input.
    var coversKernel: Bool {
        switch kind {
        case .linear: true
        case .convolution(let kernel, _, let begin, let end): min(h, w) + begin + end >= kernel
        }
    }

    /// Output height and width.
    var outputSize: (h: Int, w: Int) {
        switch kind {
        case .linear: (1, 1)
        case .convolution(let kernel, let stride, let begin, let end):
            ((h + begin + end - kernel) / stride + 1, (w + begin + end - kernel) / stride + 1)
        }
    }
}

extension ProductShape {
    /// For a profile.
    var name: String {
        switch kind {
        case .linear: "linear [\(n), \(inputs)] -> \(outputs)"
        case .convolution(let kernel, let stride, _, _):
            "convolution \(kernel)x\(kernel)/\(stride) [\(n), \(h), \(w), \(inputs)] -> \(outputs)"
        }
    }

    /// Multiplies and adds, of a convolution by its definition: Winograd's way takes fewer.
    var flops: Double {
        let (oh, ow) = outputSize
        return 2 * Double(batch * n * oh * ow) * Double(inputs * outputs * kind.kernel * kind.kernel)
    }
}
