/// Something that `Verification` found.
public struct Finding: Sendable, Equatable, CustomStringConvertible {
    /// How bad it is.
    public enum Level: String, Sendable {
        /// The spool contradicts itself.
        case error
        /// Worth knowing; a user or an unfinished start-up explains it, or nothing but information is lost.
        case note
    }

    /// What it is, for scripts; a kind keeps its name.
    public enum Kind: String, Sendable, CaseIterable {
        /// A folder of the layout is not there.
        case folderMissing = "folder_missing"
        /// A folder of the layout is no folder, or on another file system.
        case folderUnusable = "folder_unusable"
        /// `lib/VERSION` names no layout, or another.
        case version
        /// `lib/lock` is no file.
        case lock
        /// The machine, or a permission, does not let it be read.
        case unreadable
        /// A name the spool did not make.
        case stray
        /// What the next start removes.
        case leftOver = "left_over"
        /// A drop the next start goes on with.
        case claimed
        /// The record of a drop that could not be moved cannot be read.
        case leftoverDamaged = "leftover_damaged"
        /// A job is in two states.
        case jobTwin = "job_twin"
        /// A job's manifest or record is not what was written.
        case jobDamaged = "job_damaged"
        /// A job is published and not finished; the next start finishes it.
        case jobUnfinished = "job_unfinished"
        /// A file that only informs cannot be read: `status.json`, `progress.json`.
        case informing
        /// A checkpoint is not what was written; the image begins anew.
        case checkpointDamaged = "checkpoint_damaged"
        /// Why a job ended cannot be read.
        case reasonDamaged = "reason_damaged"
        /// The picture a job begins with is not what was dropped.
        case initialImageDamaged = "initial_image_damaged"
        /// An image of a set is not there.
        case imageMissing = "image_missing"
        /// An image of a set is not what was rendered.
        case imageDamaged = "image_damaged"
        /// A set has fewer images than its manifest asks for.
        case setIncomplete = "set_incomplete"
        /// `result.json` does not describe its set.
        case resultDamaged = "result_damaged"
        /// A file in a set that nothing lists.
        case fileUnlisted = "file_unlisted"
        /// A set is where it should not be.
        case setMisplaced = "set_misplaced"
        /// A finished set was taken away.
        case setTaken = "set_taken"
        /// No job of this id is known any more.
        case setUnknown = "set_unknown"
        /// A subject's record is not what was written.
        case subjectDamaged = "subject_damaged"
        /// The list of a set of references is not what was written.
        case referenceListDamaged = "reference_list_damaged"
        /// A reference is not what was ingested.
        case referenceDamaged = "reference_damaged"
        /// A reference, or a whole set, is not there.
        case referenceMissing = "reference_missing"
        /// Nobody names a set of references.
        case referencesUnused = "references_unused"
        /// A data set, or its record, is not what was ingested.
        case datasetDamaged = "dataset_damaged"
        /// Nobody names a data set.
        case datasetUnused = "dataset_unused"
        /// A `.dcache` is not what was encoded.
        case cacheDamaged = "cache_damaged"
        /// A subject's `.dcache` is not there.
        case cacheMissing = "cache_missing"
        /// No subject uses a `.dcache`.
        case cacheUnused = "cache_unused"
        /// A link in `cache/` does not lead to its subject's `.dcache`.
        case linkDamaged = "link_damaged"
        /// A link in `cache/` is of no subject.
        case linkUnused = "link_unused"
        /// The file of an idempotency key does not name its job.
        case keyDamaged = "key_damaged"
        /// A job's idempotency key has no file.
        case keyMissing = "key_missing"
        /// The job a key names is gone.
        case keyUnused = "key_unused"
        /// A receipt cannot be read.
        case receiptDamaged = "receipt_damaged"
        /// A job or subject has no receipt.
        case receiptMissing = "receipt_missing"
        /// A receipt says that something waits which does not.
        case receiptStale = "receipt_stale"
        /// What a receipt names is gone.
        case receiptOrphaned = "receipt_orphaned"
    }

    /// How bad it is.
    public let level: Level
    /// What it is.
    public let kind: Kind
    /// Where, relative to the spool.
    public let path: String
    /// What, in a sentence.
    public let message: String
    /// What repairing does about it, beyond what every start-up does.
    let remedy: Remedy?

    /// One line for people.
    public var description: String { "\(level.rawValue): \(path): \(message)" }

    /// The finding for programs.
    public var json: JSON {
        .object([
            "level": .string(level.rawValue), "kind": .string(kind.rawValue), "path": .string(path),
            "message": .string(message),
        ])
    }

    init(_ level: Level, _ kind: Kind, _ path: SpoolPath, _ message: String, _ remedy: Remedy? = nil) {
        self.level = level
        self.kind = kind
        self.path = Self.printable(path.string)
        self.message = Self.printable(message)
        self.remedy = remedy
    }

    /// Two findings are the same whatever would be done about them.
    public static func == (a: Finding, b: Finding) -> Bool {
        a.level == b.level && a.kind == b.kind && a.path == b.path && a.message == b.message
    }

    /// Text that changes nothing on a terminal: names are users' own, and may hold anything.
    static func printable(_ text: String) -> String {
        var out = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator:
                out.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
            default: out.append(scalar)
            }
        }
        return String(out)
    }
}

/// What repairing does about a finding. All of it is what the daemon does too, sooner or later.
enum Remedy: Sendable {
    /// It goes; it informs only, or is made again.
    case remove(SpoolPath)
    /// It goes to `lib/rejected`, being somebody's.
    case setAside(SpoolPath, as: String)
    /// A finished job's record is written anew from its set.
    case rebuild(JobID)
    /// A job that cannot be read, or not be done, goes to where it ends.
    case end(JobID, from: JobState, to: JobState, reason: String)
    /// The record of a job that ended is brought into agreement with its set.
    case mend(JobID, JobState)
    /// The reason a job ended for is written anew.
    case writeReason(JobID, JobState, reason: String)
    /// A set's list is written anew from its files.
    case writeList(ReferenceSet)
    /// A subject's current references are encoded again.
    case encodeAgain(subject: String)
    /// A generation of a subject cannot be encoded any more.
    case reject(subject: String, generation: Int, reason: String)
    /// A subject's link is made anew.
    case link(subject: String, cache: String)
    /// A key's file is written anew.
    case writeKey(SpoolPath, JobID)
    /// Receipts are written anew.
    case writeReceipts([Receipt])
}
