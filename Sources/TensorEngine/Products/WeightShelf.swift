/// The packed weights of one engine: those of an earlier run that may be read where they lie, and those made since.
final class WeightShelf {
    /// Finds bytes by name. They begin at a multiple of ``Storage/alignment`` and stay for the engine's life.
    var prepared: ((_ name: String) -> UnsafeRawBufferPointer?)?

    /// Counts the parts of the model that took turns.
    var phase = 0

    private struct Member { weak var weights: Weights? }
    private var members: [Member] = []

    /// Lists weights that have a name for as long as somebody holds them.
    func enrol(_ weights: Weights) { members.append(Member(weights: weights)) }

    /// Gives up the packed forms that were last used in an earlier phase and that are in memory of their own.
    func giveUpOldPhases() {
        let named = members.compactMap(\.weights)
        // Their twins for the way back have no names, and so are not listed themselves.
        let backward = named.compactMap(\.backward)
        for weights in named + backward + backward.compactMap(\.winograd) where weights.phase < phase {
            weights.packed.removeAll { !$0.storage.isBorrowed }
        }
    }

    /// All packed forms that have names, of the weights that live.
    func forEach(_ body: (_ name: String, PackedWeights) -> Void) {
        members.removeAll { $0.weights == nil }
        for packed in members.compactMap(\.weights).flatMap(\.packed) {
            if let name = packed.name { body(name, packed) }
        }
    }
}
