import Logging
import SystemPackage

/// What the machine decides, carried out: each action a durable transition, or put off when the storage refuses it.
extension SpoolLoop {
    /// Gives the machine an event and carries out what it answers.
    func feed(_ event: QueueMachine.Event) throws(SpoolError) {
        var failed: Set<JobID> = []
        for action in machine.handle(event, now: now) {
            if let id = action.job, failed.contains(id) { continue }
            do throws(SpoolError) {
                try perform(action)
            } catch {
                guard !error.isFinal else { throw error }
                logger.error(
                    "a transition failed", metadata: ["job": "\(action.job?.text ?? "")", "error": "\(error)"])
                if let id = action.job { failed.insert(id) }
                try absorb(error, of: action)
            }
        }
    }

    /// Deals with a transition the storage, or a damaged folder, did not allow.
    func absorb(_ error: SpoolError, of action: QueueMachine.Action) throws(SpoolError) {
        if let id = action.job, error.code == .damaged || error.errno == .noSuchFileOrDirectory {
            if current?.id == id { current = nil }
            deferred.append(.quarantine(id, reason: error.description))
            nextDeferred = now
            return try feed(.abandoned(id))
        }
        switch action {
        case .fail, .quarantine, .publish:
            deferred.append(action)
            nextDeferred = now + configuration.environmentPause
        case .begin(let id, _), .release(let id, _), .postpone(let id, _), .ripen(let id), .settle(let id, _),
            .work(.job(let id, _)), .commit(.job(let id, _)):
            if current?.id == id { current = nil }
            try feed(.storageFailed(id))
            // The machine may have counted on this to succeed and let the job go, as to its publication.
            if machine.jobs[id] == nil {
                deferred.append(.settle(id, attemptsBefore))
                nextDeferred = now + configuration.environmentPause
            }
        case .work(.encode):
            let isLasting = error.code == .damaged || error.errno == .noSuchFileOrDirectory
            let message = error.description
            try feed(.failed(isLasting ? .rejected(field: nil, message: message) : .environment(message: message)))
        case .commit(.encode(let subject)), .rejectSubject(let subject, _), .holdSubject(let subject, _):
            _ = machine.handle(.subject(subject, .pending(notBefore: now + configuration.environmentPause)), now: now)
        case .interrupt, .exit: break
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
                deferred.append(action)
            }
        }
    }

    func perform(_ action: QueueMachine.Action) throws(SpoolError) {
        switch action {
        case .begin(let id, let attempts): try begin(id, attempts)
        case .work(let work): try assign(work)
        case .commit(let work): try commit(work)
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
        if job.record.isAnnouncedAsWaiting, var receipt = try receipts.read(job.record.drop), receipt.id == id {
            receipt.state = .accepted
            receipt.message = "started"
            receipt.time = stamp
            try receipts.write(receipt)
        }
        job.record.isAnnouncedAsWaiting = false
        try jobs.save(job, .queued)
        try jobs.move(id, from: .queued, to: .active)
        current = job
        status.jobBegan(job, now: now)
        logger.info(
            "job started",
            metadata: ["job": "\(id)", "attempt": "\(attempts.total)", "images_done": "\(job.record.images.count)"])
    }

    func publish(_ id: JobID) throws(SpoolError) {
        let job: Job
        if let current, current.id == id { job = current } else { job = try jobs.load(id, .active) }
        try jobs.publish(job, time: stamp)
        try jobs.move(id, from: .active, to: .done)
        if current?.id == id { current = nil }
        status.jobEnded(job, .done, self)
        try answerCancel(of: id, "it was done first")
        logger.info("set published", metadata: ["job": "\(id)", "images": "\(job.record.images.count)"])
    }

    func end(_ id: JobID, _ state: JobState, _ reason: String) throws(SpoolError) {
        guard let from = try jobs.locate(id) else { return }
        if !from.isFinal { try jobs.end(id, from: from, to: state, reason: reason, time: stamp) }
        if let job = current, job.id == id {
            status.jobEnded(job, state, self)
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
    func settle(_ id: JobID, _ attempts: JobRecord.Attempts) throws(SpoolError) {
        guard let state = try jobs.locate(id), !state.isFinal else {
            return try feed(.settled(id, nil))
        }
        var job = try jobs.load(id, state)
        if try jobs.isPublished(job, state) {
            try jobs.move(id, from: state, to: .done)
            return try feed(.settled(id, nil))
        }
        job.record.attempts = attempts
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
        case .begin(let id, _), .publish(let id), .release(let id, _), .postpone(let id, _), .ripen(let id),
            .fail(let id, _), .quarantine(let id, _), .settle(let id, _), .work(.job(let id, _)),
            .commit(.job(let id, _)):
            id
        case .work(.encode), .commit(.encode), .rejectSubject, .holdSubject, .interrupt, .exit: nil
        }
    }
}
