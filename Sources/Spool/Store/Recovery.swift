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
        var datasets: [String: DatasetRecord] = [:]
        var nextSequence = 1
    }

    /// Makes what is missing of the layout, takes the lock, checks version and file system, clears `lib/tmp`.
    ///
    /// - Throws: for what makes the whole spool unusable, and nothing else.
    static func open(_ store: DurableStore, _ jobs: JobStore, _ logger: Logger) throws(SpoolError) -> SystemCalls.Lock {
        let system = store.system
        for folder in SpoolLayout.folders where try system.statusIfAny(folder) == nil {
            // What is below a file is looked after once the spool is this daemon's.
            do throws(SpoolError) { try store.ensureDirectory(folder) } catch  where error.errno == .notDirectory {}
        }
        // Only a folder is removed. A file might be the lock that another daemon holds.
        if try system.statusIfAny(SpoolLayout.lock)?.kind == .folder { try system.removeDirectory(SpoolLayout.lock) }
        guard let lock = try system.lock(SpoolLayout.lock) else {
            throw SpoolError(.locked, operation: "lock", path: SpoolLayout.lock.string)
        }
        for folder in SpoolLayout.folders where try !store.ensureFolder(folder) {
            logger.warning("a folder of the spool is made anew", metadata: ["folder": "\(folder)"])
        }
        let home = try system.status(SpoolLayout.temporary).device
        for folder in SpoolLayout.folders {
            guard try system.status(folder).device == home else {
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
        let version = SpoolLayout.versionFile
        switch try LayoutVersion(system) {
        case .current: break
        case .before, .none:
            // Where no version can be read, everything of the layout before is looked for; mostly there is nothing.
            try Upgrade(store: store, jobs: jobs, logger: logger).run()
            try store.publish(Array(SpoolLayout.version.utf8), at: version, replacing: true)
        case .foreign(let found):
            throw SpoolError(
                .badLayout, operation: "check", path: version.string,
                detail: "found version \(found), expected \(SpoolLayout.version.dropLast())")
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
        var lost: Set<String> = []
        for name in try store.system.list(SpoolLayout.subjects) {
            do throws(SpoolError) {
                guard let subject = SpoolLayout.subject(ofRecord: name) else {
                    try store.setAside(SpoolLayout.subjects.appending(name), as: "subject~\(DropName.key(name))")
                    continue
                }
                if let record = try store.subjectSettingAsideDamage(subject, logger) {
                    found.subjects[subject] = record
                } else {
                    lost.insert(subject)
                }
            } catch  where !error.isFinal {
                logger.error("a subject cannot be read", metadata: ["path": "\(name.string)", "error": "\(error)"])
            }
        }
        if !lost.isEmpty { try answer(lost) }
        try readDatasets(&found)
        return found
    }

    /// Data sets by their records; one that cannot be understood is moved out of the way. What was not whole when the daemon ended is
    /// copied anew.
    private func readDatasets(_ found: inout Found) throws(SpoolError) {
        for name in try store.system.list(SpoolLayout.datasets) where !Digest.isDigest(name.string) {
            let path = SpoolLayout.datasets.appending(name)
            do throws(SpoolError) {
                if name.string.hasSuffix(DatasetCopy.suffix) {
                    try store.removeTree(path)
                } else if let record = try DatasetRecord.name(ofRecord: name).flatMap({ (name) throws(SpoolError) in
                    try store.datasetRecord(name)
                }) {
                    found.datasets[record.name] = record
                } else {
                    logger.error("a data set's record was set aside", metadata: ["path": "\(path)"])
                    try store.setAside(path, as: "dataset~\(DropName.key(name))")
                }
            } catch  where !error.isFinal {
                logger.error("a data set cannot be read", metadata: ["path": "\(path)", "error": "\(error)"])
            }
        }
    }

    /// Tells those whose references wait in vain, since the record of their subject is lost.
    private func answer(_ lost: Set<String>) throws(SpoolError) {
        for name in try store.system.list(SpoolLayout.receipts) {
            let path = SpoolLayout.receipts.appending(name)
            guard let receipt = (try? store.readJSON(path)).flatMap(Receipt.init), receipt.kind == .references,
                receipt.state == .waiting, let subject = receipt.subject, lost.contains(subject)
            else { continue }
            do throws(SpoolError) {
                try store.publish(receipt.refusedForWantOfRecord(time: time).json, at: path, replacing: true)
            } catch  where !error.isFinal {
                logger.error("a receipt was not written", metadata: ["path": "\(path)", "error": "\(error)"])
            }
        }
    }

    static let initialImageReason = "$.init_image: the picture was damaged in the spool; drop it and the manifest again"

    /// Brings one job up to date and hands it on.
    private func each(
        _ id: JobID, _ state: JobState, _ found: inout Found, _ body: (Job, inout Found) throws(SpoolError) -> Void
    ) throws(SpoolError) {
        var attempts: JobRecord.Attempts?
        do throws(SpoolError) {
            guard var job = try load(id, state) else { return }
            attempts = job.record.attempts
            if let initial = job.record.initialImage, try !store.isSound(initial) {
                return try jobs.end(id, from: state, to: .failed, reason: Self.initialImageReason, time: time)
            }
            if try jobs.isPublished(job, state) {
                // The crash came between publishing and finishing: no rendering again.
                try jobs.finish(job, from: state)
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
        for state in JobState.furthestFirst {
            for id in try jobs.list(state) where !seen.insert(id).inserted {
                logger.error(
                    "a second folder of one job was set aside", metadata: ["job": "\(id)", "state": "\(state)"])
                try store.setAside(SpoolLayout.job(id, state), as: "\(state.rawValue)~\(id)")
            }
        }
    }

    private func load(_ id: JobID, _ state: JobState) throws(SpoolError) -> Job? {
        do throws(SpoolError) {
            var job = try readForgettingDamage(id, state)
            if !job.isRendered, let images = jobs.publishedImages(id), images.count == job.manifest.imageCount {
                // The set is out; what was known of it here is not.
                try ImagePages(store, of: SpoolLayout.job(id, state)).replace(images)
                job.record.images = images
            }
            return job
        } catch  where error.code == .damaged {
            logger.error("job quarantined", metadata: ["job": "\(id)", "reason": "\(error)"])
            try jobs.end(id, from: state, to: .quarantine, reason: error.description, time: time)
            return nil
        }
    }

    /// Reads a job. Where the records of its images are damaged, they are forgotten: images can be made again.
    private func readForgettingDamage(_ id: JobID, _ state: JobState) throws(SpoolError) -> Job {
        do throws(SpoolError) {
            return try jobs.load(id, state)
        } catch  where error.code == .damaged {
            let job = try jobs.load(id, state, withImages: false)
            logger.error(
                "what was known of a job's images was damaged", metadata: ["job": "\(id)", "error": "\(error)"])
            try store.removeTree(ImagePages(store, of: SpoolLayout.job(id, state)).folder)
            return job
        }
    }
}
