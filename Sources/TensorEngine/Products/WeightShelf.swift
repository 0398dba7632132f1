/// The packed weights of one engine: those of an earlier run that may be read where they lie, and those made since.
final class WeightShelf {
    /// Finds bytes by name. They begin at a multiple of ``Storage/alignment`` and stay for the engine's life.
    var prepared: ((_ name: String) -> UnsafeRawBufferPointer?)?

    private struct Member { weak var packed: PackedWeights? }
    private var members: [Member] = []

    /// Lists packed weights for as long as somebody holds them.
    func enrol(_ packed: PackedWeights) { members.append(Member(packed: packed)) }

    /// All packed weights that have names and are still held.
    func forEach(_ body: (_ name: String, PackedWeights) -> Void) {
        members.removeAll { $0.packed == nil }
        for packed in members.compactMap(\.packed) {
            if let name = packed.name { body(name, packed) }
        }
    }
}
