import Logging
import SystemPackage

/// Takes drops out of the drop folders, and puts away what is left of them.
final class ClaimShelf {
    let store: DurableStore
    let logger: Logger
    /// The drops that stay where their owners put them, by where they are.
    private var leftovers: [SpoolPath: Leftover] = [:]

    /// The shelf as the disk has it. A leftover's record that cannot be read is set aside: its drop is taken once more.
    init(_ store: DurableStore, logger: Logger) throws(SpoolError) {
        self.store = store
        self.logger = logger
        for name in try store.system.list(SpoolLayout.leftovers) {
            let path = SpoolLayout.leftovers.appending(name)
            if let leftover = (try? store.readJSON(path)).flatMap(Leftover.init), leftover.path == path {
                leftovers[leftover.claim.path] = leftover
            } else {
                logger.error("a leftover's record was set aside", metadata: ["path": "\(path)"])
                _ = try? store.setAside(path, as: "leftover~\(DropName.key(name))")
            }
        }
    }

    /// Why a rename is refused for good: another's folder without write permission, a sticky folder, a mount.
    private static let unmovable: Set<Errno> = [.permissionDenied, .notPermitted, .resourceBusy, .improperLink]

    // MARK: - Taking

    /// The claims of a folder that are not answered yet, oldest first.
    func waiting(in folder: DropFolder) throws(SpoolError) -> [Claim] {
        var claims: [Claim] = []
        for name in try store.system.list(SpoolLayout.claims(folder)) {
            if let claim = Claim(name.string, in: folder) {
                claims.append(claim)
            } else {
                _ = try? store.setAside(SpoolLayout.claims(folder).appending(name), as: "claim~\(DropName.key(name))")
            }
        }
        claims += leftovers.values.filter { $0.folder == folder && !$0.isAnswered }.map(\.claim)
        return claims.sorted { $0.id < $1.id }
    }

    /// Whether a name is a drop that was taken and could not be moved.
    func isLeftover(_ name: SpoolPath.Name, in folder: DropFolder) -> Bool {
        !leftovers.isEmpty && leftovers[SpoolLayout.drop(folder).appending(name)] != nil
    }

    /// Takes a drop. The claim is durable once both folders are synced, or at once where the drop cannot be moved.
    ///
    /// - Returns: nil when its owner took it away.
    func take(
        _ name: SpoolPath.Name, in folder: DropFolder, as id: JobID, fingerprint: () throws(SpoolError) -> String
    ) throws(SpoolError) -> Claim? {
        let claim = Claim(id: id, key: DropName.key(name), folder: folder)
        let source = SpoolLayout.drop(folder).appending(name)
        do throws(SpoolError) {
            try store.system.rename(source, to: claim.path)
            return claim
        } catch  where error.errno == .noSuchFileOrDirectory {
            return nil
        } catch  where error.errno.map(Self.unmovable.contains) == true {
            let leftover = Leftover(id: id, folder: folder, name: name, fingerprint: try fingerprint())
            try store.publish(leftover.json, at: leftover.path, replacing: true)
            leftovers[source] = leftover
            logger.notice(
                "a drop is worked on where it lies, since it cannot be moved",
                metadata: ["drop": "\(claim.key)", "reason": "\(error)"])
            return leftover.claim
        }
    }

    /// Counts one more try of a claim, durably.
    func counted(_ claim: Claim) throws(SpoolError) -> Claim {
        guard claim.unmoved == nil else { return claim }
        var next = claim
        next.attempt += 1
        try store.move(claim.path, to: next.path)
        return next
    }

    // MARK: - Putting away

    /// Where a claim's content is kept when it is not used.
    func keepingPlace(_ claim: Claim) -> SpoolPath {
        claim.unmoved == nil ? SpoolLayout.rejected.appending("\(claim.id)~\(claim.key)") : claim.path
    }

    /// Moves a claim's content to where it is kept.
    func keep(_ claim: Claim) throws(SpoolError) {
        guard claim.unmoved == nil else { return try answered(claim, isKept: true) }
        do throws(SpoolError) {
            try store.move(claim.path, to: keepingPlace(claim))
        } catch  where error.errno == .noSuchFileOrDirectory {
            // A crash came between this and what followed from it.
        }
    }

    /// Removes a claim's content, as a whole.
    ///
    /// - Returns: where it is kept instead, since its owner does not let it be removed.
    func remove(_ claim: Claim) throws(SpoolError) -> SpoolPath? {
        guard claim.unmoved == nil else {
            try answered(claim, isKept: false)
            return claim.path
        }
        guard let status = try store.system.statusIfAny(claim.path) else { return nil }
        if status.kind != .folder {
            try store.system.unlink(claim.path)
            try store.syncDirectory(claim.path.parent)
            return nil
        }
        let trash = SpoolLayout.trash.appending(claim.id.text)
        try store.move(claim.path, to: trash)
        do throws(SpoolError) {
            try store.clear(trash)
            return nil
        } catch  where error.isForeign || error.errno == .directoryNotEmpty {
            let place = keepingPlace(claim)
            try store.move(trash, to: place)
            return place
        }
    }

    /// Removes the claims of many files at once, each of them answered.
    func removeFiles(_ claims: [Claim]) throws(SpoolError) {
        for claim in claims {
            if claim.unmoved != nil {
                try answered(claim, isKept: false)
                continue
            }
            do throws(SpoolError) {
                try store.system.unlink(claim.path)
            } catch  where error.errno == .noSuchFileOrDirectory {
                // Done before a crash.
            }
        }
        for folder in Set(claims.map(\.folder)) { try store.syncDirectory(SpoolLayout.claims(folder)) }
    }

    private func answered(_ claim: Claim, isKept: Bool) throws(SpoolError) {
        guard var leftover = leftovers[claim.path], leftover.id == claim.id else { return }
        leftover.isAnswered = true
        leftover.isKept = isKept
        try store.publish(leftover.json, at: leftover.path, replacing: true)
        leftovers[claim.path] = leftover
    }

    /// Looks after the leftovers: what is gone is forgotten, what has changed is a new drop, and what can be moved by now is
    /// removed.
    func tidy(fingerprint: (SpoolPath) throws(SpoolError) -> String?) throws(SpoolError) {
        for (path, leftover) in leftovers where leftover.isAnswered {
            do throws(SpoolError) {
                guard let look = try fingerprint(path), look == leftover.fingerprint else {
                    try forget(leftover, path)
                    continue
                }
                guard !leftover.isKept else { continue }
                let trash = SpoolLayout.trash.appending(leftover.id.text)
                try store.system.rename(path, to: trash)
                try store.syncDirectory(SpoolLayout.trash)
                try forget(leftover, path)
                store.discard(trash)
            } catch  where !error.isFinal {
                // It stays where it is, and is remembered.
            }
        }
    }

    private func forget(_ leftover: Leftover, _ path: SpoolPath) throws(SpoolError) {
        try store.system.unlink(leftover.path)
        leftovers[path] = nil
    }
}
