/// The oracle: whether every accepted manifest is in exactly one state, `out/` holds a set if and only if it was
/// published, every hash matches, nothing is unlisted and nothing is left over.
public struct Verification {
    /// Something found.
    public struct Finding: Sendable, Equatable, CustomStringConvertible {
        /// How bad it is.
        public enum Level: String, Sendable {
            /// The spool contradicts itself.
            case error
            /// Worth knowing; a user or an unfinished start-up explains it.
            case note
        }
        /// How bad it is.
        public let level: Level
        /// Where, relative to the spool.
        public let path: String
        /// What.
        public let message: String
        /// One line for people.
        public var description: String { "\(level.rawValue): \(path): \(message)" }
    }

    let store: DurableStore
    let jobs: JobStore

    private struct Findings {
        var all: [Finding] = []
        mutating func error(_ path: SpoolPath, _ message: String) {
            all.append(Finding(level: .error, path: path.string, message: message))
        }
        mutating func note(_ path: SpoolPath, _ message: String) {
            all.append(Finding(level: .note, path: path.string, message: message))
        }
    }

    func run(isDaemonRunning: Bool) throws(SpoolError) -> [Finding] {
        var findings = Findings()
        for folder in SpoolLayout.folders where try store.system.statusIfAny(folder)?.kind != .folder {
            findings.error(folder, "found no folder, expected one")
        }
        guard findings.all.isEmpty else { return findings.all }
        let states = try checkJobs(&findings)
        try checkOut(states, isDaemonRunning, &findings)
        try checkSubjects(&findings)
        try checkReceipts(states, &findings)
        if !isDaemonRunning {
            for name in try store.system.list(SpoolLayout.temporary) {
                findings.note(SpoolLayout.temporary.appending(name), "left over; the next start removes it")
            }
            for folder in DropFolder.allCases {
                for name in try store.system.list(SpoolLayout.claims(folder)) {
                    findings.note(SpoolLayout.claims(folder).appending(name), "claimed; the next start goes on with it")
                }
            }
        }
        return findings.all
    }

    private func checkJobs(_ findings: inout Findings) throws(SpoolError) -> [JobID: JobState] {
        var states: [JobID: JobState] = [:]
        for state in JobState.allCases {
            for name in try store.system.list(state.folder) {
                let path = state.folder.appending(name)
                guard let id = JobID(name.string) else {
                    findings.error(path, "found a name that is no job id")
                    continue
                }
                if let other = states.updateValue(state, forKey: id) {
                    findings.error(path, "the job is in '\(other.rawValue)' too, expected one state")
                }
                if state != .quarantine { try checkJob(id, state, &findings) }
            }
        }
        return states
    }

    private func checkJob(_ id: JobID, _ state: JobState, _ findings: inout Findings) throws(SpoolError) {
        let folder = SpoolLayout.job(id, state)
        let job: Job
        do throws(SpoolError) {
            job = try jobs.load(id, state)
        } catch  where error.code == .damaged {
            // It moved while being looked at, unless it is still there.
            if try store.system.statusIfAny(folder) != nil { findings.error(folder, error.description) }
            return
        }
        if !state.isFinal, let initial = job.record.initialImage {
            let picture = SpoolLayout.referenceSet(initial.references).appending(initial.file)
            let isThere = try store.system.statusIfAny(picture) != nil
            if isThere ? try store.digest(of: picture).sha256 != initial.sha256 : true {
                findings.error(picture, "it is not the picture job \(id) begins with")
            }
        }
        let out = SpoolLayout.published(id)
        let set = folder.appending(JobStore.setFolder)
        let isOut = try store.system.statusIfAny(out) != nil
        switch state {
        case .done:
            if try store.system.statusIfAny(set) != nil { findings.error(set, "found a set in a finished job") }
            guard isOut else { return findings.note(out, "the set was taken away") }
            try checkSet(job, at: out, isComplete: true, &findings)
        case .active where isOut: findings.note(folder, "published, not finished; the next start finishes it")
        default:
            if isOut { findings.error(out, "found a set of a job in '\(state.rawValue)'") }
            try checkSet(job, at: set, isComplete: false, &findings)
        }
    }

    private func checkSet(
        _ job: Job, at folder: SpoolPath, isComplete: Bool, _ findings: inout Findings
    ) throws(SpoolError) {
        let images = job.record.images + (job.record.grid.map { [$0] } ?? [])
        for image in images {
            let path = folder.appending(image.file)
            guard let status = try store.system.statusIfAny(path), status.kind == .regular else {
                findings.error(path, "found no file, expected the image the record names")
                continue
            }
            if try store.digest(of: path) != (image.sha256, image.bytes) {
                findings.error(path, "its SHA-256 is not the recorded one")
            }
        }
        guard isComplete else { return }
        if job.record.images.count != job.manifest.imageCount {
            findings.error(folder, "found \(job.record.images.count) images, expected \(job.manifest.imageCount)")
        }
        let path = folder.appending(JobStore.resultFile)
        if try store.system.statusIfAny(path) == nil {
            findings.error(path, "found no file, expected the set's description")
        } else {
            let result = try store.readJSON(path)
            if result["images"] != JSON.array(job.record.images.map(\.json)) || result["job"]?.string != job.id.text {
                findings.error(path, "it does not describe this set")
            }
        }
        let known = Set(images.map(\.file) + [JobStore.resultFile])
        for name in try store.system.list(folder) where !known.contains(name.string) {
            findings.error(folder.appending(name), "found a file that result.json does not list")
        }
    }

    private func checkOut(
        _ states: [JobID: JobState], _ isDaemonRunning: Bool, _ findings: inout Findings
    ) throws(SpoolError) {
        for name in try store.system.list(SpoolLayout.out) {
            let state = JobID(name.string).flatMap { states[$0] }
            if state == nil { findings.note(SpoolLayout.out.appending(name), "no job of this id is known any more") }
        }
    }

    private func checkSubjects(_ findings: inout Findings) throws(SpoolError) {
        for name in try store.system.list(SpoolLayout.subjects) {
            let path = SpoolLayout.subjects.appending(name)
            guard let record = SubjectRecord(try store.readJSON(path)) else {
                findings.error(path, "it is not a subject's record")
                continue
            }
            guard let current = record.current else { continue }
            try checkReferences(SpoolLayout.referenceSet(current.references), &findings)
            if case .ready(let key) = current.state, try store.system.statusIfAny(SpoolLayout.cache(key)) == nil {
                findings.error(SpoolLayout.cache(key), "found no file, expected the cache of subject '\(record.name)'")
            }
        }
    }

    private func checkReferences(_ folder: SpoolPath, _ findings: inout Findings) throws(SpoolError) {
        let list = folder.appending(ReferenceSet.listFile)
        guard try store.system.statusIfAny(list) != nil, let set = ReferenceSet(try store.readJSON(list)) else {
            return findings.error(list, "found no list of references, expected one")
        }
        for file in set.files {
            let path = folder.appending(file.name)
            guard try store.system.statusIfAny(path) != nil, try store.digest(of: path).sha256 == file.sha256 else {
                findings.error(path, "it is not the file that was ingested")
                continue
            }
        }
    }

    private func checkReceipts(_ states: [JobID: JobState], _ findings: inout Findings) throws(SpoolError) {
        for name in try store.system.list(SpoolLayout.receipts) {
            let path = SpoolLayout.receipts.appending(name)
            guard let receipt = Receipt(try store.readJSON(path)) else {
                findings.error(path, "it is not a receipt")
                continue
            }
            if receipt.kind == .job, receipt.state != .rejected, states[receipt.id] == nil {
                findings.note(path, "the job it names is gone")
            }
            if receipt.state == .rejected, let kept = receipt.keptAt,
                try store.system.statusIfAny(SpoolPath(kept)) == nil
            {
                findings.note(path, "what it says is kept at \(kept) is gone")
            }
        }
    }
}
