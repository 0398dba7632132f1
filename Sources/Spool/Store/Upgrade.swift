import Logging
import SystemPackage

/// Brings a spool of layout 1 to layout 2, once. In layout 1 claims lay in the drop folders as `.claim~<id>~<key>`, and a
/// job's images were recorded in `job.json`.
///
/// Every step is idempotent; a crash in between has all of it done again, since the version is written last.
struct Upgrade {
    static let from = "1\n"

    let store: DurableStore
    let jobs: JobStore
    let logger: Logger

    func run() throws(SpoolError) {
        for folder in DropFolder.allCases {
            for name in try store.system.list(SpoolLayout.drop(folder)) { try each(name, in: folder) }
            try store.syncDirectory(SpoolLayout.claims(folder))
            try store.syncDirectory(SpoolLayout.drop(folder))
        }
        // Keys had no owners. The manifests have them all, and their files are written anew when one comes again.
        for name in try store.system.list(SpoolLayout.keys) { store.discard(SpoolLayout.keys.appending(name)) }
        for state in JobState.allCases where state != .done {
            for id in try jobs.list(state) { try each(id, state) }
        }
        logger.notice("the spool's layout is now version 2")
    }

    private func each(_ id: JobID, _ state: JobState) throws(SpoolError) {
        do throws(SpoolError) {
            try jobs.upgrade(id, state)
        } catch  where !error.isFinal {
            logger.error("a job was not upgraded", metadata: ["job": "\(id)", "error": "\(error)"])
        }
    }

    /// A claim goes where claims are now. Anybody could have made such a name, so that one that cannot be moved is left.
    private func each(_ name: SpoolPath.Name, in folder: DropFolder) throws(SpoolError) {
        let destination: SpoolPath
        if let (id, key) = Self.parts(of: name, after: ".claim~") {
            destination = Claim(id: id, key: key, folder: folder).path
        } else if let (id, key) = Self.parts(of: name, after: ".kept~") {
            destination = SpoolLayout.rejected.appending("\(id)~\(key)")
        } else {
            return
        }
        let path = SpoolLayout.drop(folder).appending(name)
        do throws(SpoolError) {
            try store.system.rename(path, to: destination)
        } catch  where !error.isFinal {
            logger.warning(
                "left where it is", metadata: ["path": "drop/\(folder)/\(DropName.key(name))", "error": "\(error)"])
        }
    }

    private static func parts(of name: SpoolPath.Name, after prefix: String) -> (id: JobID, key: String)? {
        guard name.string.hasPrefix(prefix) else { return nil }
        let parts = name.string.dropFirst(prefix.count).split(
            separator: "~", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let id = JobID(String(parts[0])), let key = SpoolPath.Name(String(parts[1])) else {
            return nil
        }
        // `DropName.key` wrote the rest, unless a stranger did: what could not come from it is made plain again.
        let isWritten =
            key.bytes.count <= 160
            && key.string.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "._-%".contains($0)) }
        return (id, isWritten ? key.string : DropName.key(key))
    }
}
