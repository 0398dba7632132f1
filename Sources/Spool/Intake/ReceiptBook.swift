import Logging
import SystemPackage

/// Answers claims: the receipt is durable before the claim goes.
struct ReceiptBook: Sendable {
    let store: DurableStore
    let clock: SpoolClock
    let logger: Logger

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
    }

    /// The receipt of a drop, or nil.
    func read(_ key: String) throws(SpoolError) -> Receipt? {
        let path = SpoolLayout.receipt(key)
        guard try store.system.statusIfAny(path) != nil else { return nil }
        return Receipt(try store.readJSON(path))
    }

    /// Writes receipts and then removes their claims, all with one group of syncs.
    func answer(_ answers: [(Claim, Receipt)]) throws(SpoolError) {
        guard !answers.isEmpty else { return }
        // Two drops of one name in one batch cannot be: a folder has a name once.
        try store.publish(
            answers.map { (Array($1.json.text().utf8), SpoolLayout.receipt($1.drop)) }, in: SpoolLayout.receipts)
        for (claim, _) in answers { try unlinkIfAny(claim.path) }
        for folder in Set(answers.map(\.0.folder)) { try store.syncDirectory(SpoolLayout.drop(folder)) }
    }

    private func unlinkIfAny(_ path: SpoolPath) throws(SpoolError) {
        do throws(SpoolError) {
            try store.system.unlink(path)
        } catch  where error.errno == .noSuchFileOrDirectory {
            // Its owner was quicker.
        }
    }

    /// Removes an answered claim, as a whole.
    func remove(_ claim: Claim) throws(SpoolError) {
        do throws(SpoolError) {
            try store.removeTree(claim.path)
        } catch  where error.errno == .notPermitted || error.errno == .permissionDenied {
            try keep(claim)
        }
    }

    /// Where a claim's content is kept when it was not used.
    func keepingPlace(_ claim: Claim) -> SpoolPath {
        SpoolLayout.rejected.appending("\(claim.id)~\(claim.key)")
    }

    /// Refuses a drop: the receipt, then the drop goes where it is kept.
    func reject(
        _ claim: Claim, kind: Receipt.Kind, message: String, faults: [ManifestError.Fault] = []
    ) throws(SpoolError) {
        var receipt = make(claim, kind, .rejected, message: message)
        receipt.faults = faults
        receipt.keptAt = keepingPlace(claim).string
        try write(receipt)
        logger.warning(
            "drop rejected", metadata: ["drop": "\(claim.key)", "id": "\(claim.id)", "reason": "\(message)"])
        try keep(claim)
    }

    /// Moves a claim's content to where it is kept.
    func keep(_ claim: Claim) throws(SpoolError) {
        do throws(SpoolError) {
            try store.move(claim.path, to: keepingPlace(claim))
        } catch  where error.errno == .permissionDenied || error.errno == .notPermitted {
            // Somebody else's folder cannot leave its parent without his leave; it rests where it is, under a name that
            // is ignored from now on.
            let name = ".kept~\(claim.id)~\(claim.key)"
            try store.move(claim.path, to: claim.path.parent.appending(name))
        } catch  where error.errno == .noSuchFileOrDirectory {
            // Its owner took it away.
        }
    }
}
