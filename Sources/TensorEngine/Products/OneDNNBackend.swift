import CKernels
import COneDNN

/// Products by oneDNN: one primitive per shape, made at its first use and kept while it is used.
///
/// Of those that no packed weights refer to, the `capacity` used last are kept. A model at one size has some hundred shapes,
/// so that several sizes fit; a daemon that sees every size in turn does not grow without end.
final class OneDNNBackend: ProductBackend {
    /// A primitive divides its work, and sizes its scratch memory, for the number of threads it was made with.
    private struct Key: Hashable {
        let shape: ProductShape
        let threads: Int32
    }

    private let engine: OpaquePointer
    private let pool: BufferPool
    /// The product of a shape is nil where OpenBLAS does it. That is where oneDNN offers only its general matrix product in
    /// fp32, as it does for linear maps on CPUs without AVX-512. That one divides sums among threads, so its results would
    /// depend on their number.
    private var products: [Key: Kept] = [:]
    /// Products that packed weights are compared with: they live as long as this.
    private var pinned: Set<OpaquePointer> = []
    private var uses = 0
    /// How many shapes are remembered at most, beside those that are pinned; fewer in tests.
    var capacity = 1024

    private struct Kept {
        let product: OpaquePointer?
        var lastUse: Int
    }

    /// How many shapes are remembered.
    var productCount: Int { products.count }

    private let openBLAS = OpenBLASBackend()

    init(pool: BufferPool) throws(EngineError) {
        var engine: OpaquePointer?
        let status = onednn_open(&engine)
        guard status == 0, let engine else { throw Self.error("open", status) }
        self.engine = engine
        self.pool = pool
    }

    deinit {
        for case let product? in products.values.map(\.product) { onednn_release(product) }
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
        uses += 1
        if let kept = products[key] {
            products[key]?.lastUse = uses
            return kept.product
        }
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
            keep(nil, key)
            return nil
        }
        keep(product, key)
        return product
    }

    /// Remembers a product, and forgets the quarter used longest ago where there are too many.
    private func keep(_ product: OpaquePointer?, _ key: Key) {
        products[key] = Kept(product: product, lastUse: uses)
        guard products.count - pinned.count > capacity else { return }
        let free = products.filter { entry in entry.value.product.map { !pinned.contains($0) } ?? true }
        for (key, kept) in free.sorted(by: { $0.value.lastUse < $1.value.lastUse }).prefix(capacity / 4) {
            products[key] = nil
            if let product = kept.product { onednn_release(product) }
        }
    }

    private func packed(_ weights: Weights, for product: OpaquePointer) throws(EngineError) -> Storage {
        for packed in weights.packed {
            guard let made = packed.product else { continue }
            if made == product || onednn_same_layout(made, product) { return packed.storage }
        }
        pinned.insert(product)
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
