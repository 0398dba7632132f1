/// The queue as a pure state machine: events go in, actions come out. It knows no file, no thread and no clock.
///
/// The worker has one piece of work at a time. After each piece, and so also between two images of a job, the machine
/// chooses what comes next (`choose`).
public struct QueueMachine: Sendable {
    /// The configured numbers.
    public var limits: Limits
    /// The jobs that are not at their end.
    public internal(set) var jobs: [JobID: (entry: Entry, standing: Standing)] = [:]
    /// The subjects somebody has dropped.
    public internal(set) var subjects: [String: Subject] = [:]
    /// The data sets somebody has dropped.
    public internal(set) var datasets: Set<String> = []
    /// What the worker has.
    public internal(set) var work: Work?
    /// The job in `active`.
    public internal(set) var active: JobID?
    /// Whether the worker was asked to put the work at hand aside.
    var isYielding = false
    var mayStart = true
    var isStopping = false
    var hasExited = false
    var cancelled: Set<JobID> = []
    var shares = OwnerShares()
    /// When the work at hand began, and whose it is.
    var workBegan = (moment: 0.0, owner: UInt32(0))
    /// Models that could not be used, by their names in manifests.
    var heldModels: [String: Hold] = [:]
    /// The machine's troubles in a row, of one job and of one subject's encoding.
    var troubles: [JobID: Int] = [:]
    var encodingTroubles: [String: EncodingTroubles] = [:]
    /// The machine's troubles since anything succeeded.
    var row = TroubleRow()
    /// How often anything succeeded.
    var successes = 0
    /// Set when so much was in trouble that none of it can be the cause.
    var heldMachine: Hold?

    /// An empty queue.
    public init(limits: Limits) { self.limits = limits }

    /// Takes an event in at a moment of the monotonic clock. Arrivals (`queued`, `retrying`, `subject`,
    /// `mayStart`) change what is known and start nothing; a `tick` follows them.
    public mutating func handle(_ event: Event, now: Double) -> [Action] {
        var actions: [Action] = []
        switch event {
        case .queued(let entry): jobs[entry.id] = (entry, .queued(since: now))
        case .retrying(let entry):
            jobs[entry.id] = (entry, .retrying(until: now + pause(after: entry.attempts.fruitless)))
        case .subject(let name, let subject):
            subjects[name] = subject
            encodingTroubles[name] = nil
        case .dataset(let name, let isThere):
            if isThere { datasets.insert(name) } else { datasets.remove(name) }
        case .worked: worked(now, &actions)
        case .checkpointed(let step): if let active { jobs[active]?.entry.point.step = step }
        case .failed(let error): failed(error, now, &actions)
        case .changed(let id, let reason):
            if case .job(id, _) = work { work = nil }
            changed(id, reason, now, &actions)
        case .storageFailed(let id): storageFailed(id, now)
        case .abandoned(let id):
            storageFailed(id, now)
            forget(id)
        case .settled(let id, let entry): settled(id, entry, now, &actions)
        case .cancel(let id): cancel(id, &actions)
        case .retryHeld: retryHeld(now)
        case .tick: tick(now, &actions)
        case .mayStart(let value): mayStart = value
        case .stop:
            if !isStopping, work != nil { actions.append(.interrupt) }
            isStopping = true
        }
        // Arrivals come by the ten thousand; the tick that follows them chooses once for all of them.
        switch event {
        case .queued, .retrying, .subject, .dataset, .checkpointed, .mayStart: break
        default: choose(now, &actions)
        }
        return actions
    }

    // MARK: - What the worker reports

    private mutating func worked(_ now: Double, _ actions: inout [Action]) {
        guard let done = takeWork(now) else { return }
        switch done {
        case .encode(let subject):
            noteSuccess()
            subjects[subject] = .ready
            encodingTroubles[subject] = nil
            actions.append(.commit(done))
        case .job(let id, let step):
            guard var (entry, standing) = jobs[id], case .active(_, let before) = standing else { return }
            actions.append(.commit(done))
            switch step {
            // A cache that is there already does not show that the machine works.
            case .cache, .publish: break
            case .image(let index):
                noteSuccess()
                troubles[id] = nil
                heldModels[entry.model] = nil
                entry.point = JobRecord.Mark(images: index + 1)
            case .grid: entry.isGridDone = true
            }
            standing = .active(next: following(step, entry), before: before)
            jobs[id] = (entry, standing)
            if cancelled.remove(id) != nil { end(id, .fail(id, reason: Self.cancelReason), &actions) }
        }
    }

    /// What the worker had; its time is counted to its owner.
    mutating func takeWork(_ now: Double) -> Work? {
        guard let done = work else { return nil }
        work = nil
        shares.add(now - workBegan.moment, to: workBegan.owner)
        return done
    }

    private func following(_ step: Step, _ entry: Entry) -> Step {
        if case .cache(let index) = step, index + 1 < entry.caches { return .cache(index + 1) }
        return afterCaches(entry)
    }

    private func afterCaches(_ entry: Entry) -> Step {
        if entry.point.images < entry.images { return .image(entry.point.images) }
        return entry.hasGrid && !entry.isGridDone ? .grid : .publish
    }

    func first(_ entry: Entry) -> Step {
        entry.caches == 0 || entry.point.images == entry.images ? afterCaches(entry) : .cache(0)
    }

    private mutating func noteSuccess() {
        successes += 1
        row = TroubleRow()
        heldMachine = nil
    }

    /// What a cancelled job's reason file says.
    public static let cancelReason = "cancelled"

    func pause(after attempts: Int) -> Double {
        min(limits.backoff * Double(1 << min(max(attempts - 1, 0), 20)), limits.maximumBackoff)
    }

    // MARK: - Back to the queue

    mutating func release(_ id: JobID, _ now: Double, _ actions: inout [Action]) {
        guard var (entry, standing) = jobs[id], case .active(_, let before) = standing else { return }
        entry.attempts = before
        standing = .queued(since: now)
        jobs[id] = (entry, standing)
        active = nil
        actions.append(.release(id, before))
    }

    /// The machine's trouble is not over at once: the job goes back to the queue, and is left alone for a while.
    mutating func hold(_ id: JobID, _ reason: String, _ now: Double, _ actions: inout [Action]) {
        let count = (troubles[id] ?? 0) &+ 1
        troubles[id] = count
        release(id, now, &actions)
        let until = now + troublePause(after: count)
        jobs[id]?.standing = .held(until: until, since: now, reason: reason)
        actions.append(.announceHold([id], reason: reason))
    }

    /// A model cannot be used: every job that names it waits, and one of them looks again after a while.
    mutating func holdModel(of entry: Entry, _ reason: String, _ now: Double, _ actions: inout [Action]) {
        let previous = heldModels[entry.model]
        let failures = (previous?.failures ?? 0) + 1
        heldModels[entry.model] = Hold(failures: failures, until: now + pause(after: failures), reason: reason)
        release(entry.id, now, &actions)
        var waiting = [entry.id]
        if previous?.reason != reason {
            waiting = jobs.values.compactMap { other, standing in
                if case .queued = standing, other.model == entry.model { other.id } else { nil }
            }
        }
        actions.append(.announceHold(waiting.sorted(), reason: reason))
    }

    private mutating func retryHeld(_ now: Double) {
        heldModels = [:]
        heldMachine = nil
        row = TroubleRow()
        encodingTroubles = [:]
        for (id, (_, standing)) in jobs {
            if case .held(_, let since, _) = standing {
                jobs[id]?.standing = .queued(since: since)
                troubles[id] = nil
            }
        }
        for (name, subject) in subjects {
            if case .held(_, let owner, let attempts) = subject {
                subjects[name] = .pending(notBefore: now, owner: owner, attempts: attempts)
            }
        }
    }

    mutating func end(_ id: JobID, _ action: Action, _ actions: inout [Action]) {
        forget(id)
        if active == id { active = nil }
        actions.append(action)
    }

    private mutating func forget(_ id: JobID) {
        jobs[id] = nil
        cancelled.remove(id)
        troubles[id] = nil
    }

    // MARK: - What others want

    private mutating func storageFailed(_ id: JobID, _ now: Double) {
        if case .job(id, _) = work { work = nil }
        if active == id { active = nil }
        guard var (entry, standing) = jobs[id] else { return }
        if case .active(_, let before) = standing { entry.attempts = before }
        standing = .unsettled(until: now + limits.environmentPause)
        jobs[id] = (entry, standing)
    }

    private mutating func settled(_ id: JobID, _ entry: Entry?, _ now: Double, _ actions: inout [Action]) {
        guard let entry else { return forget(id) }
        jobs[id] = (entry, .queued(since: now))
        if cancelled.contains(id) { end(id, .fail(id, reason: Self.cancelReason), &actions) }
    }

    private mutating func cancel(_ id: JobID, _ actions: inout [Action]) {
        guard let standing = jobs[id]?.standing else { return }
        switch standing {
        case .queued, .held, .retrying: end(id, .fail(id, reason: Self.cancelReason), &actions)
        case .unsettled: cancelled.insert(id)
        case .active:
            if case .job(id, _) = work {
                if cancelled.insert(id).inserted { actions.append(.interrupt) }
            } else {
                end(id, .fail(id, reason: Self.cancelReason), &actions)
            }
        }
    }

    private mutating func tick(_ now: Double, _ actions: inout [Action]) {
        let due = jobs.values.filter { _, standing in
            switch standing {
            case .retrying(let until), .unsettled(let until), .held(let until, _, _): until <= now
            case .queued(let since): now - since >= limits.subjectLimit
            case .active: false
            }
        }
        for (entry, standing) in due.sorted(by: { $0.entry.sequence < $1.entry.sequence }) {
            let id = entry.id
            switch standing {
            case .retrying:
                jobs[id] = (entry, .queued(since: now))
                actions.append(.ripen(id))
            case .unsettled:
                jobs[id] = (entry, .unsettled(until: now + limits.environmentPause))
                actions.append(.settle(id, entry.attempts))
            case .held(_, let since, _): jobs[id] = (entry, .queued(since: since))
            case .queued:
                guard let missing = missing(for: entry) else { continue }
                let reason =
                    "\(missing.what) \(missing.count == 1 ? "was" : "were") not dropped within "
                    + "\(Int(limits.subjectLimit)) s"
                end(id, .fail(id, reason: reason), &actions)
            case .active: break
            }
        }
        yieldIfDue(now, &actions)
    }

    // MARK: - Beginning

    mutating func begin(_ chosen: Entry, _ actions: inout [Action]) {
        let next = chosen.attempts.begun(at: chosen.point)
        var entry = chosen
        entry.attempts = next
        // It is bound to a data set from here on, whatever becomes of the name.
        entry.dataset = nil
        jobs[entry.id] = (entry, .active(next: first(entry), before: chosen.attempts))
        active = entry.id
        guard next.fruitless > limits.maximumAttempts else { return actions.append(.begin(entry.id, next)) }
        let reason = "\(chosen.attempts.fruitless) attempts without progress, the last of which ended the daemon"
        guard first(entry) == .grid else {
            return end(entry.id, .quarantine(entry.id, reason: reason), &actions)
        }
        // All images are there; only the contact sheet fails. The set goes without.
        entry.isGridDone = true
        jobs[entry.id] = (entry, .active(next: .publish, before: chosen.attempts))
        actions += [.begin(entry.id, next), .skipGrid(entry.id, reason: reason)]
    }

    mutating func proceed(_ id: JobID, _ now: Double, _ actions: inout [Action]) {
        guard let (entry, standing) = jobs[id], case .active(let step, _) = standing else { return }
        if step == .publish {
            end(id, .publish(id), &actions)
            return choose(now, &actions)
        }
        start(.job(id, step), of: entry.owner, now, &actions)
    }

    mutating func start(_ next: Work, of owner: UInt32, _ now: Double, _ actions: inout [Action]) {
        work = next
        isYielding = false
        workBegan = (now, owner)
        actions.append(.work(next))
    }
}
