/// Weights in the layout of one backend.
final class PackedWeights {
    let storage: Storage
    let byteCount: Int
    /// The oneDNN product they were laid out for; nil for OpenBLAS, which has one layout on each path.
    let product: OpaquePointer?
    /// Names of parameters and layout, by which another run finds them; nil where they are not kept.
    let name: String?

    init(storage: Storage, byteCount: Int, product: OpaquePointer?, name: String?) {
        self.storage = storage
        self.byteCount = byteCount
        self.product = product
        self.name = name
    }
}
