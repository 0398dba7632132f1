import SystemPackage

/// Keys and receipts: what is told to those who drop. All of it can be made again.
extension Verification {
    mutating func checkKeys() throws(SpoolError) {
        // Of two jobs with one key the later has it: the earlier was gone when it came.
        var owners: [SpoolPath: JobID] = [:]
        for (id, facts) in known {
            guard let key = facts.idempotencyKey, let record = facts.record else { continue }
            let path = SpoolLayout.key(OwnedKey(owner: record.owner, key: key))
            owners[path] = max(owners[path] ?? id, id)
        }
        var there: Set<SpoolPath> = []
        try each(in: SpoolLayout.keys) { (check, name, path) throws(SpoolError) in
            there.insert(path)
            let id = try check.store.keyOwner(path)
            if let owner = owners[path] {
                if id != owner {
                    check.error(
                        .keyDamaged, path, "it does not name job \(owner), whose key it is", .writeKey(path, owner))
                }
            } else if let id, let facts = check.known[id], facts.record == nil, facts.idempotencyKey != nil {
                // The record says whose key it is, and is damaged, which is said already.
                return
            } else if let id, Digest.isDigest(name.string), check.known[id]?.record == nil {
                check.note(.keyUnused, path, "the job it names is gone; the key is free")
            } else {
                check.error(.keyDamaged, path, "it names no job whose key it is", .remove(path))
            }
        }
        for (path, owner) in owners where !there.contains(path) {
            error(.keyMissing, path, "found no file, expected the key of job \(owner)", .writeKey(path, owner))
        }
    }

    // MARK: - Receipts

    /// What the receipts of jobs and subjects would say, were they written now, by the names dropped.
    private func expected() -> [String: (receipt: Receipt, isFinal: Bool)] {
        var expected: [String: (receipt: Receipt, isFinal: Bool)] = [:]
        for (id, facts) in known.sorted(by: { $0.key < $1.key }) {
            guard let record = facts.record else { continue }
            expected[record.drop] = (
                Receipt(
                    drop: record.drop, kind: .job, state: .accepted, id: id, message: facts.state.rawValue, time: time),
                facts.state.isFinal
            )
        }
        for record in subjects.values {
            for generation in record.generations {
                for drop in [generation.drop] + generation.furtherDrops {
                    let receipt = Receipt(of: record.name, generation, drop: drop, time: time)
                    expected[drop] = (receipt, generation.state != .pending)
                }
            }
        }
        return expected
    }

    mutating func checkReceipts() throws(SpoolError) {
        let expected = expected()
        var there: Set<String> = []
        try each(in: SpoolLayout.receipts) { (check, name, path) throws(SpoolError) in
            let key = name.string.hasSuffix(".json") ? String(name.string.dropLast(5)) : ""
            there.insert(key)
            guard let receipt = try check.document(path).flatMap(Receipt.init), receipt.drop == key else {
                return check.error(
                    .receiptDamaged, path, "it is not a receipt",
                    expected[key].map { .writeReceipts([$0.receipt]) }
                        ?? .setAside(path, as: "receipt~\(DropName.key(name))"))
            }
            try check.checkReceipt(receipt, path)
        }
        var forgotten: [Receipt] = []
        for (drop, (receipt, isFinal)) in expected where !there.contains(drop) {
            if isFinal {
                forgotten.append(receipt)
            } else {
                note(
                    .receiptMissing, SpoolLayout.receipt(drop), "found no file, expected the receipt of what waits",
                    .writeReceipts([receipt]))
            }
        }
        guard !forgotten.isEmpty else { return }
        note(
            .receiptMissing, SpoolLayout.receipts,
            "\(forgotten.count) jobs or subjects that are finished have no receipt; somebody or retention removed it",
            .writeReceipts(forgotten))
    }

    private mutating func checkReceipt(_ receipt: Receipt, _ path: SpoolPath) throws(SpoolError) {
        switch (receipt.kind, receipt.state) {
        case (.job, .accepted), (.job, .waiting):
            if known[receipt.id] == nil { note(.receiptOrphaned, path, "the job it names is gone") }
        case (.references, .waiting):
            let record = receipt.subject.flatMap { subjects[$0] }
            let generation = record?.generations.first { $0.number == receipt.generation }
            guard generation?.state != .pending else { return }
            var next = receipt
            if let record, let generation {
                next = Receipt(of: record.name, generation, drop: receipt.drop, time: time)
            } else {
                next = receipt.refusedForWantOfRecord(time: time)
            }
            error(.receiptStale, path, "it says that references wait, but they do not", .writeReceipts([next]))
        default: break
        }
        if receipt.state == .rejected, let kept = receipt.keptAt,
            try store.system.statusIfAny(SpoolPath(kept)) == nil
        {
            note(.receiptOrphaned, path, "found nothing at \(kept), where it says that the drop is kept")
        }
    }
}

extension Receipt {
    /// The answer to references as their generation stands now.
    init(of subject: String, _ generation: SubjectRecord.Generation, drop: String, time: String) {
        self.init(
            drop: drop, kind: .references, state: .waiting, id: generation.dropID, message: "waiting to be encoded",
            time: time)
        self.subject = subject
        self.generation = generation.number
        switch generation.state {
        case .pending: break
        case .ready:
            state = .accepted
            message = "encoded as \(SpoolLayout.cacheLink(subject))"
        case .rejected(let reason):
            state = .rejected
            message = reason
        }
    }

    /// The answer to references that wait in vain, since the record of their subject is lost.
    func refusedForWantOfRecord(time: String) -> Receipt {
        var next = self
        next.state = .rejected
        next.message = "the record of the subject was damaged in the spool; drop the references again"
        next.keptAt = nil
        next.time = time
        return next
    }
}
