import Logging
import SystemPackage

/// Answers claims: the receipt is durable before the claim goes.
struct ReceiptBook {
    let store: DurableStore
    let shelf: ClaimShelf
    let clock: SpoolClock
    let logger: Logger
    let refusals: Refusals

    /// A receipt for a claim.
    func make(
        _ claim: Claim, _ kind: Receipt.Kind, _ state: Receipt.State, id: JobID? = nil, message: String
    ) -> Receipt {
        Receipt(
            drop: claim.key, kind: kind, state: state, id: id ?? claim.id, message: message,
            time: Timestamp(clock.wall()).text)
    }

    /// Writes a receipt, in place of the one before under the same name.
    func write(_ receipt: Receipt) throws(SpoolError) {
        try store.publish(receipt.json, at: SpoolLayout.receipt(receipt.drop), replacing: true)
        refusals.note(receipt)
    }

    /// The receipt of a drop, or nil; one that cannot be understood counts as none, and is written anew when there is
    /// something to say.
    func read(_ key: String) throws(SpoolError) -> Receipt? {
        let path = SpoolLayout.receipt(key)
        guard let status = try store.system.statusIfAny(path), status.kind == .regular else { return nil }
        do throws(SpoolError) {
            return Receipt(try store.readJSON(path))
        } catch  where error.code == .damaged || error.isForeign {
            logger.warning("a receipt cannot be read", metadata: ["path": "\(path)", "error": "\(error)"])
            return nil
        }
    }

    /// Writes receipts and then removes their claims, which are files, all with one group of syncs.
    func answer(_ answers: [(Claim, Receipt)]) throws(SpoolError) {
        guard !answers.isEmpty else { return }
        try write(answers.map(\.1))
        try shelf.removeFiles(answers.map(\.0))
    }

    /// Writes many receipts with one group of syncs. Of two for one name the later stays.
    func write(_ receipts: [Receipt]) throws(SpoolError) {
        try store.publish(
            receipts.map { (Array($0.json.text().utf8), SpoolLayout.receipt($0.drop)) }, in: SpoolLayout.receipts)
        for receipt in receipts { refusals.note(receipt) }
    }

    /// Refuses a drop: the receipt, then the drop goes where it is kept.
    func reject(
        _ claim: Claim, kind: Receipt.Kind, message: String, faults: [ManifestError.Fault] = []
    ) throws(SpoolError) {
        var receipt = make(claim, kind, .rejected, message: message)
        receipt.faults = faults
        receipt.keptAt = shelf.keepingPlace(claim).string
        try write(receipt)
        logger.warning(
            "drop rejected", metadata: ["drop": "\(claim.key)", "id": "\(claim.id)", "reason": "\(message)"])
        try shelf.keep(claim)
    }
}
