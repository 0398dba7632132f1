import Logging

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
        let subject = status.kind == .folder ? claim.key : ReferenceSet.stem(claim.key)
        guard DropName.isPlain(subject), DropName.isPlain(claim.key), !subject.hasSuffix(".json") else {
            let expected = Schema.StringPattern.name.expectation + ", not ending in .json"
            return try receipts.reject(
                claim, kind: .references, message: "found the name '\(claim.key)', expected \(expected)")
        }
        guard status.kind == .folder || status.kind == .regular else {
            let (found, expected) = Self.words(.notRegular(status.kind))
            return try receipts.reject(
                claim, kind: .references, message: "\(claim.key): found \(found), expected \(expected) or a folder")
        }
        var draft = try store.draft()
        defer { store.discard(draft.path) }
        switch try collect(claim, isFolder: status.kind == .folder, into: &draft) {
        case .later: result.isUnsettled = true
        case .reject(let message): try receipts.reject(claim, kind: .references, message: message)
        case .set(let set, let unused):
            try store.add(ReferenceSet.listFile, Array(set.json.text().utf8), to: &draft)
            let destination = SpoolLayout.referenceSet(set.digest)
            if try system.statusIfAny(destination) != nil, try store.referenceSet(ofFilesIn: destination) != set {
                // The same pictures were here before and are damaged; whoever drops them again mends them.
                try store.setAside(destination, as: "references~\(set.digest)")
            }
            if try system.statusIfAny(destination) == nil { try store.publish([(draft, destination)]) }
            let record = try addGeneration(of: subject, set, claim, owner: status.owner)
            result.subjects.append(record)
            try conclude(claim, record, images: set.images.count, unused: unused)
        }
    }

    /// Copies the images of a claim into a draft.
    private mutating func collect(
        _ claim: Claim, isFolder: Bool, into draft: inout DurableStore.Draft
    ) throws(SpoolError) -> Collected {
        var files: [ReferenceSet.File] = []
        var unused: [String] = []
        var names: [SpoolPath.Name] = []
        do throws(SpoolError) {
            if isFolder { names = try system.list(claim.path) }
        } catch  where error.isForeign {
            return .reject(
                "found a folder that cannot be read (\(error.errno.map { "\($0)" } ?? "")), expected one the daemon may read"
            )
        }
        let paths = isFolder ? names.map { claim.path.appending($0) } : [claim.path]
        guard paths.count <= configuration.references.files else {
            return .reject("found \(paths.count) files, expected at most \(configuration.references.files)")
        }
        for path in paths {
            let name = isFolder ? path.lastName.map(DropName.key) ?? "" : claim.key
            guard pulse() else { return .later }
            // A folder is somebody's, hidden or not.
            if try system.foreignStatus(path)?.kind == .folder {
                unused.append(name)
                continue
            }
            if isFolder, path.lastName?.string.hasPrefix(".") == true || Self.litter.contains(name) { continue }
            switch try examine(path) {
            case .success(let (_, bytes)):
                let name = Self.plain(name)
                guard !files.contains(where: { $0.name == name }) else {
                    return .reject(
                        "\(name): found two files of this name once it is made plain, expected different names")
                }
                try store.add(name, bytes, to: &draft)
                files.append(.init(name: name, sha256: Digest.sha256(bytes), bytes: bytes.count))
            case .failure(.notAnImage(let found)):
                guard isFolder, !ImageFile.isImageName(name) else {
                    return .reject("\(name): found \(found), expected a PNG or JPEG image")
                }
                unused.append(name)
            case .failure(.changing):
                if isPatient(claim) { return .later }
                return .reject("\(name): found a file that is still being written, expected a finished one")
            case .failure(.incomplete(let found)):
                return .reject("\(name): found \(found), expected a whole image")
            case .failure(.refused(let found, let expected)):
                return .reject("\(name): found \(found), expected \(expected)")
            }
        }
        let set = ReferenceSet(files: files)
        guard !set.images.isEmpty else {
            return .reject("found no PNG or JPEG image in '\(claim.key)', expected at least one")
        }
        return .set(set, unused: unused)
    }

    /// Files that systems leave in folders and nobody means to drop.
    private static let litter: Set<String> = ["Thumbs.db", "desktop.ini"]

    /// A file's name made plain; names of photos are labels, and `IMG 0001.jpg` is no reason to refuse one.
    private static func plain(_ key: String) -> String {
        if DropName.isPlain(key) { return key }
        let ending = key.lastIndex(of: ".").map { key[$0...] } ?? ""
        let stem = key.dropLast(ending.count).map { DropName.isPlain("x\($0)") ? $0 : "_" }
        return "x" + String(stem.prefix(50))
            + (ending.count <= 6 ? String(ending.map { DropName.isPlain("x\($0)") ? $0 : "_" }) : "")
    }

    private func addGeneration(
        of subject: String, _ set: ReferenceSet, _ claim: Claim, owner: UInt32
    ) throws(SpoolError) -> SubjectRecord {
        let path = SpoolLayout.subject(subject)
        var record = try store.subjectSettingAsideDamage(subject, logger) ?? SubjectRecord(name: subject)
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
        try store.publish(record.json, at: path, replacing: true)
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
        if case .ready = current.state {
            receipt.message = "these references are known already, and encoded"
        } else {
            receipt.state = .waiting
            receipt.message = "waiting to be encoded"
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
    private func dispose(_ claim: Claim, _ receipt: Receipt) throws(SpoolError) {
        guard receipt.keptAt == nil else { return try receipts.shelf.keep(claim) }
        guard let place = try receipts.shelf.remove(claim) else { return }
        var receipt = receipt
        receipt.message += "; the original could not be removed"
        receipt.keptAt = place.string
        try receipts.write(receipt)
    }
}
