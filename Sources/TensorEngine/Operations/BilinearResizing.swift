import CKernels

extension Engine {
    /// Bilinear interpolation with half-pixel centres, `[n, h, w, c]` to `[n, height, width, c]`, float32; `x` itself where it
    /// has the size. PyTorch's `interpolate(mode="bilinear", align_corners=False)`: without antialiasing.
    public func resized(_ x: Tensor, height: Int, width: Int) throws(EngineError) -> Tensor {
        guard x.shape.count == 4, x.elementType == .float32, x.count > 0, height > 0, width > 0 else {
            throw .shapes(
                operation: "resize", found: [x.shape, [height, width]],
                expected: "[n, h, w, c] in float32, not empty, and a size of at least 1x1")
        }
        if x.shape[1] == height, x.shape[2] == width { return x }
        let y = try empty([x.shape[0], height, width, x.shape[3]])
        try measured("resize \(x.shape) to \(height)x\(width)") {
            kernels_resize_bilinear(
                x.floats, y.floats, Int64(x.shape[0]), Int64(x.shape[1]), Int64(x.shape[2]), Int64(height),
                Int64(width), Int64(x.shape[3]))
        }
        return y
    }
}
