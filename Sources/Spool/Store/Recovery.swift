import Logging

/// What a start-up does before anything new: brings the spool from whatever state it was left in to a consistent one.
///
/// Every step is idempotent, so that a crash during recovery is recovered from like any other.
struct Recovery {
    let store: DurableStore
    let jobs: JobStore
    let logger: Logger
    let time: String

    struct Found {
        var queued: [Job] = []
        var retrying: [Job] = []
        var subjects: [String: SubjectRecord] = [:]
        var nextSequence = 1
    }

    /// Makes what is missing of the layout, takes the lock, checks version and file system, clears `lib/tmp`.
    static func open(_ store: DurableStore) throws(SpoolError) -> SystemCalls.Lock {
        let system = store.system
        for folder in SpoolLayout.folders where try system.statusIfAny(folder) == nil {
            try store.ensureDirectory(folder)
        }
        guard let lock = try system.lock(SpoolLayout.lock) else {
            throw SpoolError(.locked, operation: "lock", path: SpoolLayout.lock.string)
        }
        let home = try system.status(SpoolLayout.temporary).device
        for folder in SpoolLayout.folders {
            let status = try system.status(folder)
            guard status.kind == .folder else {
                throw SpoolError(.badLayout, operation: "check", path: folder.string, detail: "expected a folder")
            }
            guard status.device == home else {
                throw SpoolError(
                    .badLayout, operation: "check", path: folder.string,
                    detail:
                        "found another file system, expected that of \(SpoolLayout.temporary): drops are taken by renaming"
                )
            }
        }
        for name in try system.list(SpoolLayout.temporary) { try store.clear(SpoolLayout.temporary.appending(name)) }
        if try system.statusIfAny(SpoolLayout.versionFile) == nil {
            try store.publish(Array(SpoolLayout.version.utf8), at: SpoolLayout.versionFile, replacing: true)
        }
        let version = String(decoding: try system.read(SpoolLayout.versionFile, limit: 64), as: UTF8.self)
        guard version == SpoolLayout.version else {
            throw SpoolError(
                .badLayout, operation: "check", path: SpoolLayout.versionFile.string,
                detail:
                    "found version \(version.split(separator: "\n").first ?? ""), expected \(SpoolLayout.version.dropLast())"
            )
        }
        return lock
    }

    /// Verifies every unfinished job, finishes what was published, quarantines what cannot be read.
    func run() throws(SpoolError) -> Found {
        var found = Found()
        for id in try jobs.list(.active) {
            guard var job = try load(id, .active) else { continue }
            if try jobs.isPublished(job, .active) {
                // The crash came between publishing and finishing: no rendering again.
                try jobs.move(id, from: .active, to: .done)
                logger.notice("finished a published job", metadata: ["job": "\(id)"])
                continue
            }
            try jobs.mend(&job, .active)
            try jobs.move(id, from: .active, to: .queued)
            logger.notice(
                "job resumed", metadata: ["job": "\(id)", "images_done": "\(job.record.images.count)"])
        }
        for (state, path) in [(JobState.queued, \Found.queued), (.retry, \Found.retrying)] {
            for id in try jobs.list(state) {
                guard var job = try load(id, state) else { continue }
                if try jobs.isPublished(job, state) {
                    try jobs.move(id, from: state, to: .done)
                    continue
                }
                try jobs.mend(&job, state)
                found[keyPath: path].append(job)
                found.nextSequence = max(found.nextSequence, job.record.sequence + 1)
            }
        }
        for name in try store.system.list(SpoolLayout.subjects) {
            if let record = try loadSubject(name) { found.subjects[record.name] = record }
        }
        return found
    }

    private func load(_ id: JobID, _ state: JobState) throws(SpoolError) -> Job? {
        do throws(SpoolError) {
            return try jobs.load(id, state)
        } catch  where error.code == .damaged {
            logger.error("job quarantined", metadata: ["job": "\(id)", "reason": "\(error)"])
            try jobs.end(id, from: state, to: .quarantine, reason: error.description, time: time)
            return nil
        }
    }

    private func loadSubject(_ name: SpoolPath.Name) throws(SpoolError) -> SubjectRecord? {
        let path = SpoolLayout.subjects.appending(name)
        do throws(SpoolError) {
            if let record = SubjectRecord(try store.readJSON(path)), record.name + ".json" == name.string {
                return record
            }
            throw SpoolError(.damaged, operation: "read", path: path.string)
        } catch  where error.code == .damaged {
            // Out of the way, so that the next drop of the subject begins a new record; kept, since it is somebody's.
            logger.error("subject record set aside", metadata: ["subject": "\(name.string)", "reason": "\(error)"])
            try store.move(
                path, to: SpoolLayout.rejected.appending("subject~\(Digest.sha256(time).prefix(8))~\(name.string)"))
            return nil
        }
    }
}
