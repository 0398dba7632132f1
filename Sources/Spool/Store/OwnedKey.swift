/// An idempotency key of one owner. Two users may choose the same key; neither takes it from the other.
struct OwnedKey: Hashable {
    /// Who dropped the manifest; nil where the job's record, which says it, cannot be read.
    let owner: UInt32?
    let key: String
}
