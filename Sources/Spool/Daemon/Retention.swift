import Logging

/// Removes what the configuration says is old enough, each thing as a whole. It decides by file times and the wall clock,
/// and so runs only when the daemon has been up for an hour, when a clock that was wrong at boot has been set.
struct Retention {
    let store: DurableStore
    let jobs: JobStore
    let limits: SpoolConfiguration.Retention
    /// Seconds since 1970.
    let wall: Double
    let logger: Logger

    /// Removes; what fails is left for the next time.
    ///
    /// - Parameters:
    ///   - subjects: the subjects, whose references and caches stay.
    ///   - unfinished: the jobs whose references and caches stay.
    func run(subjects: [String: SubjectRecord], unfinished: [JobID]) {
        do throws(SpoolError) {
            if let age = limits.outputs {
                for id in try jobs.list(.done) where try isOld(SpoolLayout.job(id, .done), age) {
                    try store.removeTree(SpoolLayout.published(id))
                    try remove(SpoolLayout.job(id, .done))
                }
            }
            if let age = limits.failed {
                for state in [JobState.failed, .quarantine] {
                    for id in try jobs.list(state) where try isOld(SpoolLayout.job(id, state), age) {
                        try remove(SpoolLayout.job(id, state))
                    }
                }
            }
            if let age = limits.receipts { try removeOld(in: SpoolLayout.receipts, age) }
            if let age = limits.rejected { try removeOld(in: SpoolLayout.rejected, age) }
            if let age = limits.unreferenced { try removeUnreferenced(age, subjects, unfinished) }
        } catch {
            logger.warning("retention was cut short", metadata: ["error": "\(error)"])
        }
    }

    private func isOld(_ path: SpoolPath, _ age: Double) throws(SpoolError) -> Bool {
        // The change time: that of the rename that brought it where it is.
        guard let status = try store.system.statusIfAny(path) else { return false }
        return wall - Double(status.changed) / 1e9 > age
    }

    private func remove(_ path: SpoolPath) throws(SpoolError) {
        try store.removeTree(path)
        logger.info("removed, being old", metadata: ["path": "\(path)"])
    }

    private func removeOld(in folder: SpoolPath, _ age: Double) throws(SpoolError) {
        for name in try store.system.list(folder) where try isOld(folder.appending(name), age) {
            try remove(folder.appending(name))
        }
    }

    private func removeUnreferenced(
        _ age: Double, _ subjects: [String: SubjectRecord], _ unfinished: [JobID]
    ) throws(SpoolError) {
        var references: Set<String> = []
        var caches: Set<String> = []
        for record in subjects.values {
            guard let current = record.current else { continue }
            references.insert(current.references)
            if case .ready(let cache) = current.state { caches.insert(cache) }
        }
        for id in unfinished {
            guard let state = try jobs.locate(id), !state.isFinal else { continue }
            let record = try jobs.load(id, state).record
            if let initial = record.initialImage { references.insert(initial.references) }
            for binding in record.caches {
                references.insert(binding.references)
                if let cache = binding.cache { caches.insert(cache) }
            }
        }
        for name in try store.system.list(SpoolLayout.references) where !references.contains(name.string) {
            let path = SpoolLayout.references.appending(name)
            if try isOld(path, age) { try remove(path) }
        }
        for name in try store.system.list(SpoolLayout.caches) where !caches.contains(ReferenceSet.stem(name.string)) {
            let path = SpoolLayout.caches.appending(name)
            if try isOld(path, age) { try remove(path) }
        }
    }
}
