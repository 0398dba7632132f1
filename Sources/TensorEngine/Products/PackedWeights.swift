/// Weights in the layout of one backend.
struct PackedWeights {
    let storage: Storage
    let byteCount: Int
    /// The oneDNN product they were laid out for; nil for OpenBLAS, which has one layout on each path.
    let product: OpaquePointer?
    /// Names of parameters and layout, by which another run finds them; nil where they are not kept.
    let name: String?
}
