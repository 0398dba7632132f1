/// The queue, pure: what happened goes in, what to do comes out. It knows no file, no thread and no clock.
///
/// One piece of work is out at a time. At each pause between two pieces, which is also between two images of a job, the
/// machine chooses anew (`choose`).
public struct QueueMachine: Sendable {
    /// The configured numbers.
    public var limits: Limits
    /// The jobs that are not at their end.
    public internal(set) var jobs: [JobID: (entry: Entry, standing: Standing)] = [:]
    /// The subjects somebody has dropped.
    public internal(set) var subjects: [String: Subject] = [:]
    /// What the worker has.
    public internal(set) var work: Work?
    /// The job in `active`.
    public internal(set) var active: JobID?
    var mayStart = true
    var isStopping = false
    var hasExited = false
    private var cancelled: Set<JobID> = []
    var shares = OwnerShares()
    /// When the work at hand began, and whose it is.
    var workBegan = (moment: 0.0, owner: UInt32(0))
    /// Models that could not be used, by their names in manifests.
    var heldModels: [String: Hold] = [:]
    /// The machine's troubles in a row, of one job and of all; whatever succeeds ends them.
    private var troubles: [JobID: Int] = [:]
    private var troublesInARow = 0
    /// Set when they are so many that it cannot be the jobs.
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
        case .subject(let name, let subject): subjects[name] = subject
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
        // Arrivals come by the ten thousand; the tick that follows them chooses once for all.
        switch event {
        case .queued, .retrying, .subject, .checkpointed, .mayStart: break
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
            actions.append(.commit(done))
        case .job(let id, let step):
            guard var (entry, standing) = jobs[id], case .active(_, let before) = standing else { return }
            actions.append(.commit(done))
            switch step {
            // That a cache is there says nothing of the machine.
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
    private mutating func takeWork(_ now: Double) -> Work? {
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

    private func first(_ entry: Entry) -> Step {
        entry.caches == 0 || entry.point.images == entry.images ? afterCaches(entry) : .cache(0)
    }

    private mutating func failed(_ error: RendererError, _ now: Double, _ actions: inout [Action]) {
        guard let failed = takeWork(now) else { return }
        if case .environment(let message) = error { noteTrouble(message, now) }
        switch failed {
        case .encode(let subject): encodeFailed(subject, error, now, &actions)
        case .job(let id, let step): jobFailed(id, step, error, now, &actions)
        }
    }

    /// Three troubles in a row, whatever was tried: the machine is the cause, and everything waits for it.
    private mutating func noteTrouble(_ reason: String, _ now: Double) {
        troublesInARow += 1
        guard troublesInARow >= 3 else { return }
        heldMachine = Hold(
            failures: troublesInARow, until: now + troublePause(after: troublesInARow - 2), reason: reason)
    }

    private mutating func noteSuccess() {
        troublesInARow = 0
        heldMachine = nil
    }

    private mutating func encodeFailed(
        _ subject: String, _ error: RendererError, _ now: Double, _ actions: inout [Action]
    ) {
        guard let (_, owner, attempts) = subjects[subject]?.order else { return }
        let before = max(0, attempts - 1)
        func restore(_ next: Subject) {
            subjects[subject] = next
            actions.append(.restoreEncoding(subject, attempts: before))
        }
        switch error {
        case .rejected(let field, let message): reject(subject, Self.sentence(field, message), &actions)
        case .unavailable(let message):
            restore(.held(until: now + pause(after: attempts), owner: owner, attempts: before))
            actions.append(.holdSubject(subject, reason: message))
        case .environment(let message):
            restore(.pending(notBefore: now + limits.environmentPause, owner: owner, attempts: before))
            actions.append(.holdSubject(subject, reason: message))
        case .stopped: restore(.pending(notBefore: now, owner: owner, attempts: before))
        case .transient(let message), .changed(let message):
            guard attempts < limits.maximumAttempts else {
                return reject(subject, "\(attempts) attempts to encode it failed; the last: \(message)", &actions)
            }
            subjects[subject] = .pending(notBefore: now + pause(after: attempts), owner: owner, attempts: attempts)
            actions.append(.holdSubject(subject, reason: message))
        }
    }

    mutating func reject(_ subject: String, _ reason: String, _ actions: inout [Action]) {
        subjects[subject] = nil
        actions.append(.rejectSubject(subject, reason: reason))
    }

    private mutating func jobFailed(
        _ id: JobID, _ step: Step, _ error: RendererError, _ now: Double, _ actions: inout [Action]
    ) {
        guard let (entry, standing) = jobs[id], case .active(_, let before) = standing else { return }
        if cancelled.remove(id) != nil {
            return end(id, .fail(id, reason: Self.cancelReason), &actions)
        }
        if step == .grid, error != .stopped { return gridFailed(entry, before, error, now, &actions) }
        switch error {
        case .rejected(let field, let message): end(id, .fail(id, reason: Self.sentence(field, message)), &actions)
        case .unavailable(let message): holdModel(of: entry, message, now, &actions)
        case .transient(let message):
            // An attempt that got further counts as the first of its kind.
            let fruitless = entry.point > entry.attempts.mark ? 1 : entry.attempts.fruitless
            if fruitless >= limits.maximumAttempts {
                return end(
                    id, .quarantine(id, reason: "\(fruitless) attempts without progress; the last: \(message)"),
                    &actions)
            }
            active = nil
            jobs[id] = (entry, .retrying(until: now + pause(after: fruitless)))
            actions.append(.postpone(id, reason: message))
        case .environment(let message): hold(id, message, now, &actions)
        case .changed(let message): changed(id, message, now, &actions)
        case .stopped: release(id, now, &actions)
        }
    }

    /// A contact sheet is a convenience and never costs a set: what the machine refuses is tried again, twice; then, and
    /// after any other failure, the set goes without.
    private mutating func gridFailed(
        _ entry: Entry, _ before: JobRecord.Attempts, _ error: RendererError, _ now: Double,
        _ actions: inout [Action]
    ) {
        let message: String
        switch error {
        case .environment(let reason):
            if troubles[entry.id, default: 0] < 2 { return hold(entry.id, reason, now, &actions) }
            message = reason
        case .rejected(let field, let reason): message = Self.sentence(field, reason)
        case .unavailable(let reason), .transient(let reason), .changed(let reason): message = reason
        case .stopped: return
        }
        var entry = entry
        entry.isGridDone = true
        jobs[entry.id] = (entry, .active(next: .publish, before: before))
        actions.append(.skipGrid(entry.id, reason: message))
    }

    /// What the images of a set depend on has changed in its middle: it begins anew, or waits for its owner, as configured.
    private mutating func changed(_ id: JobID, _ reason: String, _ now: Double, _ actions: inout [Action]) {
        guard var (entry, standing) = jobs[id], case .active(_, let before) = standing else { return }
        switch limits.onModelChange {
        case .restart:
            entry.point = JobRecord.Mark()
            entry.attempts.mark = JobRecord.Mark()
            entry.isGridDone = false
            standing = .active(next: first(entry), before: before)
            jobs[id] = (entry, standing)
            actions.append(.restart(id, reason: reason))
        case .hold:
            troubles[id] = .max >> 1
            hold(id, reason, now, &actions)
        }
    }

    private static func sentence(_ field: String?, _ message: String) -> String {
        field.map { "\($0): \(message)" } ?? message
    }

    /// What a cancelled job's reason file says.
    public static let cancelReason = "cancelled"

    func pause(after attempts: Int) -> Double {
        min(limits.backoff * Double(1 << min(max(attempts - 1, 0), 20)), limits.maximumBackoff)
    }

    private func troublePause(after troubles: Int) -> Double {
        min(limits.environmentPause * Double(1 << min(max(troubles - 1, 0), 20)), limits.maximumBackoff)
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
    private mutating func hold(_ id: JobID, _ reason: String, _ now: Double, _ actions: inout [Action]) {
        let count = (troubles[id] ?? 0) &+ 1
        troubles[id] = count
        release(id, now, &actions)
        let until = now + troublePause(after: count)
        jobs[id]?.standing = .held(until: until, since: now, reason: reason)
        actions.append(.announceHold([id], reason: reason))
    }

    /// A model cannot be used: every job that names it waits, and one of them looks again after a while.
    private mutating func holdModel(of entry: Entry, _ reason: String, _ now: Double, _ actions: inout [Action]) {
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
        troublesInARow = 0
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
                let missing = missingSubjects(of: entry)
                guard !missing.isEmpty else { continue }
                let reason =
                    "\(Self.named(missing)) \(missing.count == 1 ? "was" : "were") not dropped within "
                    + "\(Int(limits.subjectLimit)) s"
                end(id, .fail(id, reason: reason), &actions)
            case .active: break
            }
        }
    }

    // MARK: - Beginning

    mutating func begin(_ chosen: Entry, _ actions: inout [Action]) {
        let next = chosen.attempts.begun(at: chosen.point)
        var entry = chosen
        entry.attempts = next
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
        workBegan = (now, owner)
        actions.append(.work(next))
    }
}
