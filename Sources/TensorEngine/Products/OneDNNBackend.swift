import CKernels
import COneDNN

/// Products by oneDNN: one primitive per shape, made at its first use and kept.
final class OneDNNBackend: ProductBackend {
    /// A primitive divides its work, and sizes its scratch memory, for the number of threads it was made with.
    private struct Key: Hashable {
        let shape: ProductShape
        let threads: Int32
    }

    private let engine: OpaquePointer
    private let pool: BufferPool
    /// The value is nil where OpenBLAS does the product. That is where oneDNN offers only its general matrix product in fp32,
    /// as it does for linear maps on CPUs without AVX-512. That one divides sums among threads, so its results would depend
    /// on their number.
    private var products: [Key: OpaquePointer?] = [:]
    private let openBLAS = OpenBLASBackend()

    init(pool: BufferPool) throws(EngineError) {
        var engine: OpaquePointer?
        let status = onednn_open(&engine)
        guard status == 0, let engine else { throw Self.error("open", status) }
        self.engine = engine
        self.pool = pool
    }

    deinit {
        for case let product? in products.values { onednn_release(product) }
        onednn_close(engine)
    }

    private static func error(_ operation: String, _ status: Int32) -> EngineError {
        .oneDNN(operation: operation, status: String(cString: onednn_status_name(status)))
    }

    func run(
        _ shape: ProductShape, source: UnsafeMutableRawPointer, weights: Weights, bias: UnsafePointer<Float>?,
        destination: UnsafeMutableRawPointer
    ) throws(EngineError) {
        guard let product = try product(for: shape) else {
            try openBLAS.run(shape, source: source, weights: weights, bias: bias, destination: destination)
            return
        }
        let packed = try packed(weights, for: product)
        let scratchBytes = onednn_scratch_bytes(product)
        let scratch = scratchBytes > 0 ? try Storage(byteCount: scratchBytes, pool: pool) : nil
        let status = onednn_run(product, source, packed.pointer, bias, destination, scratch?.pointer)
        guard status == 0 else { throw Self.error("run \(shape)", status) }
    }

    /// nil where OpenBLAS does it.
    private func product(for shape: ProductShape) throws(EngineError) -> OpaquePointer? {
        // OpenBLAS does all batches in fp32, which are Winograd's. Whether Winograd's way pays was measured with OpenBLAS.
        if shape.batch > 1, shape.source == .float32 { return nil }
        let key = Key(shape: shape, threads: kernels_threads())
        if let product = products[key] { return product }
        let options = onednn_options(
            source: shape.source == .bfloat16 ? ONEDNN_BF16 : ONEDNN_F32,
            destination: shape.destination == .bfloat16 ? ONEDNN_BF16 : ONEDNN_F32, bias: shape.bias,
            accumulate: shape.accumulate)
        var product: OpaquePointer?
        let status: Int32
        switch shape.kind {
        case .linear:
            status = onednn_matmul(
                engine, Int64(shape.batch), Int64(shape.n), Int64(shape.inputs), Int64(shape.outputs), options, &product
            )
        case .convolution(let kernel, let stride, let padBegin, let padEnd):
            let convolution = onednn_convolution_shape(
                n: Int64(shape.n), h: Int64(shape.h), w: Int64(shape.w), c: Int64(shape.inputs),
                outputs: Int64(shape.outputs), kernel: Int64(kernel), stride: Int64(stride), pad_begin: Int64(padBegin),
                pad_end: Int64(padEnd))
            status = onednn_convolution(engine, convolution, options, &product)
        }
        guard status == 0, let product else { throw Self.error("make \(shape)", status) }
        if shape.source == .float32, String(cString: onednn_implementation(product)).hasPrefix("gemm") {
            onednn_release(product)
            products.updateValue(nil, forKey: key)
            return nil
        }
        products[key] = product
        return product
    }

    private func packed(_ weights: Weights, for product: OpaquePointer) throws(EngineError) -> Storage {
        for packed in weights.packed {
            guard let made = packed.product else { continue }
            if made == product || onednn_same_layout(made, product) { return packed.storage }
        }
        return try weights.pack(
            as: Self.layout(of: product), byteCount: onednn_weights_bytes(product), product: product
        ) { memory throws(EngineError) in
            let status = try weights.withValues { onednn_pack(product, $0.baseAddress, memory) }
            guard status == 0 else { throw Self.error("pack weights", status) }
        }
    }

    /// How a product's packed weights lie, in words.
    private static func layout(of product: OpaquePointer) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
            guard let text = buffer.baseAddress, onednn_layout(product, text, buffer.count) else { return nil }
            return String(cString: text)
        }
    }
}
