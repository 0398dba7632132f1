import COneDNN

/// Products by oneDNN: one primitive a shape, made at its first use and kept.
final class OneDNNBackend: ProductBackend {
    private let engine: OpaquePointer
    private let pool: BufferPool
    private var products: [ProductShape: OpaquePointer] = [:]

    init(pool: BufferPool) throws(EngineError) {
        var engine: OpaquePointer?
        let status = onednn_open(&engine)
        guard status == 0, let engine else { throw Self.error("open", status) }
        self.engine = engine
        self.pool = pool
    }

    deinit { for product in products.values { onednn_release(product) } }

    private static func error(_ operation: String, _ status: Int32) -> EngineError {
        .oneDNN(operation: operation, status: String(cString: onednn_status_name(status)))
    }

    func run(
        _ shape: ProductShape, source: UnsafeMutableRawPointer, weights: Weights, bias: UnsafePointer<Float>?,
        destination: UnsafeMutableRawPointer
    ) throws(EngineError) {
        let product = try product(for: shape)
        let packed = try packed(weights, for: product)
        let scratchBytes = onednn_scratch_bytes(product)
        let scratch = scratchBytes > 0 ? try Storage(byteCount: scratchBytes, pool: pool) : nil
        let status = onednn_run(product, source, packed.pointer, bias, destination, scratch?.pointer)
        guard status == 0 else { throw Self.error("run \(shape)", status) }
    }

    private func product(for shape: ProductShape) throws(EngineError) -> OpaquePointer {
        if let product = products[shape] { return product }
        let options = onednn_options(
            source: shape.source == .bfloat16 ? ONEDNN_BF16 : ONEDNN_F32,
            destination: shape.destination == .bfloat16 ? ONEDNN_BF16 : ONEDNN_F32, bias: shape.bias,
            accumulate: shape.accumulate)
        var product: OpaquePointer?
        let status: Int32
        switch shape.kind {
        case .linear:
            status = onednn_matmul(engine, Int64(shape.n), Int64(shape.inputs), Int64(shape.outputs), options, &product)
        case .convolution(let kernel, let stride, let padBegin, let padEnd):
            let convolution = onednn_convolution_shape(
                n: Int64(shape.n), h: Int64(shape.h), w: Int64(shape.w), c: Int64(shape.inputs),
                outputs: Int64(shape.outputs), kernel: Int64(kernel), stride: Int64(stride), pad_begin: Int64(padBegin),
                pad_end: Int64(padEnd))
            status = onednn_convolution(engine, convolution, options, &product)
        }
        guard status == 0, let product else { throw Self.error("make \(shape)", status) }
        products[shape] = product
        return product
    }

    private func packed(_ weights: Weights, for product: OpaquePointer) throws(EngineError) -> Storage {
        for packed in weights.packed {
            guard let made = packed.product else { continue }
            if made == product || onednn_same_layout(made, product) { return packed.storage }
        }
        // A pool of its own: the engine's would keep a buffer of every size that weights come in.
        let plain = try Storage(byteCount: weights.count * 4, pool: BufferPool())
        let floats = plain.pointer.bindMemory(to: Float.self, capacity: weights.count)
        weights.fill(UnsafeMutableBufferPointer(start: floats, count: weights.count))
        let storage = try Storage(byteCount: onednn_weights_bytes(product), pool: pool)
        let status = onednn_pack(product, floats, storage.pointer)
        guard status == 0 else { throw Self.error("pack weights", status) }
        weights.packed.append(PackedWeights(storage: storage, product: product))
        return storage
    }
}
