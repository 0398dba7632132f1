import CKernels

extension Engine {
    /// Maxima of 2 x 2 pixels with a stride of 2, `[n, h, w, c]` to `[n, ceil(h / 2), ceil(w / 2), c]`, float32. A window at
    /// an odd end has one row or column only (PyTorch's `MaxPool2d(2, 2, ceil_mode=True)`).
    public func maxPooled(_ x: Tensor) throws(EngineError) -> Tensor {
        guard x.shape.count == 4, x.elementType == .float32, x.count > 0 else {
            throw .shapes(operation: "max-pool", found: [x.shape], expected: "[n, h, w, c] in float32, not empty")
        }
        let (n, h, w, c) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
        let y = try empty([n, (h + 1) / 2, (w + 1) / 2, c])
        try measured("max-pool \(x.shape)") {
            kernels_max_pool2(x.floats, y.floats, Int64(n), Int64(h), Int64(w), Int64(c))
        }
        return y
    }
}
