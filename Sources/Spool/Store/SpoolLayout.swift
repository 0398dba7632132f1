/// Where everything is, relative to the spool's root.
public enum SpoolLayout {
    /// Version of the layout, the content of `lib/VERSION`.
    static let version = "2\n"

    static let receipts: SpoolPath = "receipts"
    static let out: SpoolPath = "out"
    static let cacheLinks: SpoolPath = "cache"
    static let statusFile: SpoolPath = "status.json"
    static let page: SpoolPath = "index.html"
    static let temporary: SpoolPath = "lib/tmp"
    static let references: SpoolPath = "lib/references"
    static let datasets: SpoolPath = "lib/datasets"
    static let caches: SpoolPath = "lib/cache"
    static let subjects: SpoolPath = "lib/subjects"
    static let keys: SpoolPath = "lib/keys"
    static let rejected: SpoolPath = "lib/rejected"
    static let claims: SpoolPath = "lib/claims"
    static let leftovers: SpoolPath = "lib/leftovers"
    static let trash: SpoolPath = "lib/trash"
    static let lock: SpoolPath = "lib/lock"
    static let versionFile: SpoolPath = "lib/VERSION"

    /// Every folder of a spool, parents first.
    public static var folders: [SpoolPath] {
        var folders: [SpoolPath] = [
            "drop", "drop/references", "drop/datasets", "drop/jobs", receipts, cacheLinks, out, "lib",
        ]
        folders += [temporary, references, datasets, caches, subjects, keys, rejected, leftovers, trash, claims]
        folders += DropFolder.allCases.map { claims($0) }
        folders += ["lib/jobs"] + JobState.allCases.map(\.folder)
        return folders
    }

    static func drop(_ folder: DropFolder) -> SpoolPath { SpoolPath("drop").appending(folder.rawValue) }
    static func claims(_ folder: DropFolder) -> SpoolPath { claims.appending(folder.rawValue) }
    static func job(_ id: JobID, _ state: JobState) -> SpoolPath { state.folder.appending(id.text) }
    static func published(_ id: JobID) -> SpoolPath { out.appending(id.text) }
    static func receipt(_ key: String) -> SpoolPath { receipts.appending(key + ".json") }
    static func referenceSet(_ digest: String) -> SpoolPath { references.appending(digest) }
    static func datasetFolder(_ digest: String) -> SpoolPath { datasets.appending(digest) }
    static func dataset(_ name: String) -> SpoolPath { datasets.appending(name + ".json") }
    static func cache(_ key: String) -> SpoolPath { caches.appending(key + ".dcache") }
    static func cutOuts(_ key: String) -> SpoolPath { caches.appending(key + ".cutouts") }
    static func subject(_ name: String) -> SpoolPath { subjects.appending(name + ".json") }
    static func cacheLink(_ subject: String) -> SpoolPath { cacheLinks.appending(subject + ".dcache") }
    static func cacheLinkTarget(_ key: String) -> String { "../\(cache(key))" }
    static func key(_ key: OwnedKey) -> SpoolPath { keys.appending(Digest.sha256("\(key.owner ?? 0)\n\(key.key)")) }

    /// The subject whose record has that name in `lib/subjects`, or nil when it is none's.
    static func subject(ofRecord name: SpoolPath.Name) -> String? {
        guard name.string.hasSuffix(".json") else { return nil }
        let subject = String(name.string.dropLast(5))
        return DropName.isPlain(subject) ? subject : nil
    }
}
