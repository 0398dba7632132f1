import Logging
import SystemPackage

/// Carries out what the machine decides. Each action is a durable transition; one that the storage refuses is put off.
extension SpoolLoop {
    /// Gives the machine an event and carries out what it answers.
    func feed(_ event: QueueMachine.Event) throws(SpoolError) {
        var failed: Set<String> = []
        for action in machine.handle(event, now: now) {
            if failed.contains(action.concern) { continue }
            do throws(SpoolError) {
                try perform(action)
            } catch {
                guard !error.isFinal else { throw error }
                logger.error("a transition failed", metadata: ["job": "\(action.concern)", "error": "\(error)"])
                failed.insert(action.concern)
                try absorb(error, of: action)
            }
        }
    }

    /// Deals with a transition the storage, or a damaged folder, did not allow.
    func absorb(_ error: SpoolError, of action: QueueMachine.Action) throws(SpoolError) {
        if case .announceHold = action { return }
        if let id = action.job, let reason = changes.removeValue(forKey: id) {
            return try feed(.changed(id, reason: reason))
        }
        if let id = action.job, error.code == .damaged || error.isLayoutGone {
            // A folder of the layout may be gone; the job is not to blame for that.
            if error.isLayoutGone, healLayout() { return try putOff(action, error) }
            if current?.id == id { current = nil }
            deferred.append(.quarantine(id, reason: error.description))
            nextDeferred = now
            return try feed(.abandoned(id))
        }
        try putOff(action, error)
    }

    private func putOff(_ action: QueueMachine.Action, _ error: SpoolError) throws(SpoolError) {
        switch action {
        case .fail, .quarantine, .publish:
            deferred.append(action)
            nextDeferred = now + configuration.environmentPause
        case .begin(let id, _), .release(let id, _), .restart(let id, _), .skipGrid(let id, _), .postpone(let id, _),
            .ripen(let id), .settle(let id, _), .work(.job(let id, _)), .commit(.job(let id, _)):
            if current?.id == id { current = nil }
            try feed(.storageFailed(id))
            // The machine lets a job go as soon as it asks for its publication. Where that fails, the job is brought
            // back.
            if machine.jobs[id] == nil {
                deferred.append(.settle(id, attemptsBefore))
                nextDeferred = now + configuration.environmentPause
            }
        case .beginEncoding: try feed(.failed(.environment(message: error.description)))
        case .work(.encode):
            let isLasting = error.code == .damaged || error.errno == .noSuchFileOrDirectory
            let message = error.description
            try feed(.failed(isLasting ? .rejected(field: nil, message: message) : .environment(message: message)))
        case .commit(.encode(let subject)), .rejectSubject(let subject, _), .holdSubject(let subject, _):
            guard let generation = subjects[subject]?.current else { return }
            let later = now + configuration.environmentPause
            let pending = QueueMachine.Subject.pending(
                notBefore: later, owner: generation.owner, attempts: max(0, generation.attempts - 1))
            _ = machine.handle(.subject(subject, pending), now: now)
        // A count that could not be put back is put right by the next one.
        case .restoreEncoding, .announceHold, .interrupt, .yield, .exit: break
        }
    }

    func isDeferred(_ id: JobID) -> Bool { deferred.contains { $0.job == id } }

    func retryDeferred() throws(SpoolError) {
        let actions = deferred
        deferred = []
        nextDeferred = now + configuration.environmentPause
        for action in actions {
            do throws(SpoolError) {
                try perform(action)
            } catch {
                guard !error.isFinal else { throw error }
                // Damage does not go away by waiting, unless it keeps a job from its quarantine.
                var isLasting = error.code == .damaged
                if case .quarantine = action { isLasting = false }
                if isLasting { try absorb(error, of: action) } else { deferred.append(action) }
            }
        }
    }

    func perform(_ action: QueueMachine.Action) throws(SpoolError) {
        switch action {
        case .begin(let id, let attempts): try begin(id, attempts)
        case .work(let work): try assign(work)
        case .commit(let work): try commit(work)
        case .beginEncoding(let subject, let attempts), .restoreEncoding(let subject, let attempts):
            try countEncoding(subject, attempts)
        case .skipGrid(let id, let reason):
            guard var job = current, job.id == id else { return }
            if needsGrid(job) { job.record.gridError = reason }
            if needsPage(job) { job.record.pageError = reason }
            try jobs.save(job, .active)
            current = job
            logger.warning("no contact sheet and no page", metadata: ["job": "\(id)", "reason": "\(reason)"])
        case .restart(let id, let reason):
            guard var job = current, job.id == id else { return }
            job.record.attempts.mark = .init()
            try jobs.restart(&job, because: reason)
            current = job
            logger.notice("the set begins anew", metadata: ["job": "\(id)", "reason": "\(reason)"])
        case .announceHold(let ids, let reason): try announceHold(ids, reason)
        case .publish(let id): try publish(id)
        case .release(let id, let attempts):
            guard var job = current else { return }
            if job.record.attempts != attempts {
                job.record.attempts = attempts
                try jobs.save(job, .active)
            }
            try jobs.move(id, from: .active, to: .queued)
            current = nil
            logger.info("job put back", metadata: ["job": "\(id)"])
        case .postpone(let id, let reason):
            if let job = current { try jobs.save(job, .active) }
            try jobs.move(id, from: .active, to: .retry)
            current = nil
            logger.warning("job will be tried again", metadata: ["job": "\(id)", "reason": "\(reason)"])
        case .ripen(let id): try jobs.move(id, from: .retry, to: .queued)
        case .fail(let id, let reason): try end(id, .failed, reason)
        case .quarantine(let id, let reason): try end(id, .quarantine, reason)
        case .rejectSubject(let subject, let reason): try rejectSubject(subject, reason)
        case .holdSubject(let subject, let reason): try holdSubject(subject, reason)
        case .settle(let id, let attempts): try settle(id, attempts)
        case .interrupt: workerState.stop()
        case .yield: workerState.yield()
        case .exit: hasExited = true
        }
    }

    func begin(_ id: JobID, _ attempts: JobRecord.Attempts) throws(SpoolError) {
        var job = try jobs.load(id, .queued)
        attemptsBefore = job.record.attempts
        job.record.attempts = attempts
        if job.record.caches.isEmpty {
            for subject in job.manifest.subjects {
                guard let references = subjects[subject.name]?.current?.references else {
                    throw SpoolError(.unknown, operation: "begin", path: subject.name)
                }
                job.record.caches.append(.init(subject: subject.name, references: references, cache: nil))
            }
        }
        if let initial = job.manifest.initialImage, job.record.initialImage == nil {
            guard let references = subjects[initial.subject]?.current?.references else {
                throw SpoolError(.unknown, operation: "begin", path: initial.subject)
            }
            job.record.initialImage = try store.referenceSet(references).initialImage(subject: initial.subject)
        }
        if let name = job.manifest.neededDataset, job.record.dataset == nil {
            guard let record = datasets[name] else { throw SpoolError(.unknown, operation: "begin", path: name) }
            job.record.dataset = JobRecord.Dataset(name: name, digest: record.digest)
        }
        let receipt = try receipts.read(job.record.drop)
        if receipt == nil || receipt?.id == id && receipt?.state == .waiting {
            try receipts.write(self.receipt(of: job, .accepted, "started", after: receipt))
        }
        try jobs.save(job, .queued)
        try jobs.move(id, from: .queued, to: .active)
        current = job
        status.jobBegan()
        logger.info(
            "job started",
            metadata: ["job": "\(id)", "attempt": "\(attempts.total)", "images_done": "\(job.record.images.count)"])
    }

    /// The receipt of a job's drop in another state. What was noted of the manifest stays.
    private func receipt(
        of job: Job, _ state: Receipt.State, _ message: String, after known: Receipt?
    ) -> Receipt {
        var receipt = Receipt(
            drop: job.record.drop, kind: .job, state: state, id: job.id, message: message, time: stamp)
        receipt.notes = known?.notes ?? renderer.notes(on: job.manifest)
        return receipt
    }

    /// Tells the droppers of jobs, by their receipts, that these wait for the machine and why.
    private func announceHold(_ ids: [JobID], _ reason: String) throws(SpoolError) {
        logger.warning(
            "jobs are held", metadata: ["jobs": "\(ids.count)", "reason": "\(reason)"])
        var held: [Receipt] = []
        for id in ids {
            guard let job = try jobs.loadIfSound(id, .queued) else { continue }
            let known = try receipts.read(job.record.drop)
            guard known == nil || known?.id == id else { continue }
            held.append(receipt(of: job, .waiting, "held: \(reason)", after: known))
        }
        try receipts.write(held)
    }

    /// Records how often the encoding of a subject was begun.
    private func countEncoding(_ subject: String, _ attempts: Int) throws(SpoolError) {
        guard var record = subjects[subject], let index = record.generations.lastIndex(where: { !$0.isRejected }),
            record.generations[index].attempts != attempts
        else { return }
        record.generations[index].attempts = attempts
        try store.publish(record.json, at: SpoolLayout.subject(subject), replacing: true)
        subjects[subject] = record
    }

    func publish(_ id: JobID) throws(SpoolError) {
        let job: Job
        if let current, current.id == id { job = current } else { job = try jobs.load(id, .active) }
        if let moved = try jobs.publish(job, time: stamp) {
            logger.warning("something lay in a set's place", metadata: ["job": "\(id)", "now": "\(moved)"])
        }
        try jobs.finish(job, from: .active)
        if current?.id == id { current = nil }
        status.jobEnded(job, .done, stamp: stamp)
        pages.finished(id)
        try answerCancel(of: id, "it was done first")
        logger.info("set published", metadata: ["job": "\(id)", "images": "\(job.record.images.count)"])
    }

    func end(_ id: JobID, _ state: JobState, _ reason: String) throws(SpoolError) {
        guard let from = try jobs.locate(id) else { return }
        if !from.isFinal { try jobs.end(id, from: from, to: state, reason: reason, time: stamp) }
        pages.failuresChanged()
        if let job = current, job.id == id {
            status.jobEnded(job, state, stamp: stamp)
            current = nil
        }
        logger.error("job ended", metadata: ["job": "\(id)", "state": "\(state.rawValue)", "reason": "\(reason)"])
        try answerCancel(of: id, "cancelled")
    }

    func answerCancel(of id: JobID, _ message: String) throws(SpoolError) {
        guard let claim = pendingCancels[id] else { return }
        try receipts.answer([(claim, receipts.make(claim, .request, .accepted, id: id, message: message))])
        pendingCancels[id] = nil
    }

    /// Brings a job whose transition failed half-way to where it belongs, wherever it stands.
    func settle(_ id: JobID, _ attempts: JobRecord.Attempts?) throws(SpoolError) {
        guard let state = try jobs.locate(id), !state.isFinal else {
            return try feed(.settled(id, nil))
        }
        var job = try jobs.load(id, state)
        if try jobs.isPublished(job, state) {
            try jobs.finish(job, from: state)
            pages.finished(id)
            return try feed(.settled(id, nil))
        }
        if let attempts { job.record.attempts = attempts }
        try jobs.save(job, state)
        try jobs.mend(&job, state)
        if state != .queued { try jobs.move(id, from: state, to: .queued) }
        try feed(.settled(id, entry(job, .queued)))
    }
}

extension QueueMachine.Action {
    /// The job an action is about.
    var job: JobID? {
        switch self {
        case .begin(let id, _), .publish(let id), .release(let id, _), .restart(let id, _), .skipGrid(let id, _),
            .postpone(let id, _), .ripen(let id), .fail(let id, _), .quarantine(let id, _), .settle(let id, _),
            .work(.job(let id, _)), .commit(.job(let id, _)):
            id
        case .beginEncoding, .restoreEncoding, .work(.encode), .commit(.encode), .rejectSubject, .holdSubject,
            .announceHold, .interrupt, .yield, .exit:
            nil
        }
    }

    /// What an action is about. When one fails, later ones about the same thing are left out.
    var concern: String {
        switch self {
        case .beginEncoding(let subject, _), .restoreEncoding(let subject, _), .work(.encode(let subject)),
            .commit(.encode(let subject)), .rejectSubject(let subject, _), .holdSubject(let subject, _):
            "subject \(subject)"
        default: job?.text ?? ""
        }
    }
}

extension SpoolError {
    /// Whether a file or folder that must be there is not.
    var isLayoutGone: Bool { errno == .noSuchFileOrDirectory || errno == .notDirectory }
}
