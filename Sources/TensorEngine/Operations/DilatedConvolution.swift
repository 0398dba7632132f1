import CKernels

extension Engine {
    /// A convolution whose taps stand `dilation` pixels apart, with as many zeros around as keep the size:
    /// `[n, h, w, inputs]` to `[n, h, w, outputs]`, float32.
    ///
    /// It is the ordinary convolution of the pictures of every `dilation`-th pixel (Chen et al. 2015), so that both backends
    /// have it.
    /// - Parameter weights: of an odd kernel, stride 1, and padding by half the kernel on all sides.
    public func product(_ x: Tensor, _ weights: Weights, dilation: Int) throws(EngineError) -> Tensor {
        guard case .convolution(let kernel, 1, let before, let after) = weights.kind, kernel % 2 == 1,
            before == kernel / 2, after == kernel / 2, dilation > 0
        else {
            throw .shapes(
                operation: "\(weights.kind) dilated by \(dilation)", found: [x.shape],
                expected: "an odd kernel of stride 1 that keeps the size, and a dilation of at least 1")
        }
        if dilation == 1 { return try product(x, weights) }
        guard x.shape.count == 4, x.elementType == .float32, x.count > 0 else {
            throw .shapes(
                operation: "dilated convolution", found: [x.shape], expected: "[n, h, w, c] in float32, not empty")
        }
        let (n, h, w) = (x.shape[0], x.shape[1], x.shape[2])
        let small = (h: (h + dilation - 1) / dilation, w: (w + dilation - 1) / dilation)
        let parts = try empty([n * dilation * dilation, small.h, small.w, x.channels])
        try measured("split \(x.shape) by \(dilation)") {
            kernels_split_dilated(
                x.floats, parts.floats, Int64(n), Int64(h), Int64(w), Int64(x.channels), Int64(dilation))
        }
        let results = try product(parts, weights)
        let y = try empty([n, h, w, weights.outputs])
        try measured("join \(y.shape) by \(dilation)") {
            kernels_join_dilated(
                results.floats, y.floats, Int64(n), Int64(h), Int64(w), Int64(weights.outputs), Int64(dilation))
        }
        return y
    }
}
