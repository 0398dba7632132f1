import Logging

/// Removes what the configuration says is old enough, each thing as a whole. It decides by file times and the wall
/// clock. So it runs only after the daemon has been up for an hour, by when a clock that was wrong at boot has been
/// set.
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
    /// - Returns: the names of data sets that are there no more.
    func run(subjects: [String: SubjectRecord], unfinished: [JobID]) -> [String] {
        if let age = limits.outputs {
            each("finished jobs", { () throws(SpoolError) in try jobs.list(.done) }) { (id) throws(SpoolError) in
                guard try isOld(SpoolLayout.job(id, .done), age) else { return }
                try store.removeTree(SpoolLayout.published(id))
                try remove(SpoolLayout.job(id, .done))
            }
        }
        if let age = limits.failed {
            for state in [JobState.failed, .quarantine] {
                each("\(state.rawValue) jobs", { () throws(SpoolError) in try jobs.list(state) }) {
                    (id) throws(SpoolError) in try removeIfOld(SpoolLayout.job(id, state), age)
                }
            }
        }
        for (folder, age) in [(SpoolLayout.receipts, limits.receipts), (SpoolLayout.rejected, limits.rejected)] {
            if let age { removeOld(in: folder, age) { _ in true } }
        }
        if let age = limits.unreferenced { removeUnreferenced(age, subjects, unfinished) }
        return removeDatasets(unfinished)
    }

    /// A data set goes with its name; one that another has taken the place of, once no job is bound to it.
    private func removeDatasets(_ unfinished: [JobID]) -> [String] {
        guard limits.datasets != nil || limits.unreferenced != nil else { return [] }
        var (names, digests) = (Set<String>(), Set<String>())
        for id in unfinished {
            guard let state = try? jobs.locate(id), !state.isFinal else { continue }
            // Nobody knows what a job needs whose record cannot be read, so nothing is removed.
            guard let job = try? jobs.load(id, state) else { return [] }
            if let dataset = job.record.dataset { digests.insert(dataset.digest) }
            if job.record.dataset == nil, let name = job.manifest.neededDataset { names.insert(name) }
        }
        var removed: [String] = []
        if let age = limits.datasets {
            each("data sets", { () throws(SpoolError) in try datasetNames() }) { (name) throws(SpoolError) in
                guard !names.contains(name), try isOld(SpoolLayout.dataset(name), age) else { return }
                // The record first: a name without files would promise what is not there.
                try store.system.unlink(SpoolLayout.dataset(name))
                removed.append(name)
                try store.syncDirectory(SpoolLayout.datasets)
                logger.info("removed, being old", metadata: ["path": "\(SpoolLayout.dataset(name))"])
            }
        }
        do throws(SpoolError) {
            for name in try datasetNames() {
                guard let record = try store.datasetRecord(name) else { return removed }
                digests.insert(record.digest)
            }
        } catch { return removed }
        let age = [limits.datasets, limits.unreferenced].compactMap(\.self).min() ?? 0
        removeOld(in: SpoolLayout.datasets, age) { Digest.isDigest($0.string) && !digests.contains($0.string) }
        return removed
    }

    private func datasetNames() throws(SpoolError) -> [String] {
        try store.system.list(SpoolLayout.datasets).compactMap(DatasetRecord.name)
    }

    /// Does something with each item of a list. An item that fails does not keep the others from it.
    private func each<Item: CustomStringConvertible>(
        _ what: String, _ list: () throws(SpoolError) -> [Item], _ body: (Item) throws(SpoolError) -> Void
    ) {
        do throws(SpoolError) {
            for item in try list() {
                do throws(SpoolError) {
                    try body(item)
                } catch {
                    logger.warning(
                        "not removed, though old",
                        metadata: ["what": "\(what)", "name": "\(item)", "error": "\(error)"])
                }
            }
        } catch {
            logger.warning("retention was cut short", metadata: ["what": "\(what)", "error": "\(error)"])
        }
    }

    private func isOld(_ path: SpoolPath, _ age: Double) throws(SpoolError) -> Bool {
        // The change time: that of the rename that brought it where it is.
        guard let status = try store.system.statusIfAny(path) else { return false }
        return wall - Double(status.changed) / 1e9 > age
    }

    private func removeIfOld(_ path: SpoolPath, _ age: Double) throws(SpoolError) {
        if try isOld(path, age) { try remove(path) }
    }

    private func remove(_ path: SpoolPath) throws(SpoolError) {
        try store.removeTree(path)
        logger.info("removed, being old", metadata: ["path": "\(path)"])
    }

    private func removeOld(in folder: SpoolPath, _ age: Double, where isWanted: (SpoolPath.Name) -> Bool) {
        each(
            folder.string,
            { () throws(SpoolError) in try store.system.list(folder).filter(isWanted).map(folder.appending) }
        ) {
            (path) throws(SpoolError) in try removeIfOld(path, age)
        }
    }

    private func removeUnreferenced(_ age: Double, _ subjects: [String: SubjectRecord], _ unfinished: [JobID]) {
        var references: Set<String> = []
        var caches: Set<String> = []
        for record in subjects.values {
            guard let current = record.current else { continue }
            references.insert(current.references)
            if case .ready(let cache) = current.state { caches.insert(cache) }
        }
        for id in unfinished {
            // Nobody knows what a job needs whose record cannot be read, so nothing is removed.
            guard let state = try? jobs.locate(id), !state.isFinal else { continue }
            guard let record = try? jobs.load(id, state).record else { return }
            if let initial = record.initialImage { references.insert(initial.references) }
            for binding in record.caches {
                references.insert(binding.references)
                if let cache = binding.cache { caches.insert(cache) }
            }
        }
        removeOld(in: SpoolLayout.references, age) { !references.contains($0.string) }
        removeOld(in: SpoolLayout.caches, age) { !caches.contains(ReferenceSet.stem($0.string)) }
    }
}
