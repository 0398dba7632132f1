import Pages

/// The newest drops that were refused, by their receipts. Used by the loop's thread alone; receipts from before the start are
/// read a few at a time.
final class Refusals {
    private let store: DurableStore
    private var newest: [Receipt] = []
    /// Names in `receipts/` that are still to be read; nil before they were listed.
    private var unread: [SpoolPath.Name]?

    private static let shown = 20
    /// A turn of the loop reads so many: whoever wants it to stop waits for no more.
    private static let batch = 16

    init(_ store: DurableStore) { self.store = store }

    /// A receipt was written.
    func note(_ receipt: Receipt) {
        newest.removeAll { $0.drop == receipt.drop }
        guard receipt.state == .rejected else { return }
        newest.append(receipt)
        guard newest.count > Self.shown else { return }
        newest.sort { $0.time > $1.time }
        newest.removeLast()
    }

    /// Whether ``readMore()`` has something to do.
    var hasMore: Bool { unread.map { !$0.isEmpty } ?? true }

    /// Reads some of the receipts that were there at the start.
    func readMore() throws(SpoolError) {
        var names = unread ?? []
        if unread == nil { names = try store.system.list(SpoolLayout.receipts) }
        for name in names.suffix(Self.batch) {
            guard let receipt = (try? store.readJSON(SpoolLayout.receipts.appending(name))).flatMap(Receipt.init),
                !newest.contains(where: { $0.drop == receipt.drop })
            else { continue }
            note(receipt)
        }
        names.removeLast(min(Self.batch, names.count))
        unread = names
    }

    /// As the spool's page shows them, newest first.
    var content: [SpoolPage.Refusal] {
        newest.sorted { $0.time > $1.time }.map { receipt in
            let kept = receipt.keptAt.map { "It is kept at \($0). " } ?? ""
            return SpoolPage.Refusal(
                name: receipt.drop, reason: receipt.message,
                faults: receipt.faults.count > 1 ? receipt.faults.map(\.description) : [],
                advice: "\(kept)Mend it and drop it again. Its receipt is receipts/\(receipt.drop).json.")
        }
    }
}
