import CKernels

// 3x3 convolutions by F(2x2, 3x3) (Lavin & Gray 2016): 16 matrix products per block of tiles in place of 36. In bfloat16, inputs
// and weights are rounded after their transforms and sums stay fp32: the error against fp32 is 1.8 times that of the direct
// bfloat16 convolution.

extension ProductShape {
    /// Tiles of 2x2 results that are made at once, at most: enough rows for a fast product, few enough for its cache.
    private static let largestWinogradBlock = 256

    /// Tiles of one picture.
    fileprivate var winogradTiles: Int { ((h + 1) / 2) * ((w + 1) / 2) }

    /// Tiles that are cut into blocks together. A large picture's are by themselves, so that they have the same places in
    /// their blocks, and so the same sums, in whatever batch it is. Small pictures share blocks: weights are read once for all.
    fileprivate var winogradSpan: Int {
        winogradTiles < Self.largestWinogradBlock ? n * winogradTiles : winogradTiles
    }

    /// Tiles of a block: as few blocks as a span needs, of one size.
    fileprivate var winogradBlock: Int {
        let blocks = (winogradSpan + Self.largestWinogradBlock - 1) / Self.largestWinogradBlock
        return (winogradSpan + blocks - 1) / blocks
    }

    /// Where it pays: enough tiles to outweigh the weights, which are 16 matrices in place of 9, in time and memory; and enough
    /// channels to outweigh the transforms. The third level of a model for 512 x 512 has 64 tiles: a step is 8 per cent faster
    /// for 300 MB in bfloat16, and in fp32 7 for 600, which is too much there. Pictures somewhat smaller are taken too, or
    /// their weights would be held in both forms. The fourth level gains little.
    var suitsWinograd: Bool {
        kind == .convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1) && destination == .float32
            && min(inputs, outputs) >= 128
            && winogradTiles >= (source == .bfloat16 ? 40 : Self.largestWinogradBlock)
    }

    /// The products of a block at the 16 places of the transform.
    fileprivate var winogradProduct: ProductShape {
        ProductShape(
            kind: .linear, inputs: inputs, outputs: outputs, n: winogradBlock, h: 1, w: 1, source: source,
            destination: .float32, bias: false, accumulate: false, batch: 16)
    }
}

extension Weights {
    /// The 16 matrices of a 3x3 convolution's weights, G g G^T of each kernel g.
    func transformedForWinograd() -> Weights {
        if let winograd { return winograd }
        let made = Weights(
            kind: .linear, inputs: inputs, outputs: outputs, batch: 16, bias: nil, name: name.map { "\($0) winograd" },
            pool: pool, shelf: shelf
        ) { [fill, count, inputs, outputs] matrices throws(EngineError) in
            try withFloats(count) { values throws(EngineError) in
                try fill(values)
                kernels_winograd_weights(values.baseAddress, matrices.baseAddress, Int64(outputs), Int64(inputs))
            }
        }
        made.forward = forward?.transformedForWinograd()
        winograd = made
        return made
    }
}

extension Engine {
    /// - Parameter doubled: `source` has half the shape's height and width, and is read as if it were doubled.
    func runWinograd(
        _ shape: ProductShape, source: UnsafeRawPointer, doubled: Bool, weights: Weights, bias: UnsafePointer<Float>?,
        destination: UnsafeMutableRawPointer
    ) throws(EngineError) {
        let product = shape.winogradProduct
        let matrices = weights.transformedForWinograd()
        let (tiles, block) = (shape.winogradTiles, shape.winogradBlock)
        let inputs = try Storage(byteCount: 16 * block * shape.inputs * shape.source.byteCount, pool: pool)
        let sums = try Storage(byteCount: 16 * block * shape.outputs * 4, pool: pool)
        let (h, w) = (Int64(shape.h), Int64(shape.w))
        for span in stride(from: 0, to: shape.n * tiles, by: shape.winogradSpan) {
            for start in stride(from: 0, to: shape.winogradSpan, by: block) {
                // In a last block that is not full, rows without a tile hold what was there before; nothing reads them after.
                let (first, count) = (Int64(span + start), Int64(min(block, shape.winogradSpan - start)))
                kernels_winograd_input(
                    source, shape.source.kernels, doubled, inputs.pointer, Int64(block), first, count, h, w,
                    Int64(shape.inputs))
                try backend.run(
                    product, source: inputs.pointer, weights: matrices, bias: nil, destination: sums.pointer)
                kernels_winograd_output(
                    sums.pointer.assumingMemoryBound(to: Float.self), Int64(block), bias, shape.accumulate,
                    destination.assumingMemoryBound(to: Float.self), first, count, h, w, Int64(shape.outputs))
            }
        }
    }
}
