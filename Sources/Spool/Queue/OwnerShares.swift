/// The worker's time that each owner of drops has had. Among the owners who have something to do, the one with the
/// least time is next.
///
/// This is start-time fair queueing: an owner who comes back after a pause begins level with the others and has saved
/// up nothing.
struct OwnerShares: Sendable, Equatable {
    private var used: [UInt32: Double] = [:]
    private var present: Set<UInt32> = []

    /// Notes who has something to do now.
    mutating func note(present owners: Set<UInt32>) {
        let level = present.intersection(owners).compactMap { used[$0] }.min() ?? 0
        for owner in owners where !present.contains(owner) { used[owner] = max(used[owner] ?? 0, level) }
        present = owners
        used = used.filter { $0.value > 0 }
    }

    /// Counts time, in seconds.
    mutating func add(_ seconds: Double, to owner: UInt32) { used[owner, default: 0] += max(0, seconds) }

    /// The time of an owner in seconds, counted from the level at which the owner with the least began.
    func used(by owner: UInt32) -> Double { used[owner] ?? 0 }
}
