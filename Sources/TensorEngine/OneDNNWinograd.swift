import CKernels
import COneDNN

// 3x3 convolutions by F(2x2, 3x3) (Lavin & Gray 2016): 16 matrix products a block of tiles in place of 36. Inputs and
// weights are rounded to bfloat16 after their transforms, sums stay fp32: the error against fp32 is 1.8 times that of
// the direct bfloat16 convolution.

extension ProductShape {
    /// Tiles of 2x2 results that are made at once: their transforms stay in the cache.
    static let winogradTiles = 256

    private var winogradTilesOfPicture: Int { ((h + 1) / 2) * ((w + 1) / 2) }
    fileprivate var winogradTileCount: Int { n * winogradTilesOfPicture }

    /// Where it pays: enough tiles in each picture to fill a block, enough channels to outweigh the transforms. The size of
    /// the batch has no say, so that a picture's result does not depend on it.
    var suitsWinograd: Bool {
        kind == .convolution(kernel: 3, stride: 1, padBegin: 1, padEnd: 1) && source == .bfloat16
            && destination == .float32 && min(inputs, outputs) >= 128 && winogradTilesOfPicture >= Self.winogradTiles
    }

    /// The products of a block at the 16 places of the transform.
    fileprivate var winogradProduct: ProductShape {
        ProductShape(
            kind: .linear, inputs: inputs, outputs: outputs, n: Self.winogradTiles, h: 1, w: 1, source: .bfloat16,
            destination: .float32, bias: false, accumulate: false, batch: 16)
    }
}

extension OneDNNBackend {
    func runWinograd(
        _ shape: ProductShape, source: UnsafeRawPointer, weights: Weights, bias: UnsafePointer<Float>?,
        destination: UnsafeMutableRawPointer
    ) throws(EngineError) {
        let blockShape = shape.winogradProduct
        let product = try product(for: blockShape)
        let packed = try transformed(weights, for: product)
        let tiles = ProductShape.winogradTiles
        let inputs = try Storage(byteCount: 16 * tiles * shape.inputs * 2, pool: pool)
        let sums = try Storage(byteCount: 16 * tiles * shape.outputs * 4, pool: pool)
        let (h, w) = (Int64(shape.h), Int64(shape.w))
        for first in stride(from: 0, to: shape.winogradTileCount, by: tiles) {
            // In a last block that is not full, rows without a tile hold what was there before; nothing reads them after.
            let count = min(tiles, shape.winogradTileCount - first)
            kernels_winograd_input(
                source.assumingMemoryBound(to: UInt16.self), inputs.pointer.assumingMemoryBound(to: UInt16.self),
                Int64(tiles), Int64(first), Int64(count), h, w, Int64(shape.inputs))
            try run(
                product, blockShape, source: inputs.pointer, packed: packed.pointer, bias: nil,
                destination: sums.pointer)
            kernels_winograd_output(
                sums.pointer.assumingMemoryBound(to: Float.self), Int64(tiles), bias, shape.accumulate,
                destination.assumingMemoryBound(to: Float.self), Int64(first), Int64(count), h, w,
                Int64(shape.outputs))
        }
    }

    /// The 16 matrices of `weights`, one after the other, each as `product` reads it.
    private func transformed(_ weights: Weights, for product: OpaquePointer) throws(EngineError) -> Storage {
        for packed in weights.packed where packed.isTransformed {
            if let made = packed.product, made == product || onednn_same_layout(made, product) { return packed.storage }
        }
        return try weights.pack(
            as: Self.layout(of: product).map { "winograd \($0)" }, byteCount: onednn_weights_bytes(product),
            product: product, isTransformed: true
        ) { memory throws(EngineError) in
            let matrices = UnsafeMutablePointer<Float>.allocate(capacity: 16 * weights.inputs * weights.outputs)
            defer { matrices.deallocate() }
            try weights.withValues {
                kernels_winograd_weights($0.baseAddress, matrices, Int64(weights.outputs), Int64(weights.inputs))
            }
            let status = onednn_pack(product, matrices, memory)
            guard status == 0 else { throw Self.error("pack weights", status) }
        }
    }
}
