import CKernels

extension Engine {
    /// Nearest neighbour, `[n, h, w, c]` to `[n, 2h, 2w, c]`, or one less in height or width, which is what halving an odd
    /// size left behind; the result has the type that products read.
    ///
    /// PyTorch's `interpolate(size: [2h - 1, ...])` takes floor(i h / (2h - 1)), which is floor(i / 2) for every i.
    public func upsampled(_ x: Tensor, height: Int? = nil, width: Int? = nil) throws(EngineError) -> Tensor {
        let y = try empty(try upsampledShape(x, height: height, width: width), activationType)
        let small = try converted(x, to: activationType)
        try measured("upsample \(y.shape)") {
            kernels_upsample2(
                small.bytes, y.bytes, Int64(x.shape[0]), Int64(x.shape[1]), Int64(x.shape[2]), Int64(y.shape[1]),
                Int64(y.shape[2]), Int64(y.channels * activationType.byteCount))
        }
        return y
    }

    func upsampledShape(_ x: Tensor, height: Int?, width: Int?) throws(EngineError) -> [Int] {
        func fits(_ large: Int?, _ small: Int) -> Bool { large.map { ($0 + 1) / 2 == small } ?? true }
        guard x.shape.count == 4, fits(height, x.shape[1]), fits(width, x.shape[2]) else {
            throw .shapes(
                operation: "upsample", found: [x.shape, [height, width].compactMap { $0 }],
                expected: "[n, h, w, c], and twice h and w or one less")
        }
        return [x.shape[0], height ?? 2 * x.shape[1], width ?? 2 * x.shape[2], x.shape[3]]
    }

    /// Backward: the gradient by `x [n, h, w, c]`, of the gradient by what was made of it, `[n, 2h, 2w, c]` or one less.
    public func upsampledGradient(_ gradient: Tensor, of shape: [Int]) throws(EngineError) -> Tensor {
        let dx = try empty(shape)
        let (height, width) = gradient.shape.count == 4 ? (gradient.shape[1], gradient.shape[2]) : (0, 0)
        try checkGradient(
            gradient, like: try upsampledShape(dx, height: height, width: width), of: "upsample")
        try measured("upsample gradient \(shape)") {
            kernels_upsample2_gradient(
                gradient.floats, dx.floats, Int64(shape[0]), Int64(shape[1]), Int64(shape[2]), Int64(height),
                Int64(width),
                Int64(shape[3]))
        }
        return dx
    }
}
