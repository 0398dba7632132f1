import Logging
import SystemPackage

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
        /// Jobs that the machine does not let be read now, with the attempts they had.
        var unreadable: [(id: JobID, attempts: JobRecord.Attempts?)] = []
        var subjects: [String: SubjectRecord] = [:]
        var nextSequence = 1
    }

    /// Makes what is missing of the layout, takes the lock, checks version and file system, clears `lib/tmp`.
    ///
    /// - Throws: for what makes the whole spool unusable, and nothing else.
    static func open(_ store: DurableStore, _ jobs: JobStore, _ logger: Logger) throws(SpoolError) -> SystemCalls.Lock {
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
        for folder in [SpoolLayout.temporary, SpoolLayout.trash] {
            for name in try system.list(folder) { try clear(folder.appending(name), store, logger) }
        }
        if try system.statusIfAny(SpoolLayout.versionFile) == nil {
            try store.publish(Array(SpoolLayout.version.utf8), at: SpoolLayout.versionFile, replacing: true)
        }
        let version = String(decoding: try system.read(SpoolLayout.versionFile, limit: 64), as: UTF8.self)
        if version == Upgrade.from {
            try Upgrade(store: store, jobs: jobs, logger: logger).run()
            try store.publish(Array(SpoolLayout.version.utf8), at: SpoolLayout.versionFile, replacing: true)
        } else if version != SpoolLayout.version {
            throw SpoolError(
                .badLayout, operation: "check", path: SpoolLayout.versionFile.string,
                detail:
                    "found version \(version.split(separator: "\n").first ?? ""), expected \(SpoolLayout.version.dropLast())"
            )
        }
        return lock
    }

    /// Removes what an earlier daemon has left; what cannot be removed stays, and harms nobody.
    private static func clear(_ path: SpoolPath, _ store: DurableStore, _ logger: Logger) throws(SpoolError) {
        do throws(SpoolError) {
            try store.clear(path)
        } catch  where !error.isFinal {
            logger.warning("what was left over cannot be removed", metadata: ["path": "\(path)", "error": "\(error)"])
        }
    }

    /// Verifies every unfinished job, finishes what was published, quarantines what cannot be understood, and puts off what
    /// the machine does not let be read. No job keeps another from being recovered.
    func run() throws(SpoolError) -> Found {
        var found = Found()
        try removeTwins()
        for id in try jobs.list(.active) {
            try each(id, .active, &found) { (job, _) throws(SpoolError) in
                try jobs.move(id, from: .active, to: .queued)
                logger.notice(
                    "job resumed", metadata: ["job": "\(id)", "images_done": "\(job.record.images.count)"])
            }
        }
        for (state, path) in [(JobState.queued, \Found.queued), (.retry, \Found.retrying)] {
            for id in try jobs.list(state) {
                try each(id, state, &found) { (job, found) throws(SpoolError) in
                    found[keyPath: path].append(job)
                    found.nextSequence = max(found.nextSequence, job.record.sequence + 1)
                }
            }
        }
        for name in try store.system.list(SpoolLayout.subjects) {
            do throws(SpoolError) {
                guard name.string.hasSuffix(".json"), DropName.isPlain(String(name.string.dropLast(5))) else {
                    try store.setAside(SpoolLayout.subjects.appending(name), as: "subject~\(DropName.key(name))")
                    continue
                }
                let subject = String(name.string.dropLast(5))
                if let record = try store.subjectSettingAsideDamage(subject, logger) {
                    found.subjects[subject] = record
                }
            } catch  where !error.isFinal {
                logger.error("a subject cannot be read", metadata: ["path": "\(name.string)", "error": "\(error)"])
            }
        }
        return found
    }

    /// Brings one job up to date and hands it on.
    private func each(
        _ id: JobID, _ state: JobState, _ found: inout Found, _ body: (Job, inout Found) throws(SpoolError) -> Void
    ) throws(SpoolError) {
        var attempts: JobRecord.Attempts?
        do throws(SpoolError) {
            guard var job = try load(id, state) else { return }
            attempts = job.record.attempts
            if try jobs.isPublished(job, state) {
                // The crash came between publishing and finishing: no rendering again.
                try jobs.move(id, from: state, to: .done)
                return logger.notice("finished a published job", metadata: ["job": "\(id)"])
            }
            try jobs.mend(&job, state)
            try body(job, &found)
        } catch  where !error.isFinal {
            logger.error("a job cannot be recovered yet", metadata: ["job": "\(id)", "error": "\(error)"])
            found.unreadable.append((id, attempts))
        }
    }

    /// No crash puts a job into two states, but somebody's `cp -r` may: the one that is further on stays.
    private func removeTwins() throws(SpoolError) {
        var seen: Set<JobID> = []
        for state in [JobState.done, .failed, .quarantine, .active, .retry, .queued] {
            for id in try jobs.list(state) where !seen.insert(id).inserted {
                logger.error(
                    "a second folder of one job was set aside", metadata: ["job": "\(id)", "state": "\(state)"])
                try store.setAside(SpoolLayout.job(id, state), as: "\(state.rawValue)~\(id)")
            }
        }
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
}
