import Logging
import Raster

/// References: from a claimed folder or image to `lib/references/<digest>/` and a generation of their subject.
extension Intake {
    private enum Collected {
        case set(ReferenceSet, unused: [String])
        case reject(String)
        case later
    }

    mutating func ingest(_ claim: Claim, _ result: inout IntakeResult) throws(SpoolError) {
        guard let status = try system.statusIfAny(claim.path) else { return }
        // Answered before a crash, but not yet put away.
        if let receipt = try receipts.read(claim.key), receipt.id == claim.id { return try dispose(claim, receipt) }
        guard let dropped = Self.droppedName(claim.key) else {
            return try receipts.reject(
                claim, kind: .references, message: "found no name, expected \(Schema.StringPattern.name.expectation)")
        }
        let subject = status.kind == .folder ? claim.key : ReferenceNames.subject(ofSingle: dropped)
        guard DropName.isPlain(subject), !subject.hasSuffix(".json") else {
            let suggestion = ReferenceNames.plain(dropped.bytes, fallback: "subject")
            let expected = Schema.StringPattern.name.expectation + ", not ending in .json, for instance '\(suggestion)'"
            return try receipts.reject(
                claim, kind: .references, message: "found the name '\(dropped.printable)', expected \(expected)")
        }
        guard status.kind == .folder || status.kind == .regular else {
            let (found, expected) = Self.words(.notRegular(status.kind))
            return try receipts.reject(
                claim, kind: .references,
                message: "\(dropped.printable): found \(found), expected \(expected) or a folder")
        }
        var draft = try store.draft()
        defer { store.discard(draft.path) }
        switch try collect(claim, isFolder: status.kind == .folder, into: &draft) {
        case .later: result.isUnsettled = true
        case .reject(let message): try receipts.reject(claim, kind: .references, message: message)
        case .set(let set, let unused):
            let known = try store.subjectSettingAsideDamage(subject, logger) ?? SubjectRecord(name: subject)
            if let owner = Self.anotherOwner(of: known, set, than: status.owner) {
                return try receipts.reject(
                    claim, kind: .references,
                    message:
                        "found the subject '\(subject)', whose photos user \(owner) dropped, expected a name of your own"
                )
            }
            try store.add(ReferenceSet.listFile, Array(set.json.text().utf8), to: &draft)
            let destination = SpoolLayout.referenceSet(set.digest)
            if try system.statusIfAny(destination) != nil, try store.referenceSet(ofFilesIn: destination) != set {
                // The same pictures were here before and are damaged; whoever drops them again mends them.
                try store.setAside(destination, as: "references~\(set.digest)")
            }
            if try system.statusIfAny(destination) == nil { try store.publish([(draft, destination)]) }
            let record = try addGeneration(to: known, set, claim, owner: status.owner)
            result.subjects.append(record)
            try conclude(claim, record, images: set.images.count, unused: unused)
        }
    }

    /// The name a claim's drop had; of a long one what its key has kept. Nil for a forged key that stands for no name.
    static func droppedName(_ key: String) -> SpoolPath.Name? {
        var bytes: [UInt8] = []
        var rest = Array(key.utf8)[...]
        while let first = rest.popFirst() {
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            if first == UInt8(ascii: "%"), digits.utf8.count == 2, let byte = UInt8(digits, radix: 16) {
                bytes.append(byte)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(first)
            }
        }
        return SpoolPath.Name(bytes: bytes) ?? SpoolPath.Name(key)
    }

    /// Copies the images of a claim into a draft.
    private mutating func collect(
        _ claim: Claim, isFolder: Bool, into draft: inout DurableStore.Draft
    ) throws(SpoolError) -> Collected {
        guard let dropped = Self.droppedName(claim.key) else { return .reject("found no name") }
        var names = [dropped]
        do throws(SpoolError) {
            if isFolder { names = try system.list(claim.path) }
        } catch  where error.isForeign {
            return .reject(
                "found a folder that cannot be read (\(error.errno.map { "\($0)" } ?? "")), expected one the daemon may read"
            )
        }
        guard names.count <= configuration.references.files else {
            return .reject("found \(names.count) files, expected at most \(configuration.references.files)")
        }
        var collection = ReferenceCollection(names, isFolder: isFolder)
        var digests: [String: (sha256: String, bytes: Int)] = [:]
        // A folder is somebody's, hidden or not.
        for name in names where isFolder && name.string.hasPrefix(".") {
            if try system.foreignStatus(claim.path.appending(name))?.kind == .folder { collection.leaveFolder(name) }
        }
        for entry in collection.entries {
            let path = isFolder ? claim.path.appending(entry.original) : claim.path
            guard pulse() else { return .later }
            if try system.foreignStatus(path)?.kind == .folder {
                collection.leaveFolder(entry.original)
                continue
            }
            let examined = try examine(path)
            switch collection.judge(entry, examined.map(\.0)) {
            case .store(let name):
                guard case .success(let (_, bytes)) = examined else { continue }
                try store.add(name, bytes, to: &draft)
                digests[name] = (Digest.sha256(bytes), bytes.count)
            case .leave: continue
            case .later:
                if isPatient(claim) { return .later }
                return .reject(
                    "\(entry.original.printable): found a file that is still being written, expected a finished one")
            case .reject(let message): return .reject(message)
            }
        }
        if let message = collection.refusal(dropped.printable) { return .reject(message) }
        let files = collection.stored.map { file in
            ReferenceSet.File(
                name: file.name, sha256: digests[file.name]?.sha256 ?? "", bytes: digests[file.name]?.bytes ?? 0,
                original: file.original.text, maskOf: file.maskOf)
        }
        return .set(ReferenceSet(files: files), unused: collection.unused)
    }

    /// The owner of a subject whose photos these would replace although they are another's; nil when they may, or are the same.
    private static func anotherOwner(of record: SubjectRecord, _ set: ReferenceSet, than user: UInt32) -> UInt32? {
        guard let current = record.current, current.references != set.digest,
            !Ownership.permits(user, changing: current.owner)
        else { return nil }
        return current.owner
    }

    private func addGeneration(
        to record: SubjectRecord, _ set: ReferenceSet, _ claim: Claim, owner: UInt32
    ) throws(SpoolError) -> SubjectRecord {
        var record = record
        if record.generations.contains(where: { $0.dropID == claim.id }) { return record }
        if let index = record.generations.lastIndex(where: { !$0.isRejected }),
            record.generations[index].references == set.digest
        {
            guard record.generations[index].state == .pending, record.generations[index].drop != claim.key,
                !record.generations[index].furtherDrops.contains(claim.key)
            else { return record }
            // The same pictures under a second name, before they are encoded: both drops are answered then.
            record.generations[index].furtherDrops.append(claim.key)
        } else {
            record.generations.append(
                .init(
                    number: (record.generations.last?.number ?? 0) + 1, references: set.digest, drop: claim.key,
                    dropID: claim.id, owner: owner, state: .pending))
        }
        try store.publish(record.json, at: SpoolLayout.subject(record.name), replacing: true)
        return record
    }

    /// Answers, and removes the original; when part of it was not used, all of it is kept.
    private func conclude(
        _ claim: Claim, _ record: SubjectRecord, images: Int, unused: [String]
    ) throws(SpoolError) {
        guard let current = record.current else { return }
        var receipt = receipts.make(claim, .references, .accepted, message: "")
        receipt.subject = record.name
        receipt.generation = current.number
        let isRenamed = record.name != ReferenceSet.stem(claim.key) && record.name != claim.key
        let called = isRenamed ? "; the subject is called '\(record.name)'" : ""
        if case .ready = current.state {
            receipt.message = "these references are known already, and encoded" + called
        } else {
            receipt.state = .waiting
            receipt.message = "waiting to be encoded" + called
        }
        if !unused.isEmpty {
            receipt.message += "; not used: " + unused.joined(separator: ", ")
            receipt.keptAt = receipts.shelf.keepingPlace(claim).string
        }
        try receipts.write(receipt)
        logger.info(
            "references ingested",
            metadata: ["subject": "\(record.name)", "generation": "\(current.number)", "images": "\(images)"])
        try dispose(claim, receipt)
    }

    /// Removes an answered claim, or keeps it when its receipt says so.
    func dispose(_ claim: Claim, _ receipt: Receipt) throws(SpoolError) {
        guard receipt.keptAt == nil else { return try receipts.shelf.keep(claim) }
        guard let place = try receipts.shelf.remove(claim) else { return }
        var receipt = receipt
        receipt.message += "; the original could not be removed"
        receipt.keptAt = place.string
        try receipts.write(receipt)
    }
}
