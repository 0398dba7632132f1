import SystemPackage

/// Jobs in every state, and their sets.
extension Verification {
    mutating func checkJobs() throws(SpoolError) {
        for state in JobState.furthestFirst {
            try each(in: state.folder) { (check, name, path) throws(SpoolError) in
                guard let id = JobID(name.string) else {
                    return check.error(
                        .stray, path, "found a name that is no job id",
                        .setAside(path, as: "\(state.rawValue)~\(DropName.key(name))"))
                }
                if let other = check.known[id] {
                    return check.error(
                        .jobTwin, path, "the job is in '\(other.state.rawValue)' too, expected one state")
                }
                check.known[id] = JobFacts(state: state)
                try check.checkJob(id, state)
            }
        }
    }

    private mutating func checkJob(_ id: JobID, _ state: JobState) throws(SpoolError) {
        let folder = SpoolLayout.job(id, state)
        try checkFiles(of: folder, state)
        let job: Job
        do throws(SpoolError) {
            job = try jobs.load(id, state)
        } catch  where error.tellsOfDamage {
            // It moved while being looked at, unless it is still there.
            guard try store.system.statusIfAny(folder) != nil else { return known[id] = nil }
            known[id]?.idempotencyKey = jobs.idempotencyKey(id, state)
            return try foundDamage(id, state, error)
        }
        known[id]?.record = job.record
        known[id]?.idempotencyKey = job.manifest.idempotencyKey
        try checkInitialImage(job, state)
        try checkReason(job, state)
        let out = SpoolLayout.published(id)
        let set = folder.appending(JobStore.setFolder)
        let isOut = try store.system.statusIfAny(out) != nil
        switch state {
        case .done:
            if try store.system.statusIfAny(set) != nil {
                error(.setMisplaced, set, "found a set in a finished job", .setAside(set, as: "set~\(id)"))
            }
            guard isOut else { return note(.setTaken, out, "the set was taken away") }
            try checkSet(job, state, at: out)
            try checkResult(job, at: out)
        case _ where isOut && !state.isFinal && !jobs.isOwn(published: id):
            note(.setUnknown, out, "found something that is not the daemon's; it will step aside for the job's set")
            try checkSet(job, state, at: set)
        case .active where isOut:
            note(.jobUnfinished, folder, "published, not finished; the next start finishes it")
        default:
            if isOut, state != .quarantine { error(.setMisplaced, out, "found a set of a job in '\(state.rawValue)'") }
            try checkSet(job, state, at: set)
        }
    }

    /// A job whose manifest or record is not what was written. An unfinished one goes to quarantine at the next start.
    private mutating func foundDamage(_ id: JobID, _ state: JobState, _ fault: SpoolError) throws(SpoolError) {
        let folder = SpoolLayout.job(id, state)
        let message = fault.description
        let quarantine = Remedy.end(id, from: state, to: .quarantine, reason: message)
        switch state {
        case .quarantine:
            note(.jobDamaged, folder, message)
            if try store.system.status(folder).kind == .folder { try checkReason(id, state, lastError: nil) }
        case .queued, .active, .retry:
            // A daemon waits for what it may not read.
            error(.jobDamaged, folder, message, fault.code == .damaged ? nil : quarantine)
        case .done where jobs.isRebuildable(id): error(.jobDamaged, folder, message, .rebuild(id))
        case .done, .failed: error(.jobDamaged, folder, message, quarantine)
        }
    }

    private static let jobFiles: Set<String> = [
        JobStore.manifestFile, JobStore.recordFile, JobStore.setFolder, JobStore.reasonFile, JobStore.progressFile,
        ImagePages.folderName, CheckpointFile.name, JobManifest.trainingFolder,
    ]

    /// What lies beside manifest and record.
    private mutating func checkFiles(of folder: SpoolPath, _ state: JobState) throws(SpoolError) {
        try each(in: folder) { (check, name, path) throws(SpoolError) in
            switch name.string {
            case JobStore.progressFile: try check.checkInforming(path)
            case JobStore.reasonFile where !state.isFinal || state == .done: try check.checkInforming(path)
            case CheckpointFile.name:
                if CheckpointFile((try? check.store.system.read(path, limit: 1 << 30)) ?? []) == nil {
                    check.note(
                        .checkpointDamaged, path, "it is not what was written; its image begins anew", .remove(path))
                }
            case let known where Self.jobFiles.contains(known): break
            default:
                check.error(
                    .stray, path, "found a name that no job's folder has",
                    .setAside(path, as: "file~\(DropName.key(name))"))
            }
        }
    }

    private mutating func checkInitialImage(_ job: Job, _ state: JobState) throws(SpoolError) {
        guard !state.isFinal, let initial = job.record.initialImage else { return }
        let path = SpoolLayout.referenceSet(initial.references).appending(initial.file)
        guard try digest(path)?.sha256 != initial.sha256 else { return }
        error(
            .initialImageDamaged, path, "it is not the picture job \(job.id) begins with",
            .end(job.id, from: state, to: .failed, reason: Recovery.initialImageReason))
    }

    private mutating func checkReason(_ job: Job, _ state: JobState) throws(SpoolError) {
        guard state == .failed || state == .quarantine else { return }
        try checkReason(job.id, state, lastError: job.record.lastError)
    }

    private mutating func checkReason(_ id: JobID, _ state: JobState, lastError: String?) throws(SpoolError) {
        let path = SpoolLayout.job(id, state).appending(JobStore.reasonFile)
        if let reason = try document(path), reason.isIntact, reason["reason"]?.string != nil { return }
        let words = "the reason was lost" + (lastError.map { "; what last failed: \($0)" } ?? "")
        error(.reasonDamaged, path, "it does not say why the job ended", .writeReason(id, state, reason: words))
    }

    // MARK: - Sets

    private mutating func checkSet(_ job: Job, _ state: JobState, at folder: SpoolPath) throws(SpoolError) {
        // What a finished set has lost nobody can make again without its owner; an unfinished job's images are.
        let remedy: Remedy? = state == .done ? nil : .mend(job.id, state)
        let images = job.record.images + [job.record.grid, job.record.page].compactMap(\.self)
        for file in images.flatMap(\.files) {
            let path = folder.appending(file.name)
            try attempt(path) { (check) throws(SpoolError) in
                guard try check.store.system.statusIfAny(path)?.kind == .regular else {
                    return check.error(
                        .imageMissing, path, "found no file, expected the image the record names", remedy)
                }
                guard let digest = try check.digest(path) else {
                    let aside = Remedy.setAside(path, as: "image~\(file.name.replacing("/", with: "~"))")
                    return check.error(
                        .imageDamaged, path, "it cannot be read", state == .done ? nil : aside)
                }
                if digest != (file.sha256, file.bytes) {
                    check.error(.imageDamaged, path, "its SHA-256 is not the recorded one", remedy)
                }
            }
        }
        let known = Set(images.flatMap(\.files).map(\.name) + (state == .done ? [JobStore.resultFile] : []))
        guard let status = try store.system.statusIfAny(folder) else { return }
        guard status.kind == .folder else {
            return error(.imageDamaged, folder, "found no folder, expected the job's images", remedy)
        }
        guard state == .done || !isDaemonRunning else { return }
        let hasCandidates = known.contains { $0.hasPrefix("\(Selection.folder)/") }
        try checkNames(in: folder, known.union(hasCandidates ? [Selection.folder] : []), state, remedy)
        guard hasCandidates else { return }
        try checkNames(
            in: folder.appending(Selection.folder),
            Set(known.compactMap { $0.split(separator: "/").dropFirst().last.map(String.init) }), state, remedy)
    }

    private mutating func checkNames(
        in folder: SpoolPath, _ known: Set<String>, _ state: JobState, _ remedy: Remedy?
    ) throws(SpoolError) {
        try each(in: folder) { (check, name, path) throws(SpoolError) in
            guard !known.contains(name.string) else { return }
            if state == .done {
                check.error(.fileUnlisted, path, "found a file that result.json does not list")
            } else {
                check.note(.fileUnlisted, path, "found a file the record does not name; it is removed", remedy)
            }
        }
    }

    private mutating func checkResult(_ job: Job, at folder: SpoolPath) throws(SpoolError) {
        if job.record.images.count != job.manifest.imageCount {
            error(
                .setIncomplete, folder,
                "found \(job.record.images.count) images, expected \(job.manifest.imageCount)",
                jobs.isRebuildable(job.id) ? .rebuild(job.id) : nil)
        }
        let path = folder.appending(JobStore.resultFile)
        let manifest = try store.readJSON(SpoolLayout.job(job.id, .done).appending(JobStore.manifestFile))
        let expected = jobs.result(job, manifest: manifest, time: "")
        // Earlier versions wrote less; what stands there must be true.
        let found = try document(path)?.members ?? []
        let isTrue = found.allSatisfy { $0.name == "finished" || expected[$0.name] == $0.value }
        guard isTrue, ["job", "images", "manifest"].allSatisfy({ name in found.contains { $0.name == name } }) else {
            return error(.resultDamaged, path, "it does not describe this set")
        }
    }

    mutating func checkOut() throws(SpoolError) {
        try each(in: SpoolLayout.out) { (check, name, path) throws(SpoolError) in
            if JobID(name.string).flatMap({ check.known[$0] }) == nil {
                check.note(.setUnknown, path, "no job of this id is known any more")
            }
        }
    }
}
