/// Where everything is, relative to the spool's root.
public enum SpoolLayout {
    /// Version of the layout, the content of `lib/VERSION`.
    static let version = "1\n"

    static let receipts: SpoolPath = "receipts"
    static let out: SpoolPath = "out"
    static let cacheLinks: SpoolPath = "cache"
    static let statusFile: SpoolPath = "status.json"
    static let temporary: SpoolPath = "lib/tmp"
    static let references: SpoolPath = "lib/references"
    static let caches: SpoolPath = "lib/cache"
    static let subjects: SpoolPath = "lib/subjects"
    static let keys: SpoolPath = "lib/keys"
    static let rejected: SpoolPath = "lib/rejected"
    static let lock: SpoolPath = "lib/lock"
    static let versionFile: SpoolPath = "lib/VERSION"

    /// Every folder of a spool, parents first.
    public static var folders: [SpoolPath] {
        [
            "drop", "drop/references", "drop/jobs", receipts, cacheLinks, out, "lib", temporary, references, caches,
            subjects,
        ]
            + [keys, rejected, "lib/jobs"] + JobState.allCases.map(\.folder)
    }

    static func drop(_ folder: DropFolder) -> SpoolPath { SpoolPath("drop").appending(folder.rawValue) }
    static func job(_ id: JobID, _ state: JobState) -> SpoolPath { state.folder.appending(id.text) }
    static func published(_ id: JobID) -> SpoolPath { out.appending(id.text) }
    static func receipt(_ key: String) -> SpoolPath { receipts.appending(key + ".json") }
    static func referenceSet(_ digest: String) -> SpoolPath { references.appending(digest) }
    static func cache(_ key: String) -> SpoolPath { caches.appending(key + ".dcache") }
    static func cutOuts(_ key: String) -> SpoolPath { caches.appending(key + ".cutouts") }
    static func subject(_ name: String) -> SpoolPath { subjects.appending(name + ".json") }
    static func cacheLink(_ subject: String) -> SpoolPath { cacheLinks.appending(subject + ".dcache") }
}

/// The states of a job; its state is the folder it is in.
public enum JobState: String, Sendable, CaseIterable {
    /// Accepted, waiting for its turn or for its subject.
    case queued
    /// Being worked on.
    case active
    /// Failed for now; tried again after a pause.
    case retry
    /// Its set is in `out/`.
    case done
    /// It cannot be done, or was cancelled.
    case failed
    /// It failed too often, or its folder is damaged.
    case quarantine

    var folder: SpoolPath { SpoolPath("lib/jobs").appending(rawValue) }

    /// Whether nothing more happens by itself.
    public var isFinal: Bool { self == .done || self == .failed || self == .quarantine }
}

/// A job's name, also the name of its set under `out/`: the time of acceptance and sixteen random digits.
public struct JobID: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The id as written.
    public let text: String

    /// An id from its text, or nil when the text is no plain name.
    public init?(_ text: String) {
        guard DropName.isPlain(text) else { return nil }
        self.text = text
    }

    init(wall: Double, random: UInt64) {
        // 64 bits: of fifty thousand drops in one second no two may get the same, or one would be taken for the other.
        let hex = String(random, radix: 16)
        text = Timestamp(wall).compact + "-" + String(repeating: "0", count: 16 - hex.count) + hex
    }

    /// The id as written.
    public var description: String { text }

    /// The second of acceptance, as the id begins.
    var second: Substring { text.prefix(15) }

    /// By text, hence roughly by time.
    public static func < (a: JobID, b: JobID) -> Bool { a.text < b.text }
}
