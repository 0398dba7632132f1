/// The queue, pure: what happened goes in, what to do comes out. It knows no file, no thread and no clock.
///
/// One piece of work is out at a time. At each pause between two pieces, which is also between two images of a job, the
/// machine chooses anew: references that want encoding first, then the most urgent job, the one at hand on a tie.
public struct QueueMachine: Sendable {
    /// What the machine knows of a job.
    public struct Entry: Sendable, Equatable {
        /// The job.
        public let id: JobID
        /// Order of acceptance.
        public let sequence: Int
        /// The manifest's priority.
        public let priority: Int
        /// Subjects it needs.
        public let subjects: [String]
        /// How many of them, from the first, it needs the cache of; of the rest the pictures will do.
        public let caches: Int
        /// Images in its set.
        public let images: Int
        /// Whether a contact sheet follows them.
        public let hasGrid: Bool
        /// Attempts so far.
        public var attempts: JobRecord.Attempts
        /// How far it is.
        public var point: JobRecord.Mark
        /// Whether the contact sheet is there already.
        public var isGridDone: Bool

        /// An entry.
        public init(
            id: JobID, sequence: Int, priority: Int = 0, subjects: [String], caches: Int? = nil, images: Int,
            hasGrid: Bool = false, attempts: JobRecord.Attempts = .init(), point: JobRecord.Mark = .init(),
            isGridDone: Bool = false
        ) {
            self.id = id
            self.sequence = sequence
            self.priority = priority
            self.subjects = subjects
            self.caches = caches ?? subjects.count
            self.images = images
            self.hasGrid = hasGrid
            self.attempts = attempts
            self.point = point
            self.isGridDone = isGridDone
        }
    }

    /// Where a job stands; each case owns what is true in it alone.
    public enum Standing: Sendable, Equatable {
        /// In `queued`, since a moment.
        case queued(since: Double)
        /// In `retry`, until a moment.
        case retrying(until: Double)
        /// In `active`, with what comes next and the attempts to go back to if this one is not to count.
        case active(next: Step, before: JobRecord.Attempts)
        /// Its folder could not be brought to where it belongs; tried again at a moment.
        case unsettled(until: Double)
    }

    /// A piece of a job's work.
    public enum Step: Sendable, Equatable {
        /// See that the cache of the n-th subject is there.
        case cache(Int)
        /// Render an image.
        case image(Int)
        /// Make the contact sheet.
        case grid
        /// Nothing is left but to publish.
        case publish
    }

    /// What is known of a subject.
    public enum Subject: Sendable, Equatable {
        /// To be encoded, not before a moment.
        case pending(notBefore: Double)
        /// It could not be encoded for want of a usable model; tried again at a moment. Jobs may find out for themselves.
        case held(until: Double)
        /// Encoded.
        case ready
    }

    /// What the one worker has.
    public enum Work: Sendable, Equatable {
        case encode(String)
        case job(JobID, Step)
    }

    /// What happened.
    public enum Event: Sendable, Equatable {
        /// A job is in `queued`.
        case queued(Entry)
        /// A job is in `retry`, after a restart.
        case retrying(Entry)
        /// A subject has references to encode, or encoded ones; nil: none any more.
        case subject(String, Subject?)
        /// The worker did what it was given.
        case worked
        /// The worker kept a checkpoint of the image in hand.
        case checkpointed(step: Int)
        /// The worker could not.
        case failed(RendererError)
        /// The spool could not carry out a transition of that job.
        case storageFailed(JobID)
        /// A job's folder cannot be read; it is taken out of the queue.
        case abandoned(JobID)
        /// A job's folder has been brought back to `queued` after that, or is gone from the queue.
        case settled(JobID, Entry?)
        /// Somebody wants a job ended.
        case cancel(JobID)
        /// Time has passed.
        case tick
        /// Whether new work may begin: not while the disk is full.
        case mayStart(Bool)
        /// Come to an end.
        case stop
    }

    /// What to do about it, in this order.
    public enum Action: Sendable, Equatable {
        /// Record the attempt durably, then `queued` -> `active`.
        case begin(JobID, JobRecord.Attempts)
        /// Give the worker this.
        case work(Work)
        /// Commit what the worker made.
        case commit(Work)
        /// The set to `out/`, then `active` -> `done`.
        case publish(JobID)
        /// `active` -> `queued`, with the attempts put back.
        case release(JobID, JobRecord.Attempts)
        /// `active` -> `retry`, because of this.
        case postpone(JobID, reason: String)
        /// `retry` -> `queued`.
        case ripen(JobID)
        /// To `failed`.
        case fail(JobID, reason: String)
        /// To `quarantine`.
        case quarantine(JobID, reason: String)
        /// Refuse the references being encoded.
        case rejectSubject(String, reason: String)
        /// Tell whoever dropped them that the references wait.
        case holdSubject(String, reason: String)
        /// Bring the job's folder back to `queued`, then report `.settled`.
        case settle(JobID, JobRecord.Attempts)
        /// Have the worker stop soon; it will report.
        case interrupt
        /// Nothing is left to do; end.
        case exit
    }

    /// The configured numbers it needs; in seconds.
    public struct Limits: Sendable, Equatable {
        /// See `SpoolConfiguration`.
        public var maximumAttempts: Int
        /// See `SpoolConfiguration`.
        public var backoff: Double, maximumBackoff: Double, environmentPause: Double, subjectLimit: Double
        /// See `SpoolConfiguration`.
        public var agingInterval: Double

        /// Those of a configuration.
        public init(_ configuration: SpoolConfiguration) {
            maximumAttempts = configuration.maximumAttempts
            backoff = configuration.backoff
            maximumBackoff = configuration.maximumBackoff
            environmentPause = configuration.environmentPause
            subjectLimit = configuration.subjectLimit
            agingInterval = configuration.agingInterval
        }
    }

    /// The configured numbers.
    public var limits: Limits
    /// The jobs that are not at their end.
    public private(set) var jobs: [JobID: (entry: Entry, standing: Standing)] = [:]
    /// The subjects somebody has dropped.
    public private(set) var subjects: [String: Subject] = [:]
    /// What the worker has.
    public private(set) var work: Work?
    /// The job in `active`.
    public private(set) var active: JobID?
    private var mayStart = true
    private var isStopping = false
    private var hasExited = false
    private var cancelled: Set<JobID> = []

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
        case .worked: worked(&actions)
        case .checkpointed(let step): if let active { jobs[active]?.entry.point.step = step }
        case .failed(let error): failed(error, now, &actions)
        case .storageFailed(let id): storageFailed(id, now)
        case .abandoned(let id):
            storageFailed(id, now)
            jobs[id] = nil
            cancelled.remove(id)
        case .settled(let id, let entry): settled(id, entry, now, &actions)
        case .cancel(let id): cancel(id, &actions)
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

    private mutating func worked(_ actions: inout [Action]) {
        guard let done = work else { return }
        work = nil
        switch done {
        case .encode(let subject):
            subjects[subject] = .ready
            actions.append(.commit(done))
        case .job(let id, let step):
            guard var (entry, standing) = jobs[id], case .active(_, let before) = standing else { return }
            actions.append(.commit(done))
            switch step {
            case .cache, .publish: break
            case .image(let index): entry.point = JobRecord.Mark(images: index + 1)
            case .grid: entry.isGridDone = true
            }
            standing = .active(next: following(step, entry), before: before)
            jobs[id] = (entry, standing)
            if cancelled.remove(id) != nil { end(id, .fail(id, reason: Self.cancelReason), &actions) }
        }
    }

    private func following(_ step: Step, _ entry: Entry) -> Step {
        if case .cache(let index) = step, index + 1 < entry.caches { return .cache(index + 1) }
        return afterCaches(entry)
    }

    private func afterCaches(_ entry: Entry) -> Step {
        if entry.point.images < entry.images { return .image(entry.point.images) }
        return entry.hasGrid && !entry.isGridDone ? .grid : .publish
    }

    private mutating func failed(_ error: RendererError, _ now: Double, _ actions: inout [Action]) {
        guard let failed = work else { return }
        work = nil
        switch failed {
        case .encode(let subject): encodeFailed(subject, error, now, &actions)
        case .job(let id, _): jobFailed(id, error, now, &actions)
        }
    }

    private mutating func encodeFailed(
        _ subject: String, _ error: RendererError, _ now: Double, _ actions: inout [Action]
    ) {
        switch error {
        case .rejected(let field, let message):
            subjects[subject] = nil
            actions.append(.rejectSubject(subject, reason: Self.sentence(field, message)))
        case .unavailable(let message):
            subjects[subject] = .held(until: now + limits.maximumBackoff)
            actions.append(.holdSubject(subject, reason: message))
        case .transient(let message):
            subjects[subject] = .pending(notBefore: now + limits.backoff)
            actions.append(.holdSubject(subject, reason: message))
        case .environment(let message):
            subjects[subject] = .pending(notBefore: now + limits.environmentPause)
            actions.append(.holdSubject(subject, reason: message))
        case .stopped: subjects[subject] = .pending(notBefore: now)
        }
    }

    private mutating func jobFailed(_ id: JobID, _ error: RendererError, _ now: Double, _ actions: inout [Action]) {
        guard let (entry, standing) = jobs[id], case .active(_, let before) = standing else { return }
        if cancelled.remove(id) != nil {
            return end(id, .fail(id, reason: Self.cancelReason), &actions)
        }
        switch error {
        case .rejected(let field, let message): end(id, .fail(id, reason: Self.sentence(field, message)), &actions)
        case .unavailable(let message): end(id, .fail(id, reason: message), &actions)
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
        case .environment:
            // The machine's trouble is not over at once; the job waits in `active`, where it is, and goes on from there.
            active = nil
            var entry = entry
            entry.attempts = before
            jobs[id] = (entry, .unsettled(until: now + limits.environmentPause))
        case .stopped: release(id, now, &actions)
        }
    }

    private static func sentence(_ field: String?, _ message: String) -> String {
        field.map { "\($0): \(message)" } ?? message
    }

    /// What a cancelled job's reason file says.
    public static let cancelReason = "cancelled"

    private func pause(after attempts: Int) -> Double {
        min(limits.backoff * Double(1 << min(max(attempts - 1, 0), 20)), limits.maximumBackoff)
    }

    private mutating func release(_ id: JobID, _ now: Double, _ actions: inout [Action]) {
        guard var (entry, standing) = jobs[id], case .active(_, let before) = standing else { return }
        entry.attempts = before
        standing = .queued(since: now)
        jobs[id] = (entry, standing)
        active = nil
        actions.append(.release(id, before))
    }

    private mutating func end(_ id: JobID, _ action: Action, _ actions: inout [Action]) {
        jobs[id] = nil
        cancelled.remove(id)
        if active == id { active = nil }
        actions.append(action)
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
        jobs[id] = entry.map { ($0, .queued(since: now)) }
        guard entry != nil else {
            cancelled.remove(id)
            return
        }
        if cancelled.contains(id) { end(id, .fail(id, reason: Self.cancelReason), &actions) }
    }

    private mutating func cancel(_ id: JobID, _ actions: inout [Action]) {
        guard let standing = jobs[id]?.standing else { return }
        switch standing {
        case .queued, .retrying: end(id, .fail(id, reason: Self.cancelReason), &actions)
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
            case .retrying(let until), .unsettled(let until): until <= now
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

    // MARK: - What comes next

    /// Those of a job's subjects that nobody has dropped.
    private func missingSubjects(of entry: Entry) -> [String] { entry.subjects.filter { subjects[$0] == nil } }

    private func lacksSubjects(_ entry: Entry) -> Bool { entry.subjects.contains { subjects[$0] == nil } }

    private static func named(_ subjects: [String]) -> String {
        (subjects.count == 1 ? "subject " : "subjects ") + subjects.map { "'\($0)'" }.joined(separator: ", ")
    }

    /// Why a queued job does not run yet, or nil when it could.
    public func waiting(for entry: Entry) -> String? {
        let missing = missingSubjects(of: entry)
        if !missing.isEmpty { return "waiting for references of \(Self.named(missing))" }
        for name in entry.subjects {
            if case .pending = subjects[name] { return "waiting for the references of subject '\(name)' to be encoded" }
        }
        return nil
    }

    /// The moment at which `tick` next has something to do, or nil.
    public var nextDeadline: Double? {
        var deadlines: [Double] = jobs.values.compactMap { entry, standing in
            switch standing {
            case .retrying(let until), .unsettled(let until): until
            case .queued(let since): lacksSubjects(entry) ? since + limits.subjectLimit : nil
            case .active: nil
            }
        }
        deadlines += subjects.values.compactMap { subject in
            switch subject {
            case .pending(let moment), .held(let moment): moment
            case .ready: nil
            }
        }
        return deadlines.min()
    }

    private func urgency(_ entry: Entry, since: Double, now: Double) -> Double {
        Double(entry.priority)
            + (limits.agingInterval > 0 ? (max(0, now - since) / limits.agingInterval).rounded(.down) : 0)
    }

    private mutating func choose(_ now: Double, _ actions: inout [Action]) {
        guard work == nil, !hasExited else { return }
        if isStopping {
            if let active { release(active, now, &actions) }
            hasExited = true
            actions.append(.exit)
            return
        }
        guard mayStart else { return }
        if let subject = subjects.filter({ isDue($0.value, now) }).keys.min() {
            work = .encode(subject)
            actions.append(.work(.encode(subject)))
            return
        }
        var best: (entry: Entry, urgency: Double)?
        for (entry, standing) in jobs.values {
            guard case .queued(let since) = standing, waiting(for: entry) == nil else { continue }
            let urgency = urgency(entry, since: since, now: now)
            if let best, (best.urgency, -best.entry.sequence) >= (urgency, -entry.sequence) { continue }
            best = (entry, urgency)
        }
        if let active, let entry = jobs[active]?.entry {
            // Only a job its author ranks higher takes the place of one at work; age alone never does, or two old jobs
            // would take turns for ever.
            guard let better = best, better.entry.priority > entry.priority else {
                return proceed(active, now, &actions)
            }
            release(active, now, &actions)
        }
        guard let chosen = best?.entry else { return }
        begin(chosen, &actions)
        choose(now, &actions)
    }

    private func isDue(_ subject: Subject, _ now: Double) -> Bool {
        switch subject {
        case .pending(let moment), .held(let moment): moment <= now
        case .ready: false
        }
    }

    private mutating func begin(_ chosen: Entry, _ actions: inout [Action]) {
        let next = chosen.attempts.begun(at: chosen.point)
        guard next.fruitless <= limits.maximumAttempts else {
            let reason = "\(chosen.attempts.fruitless) attempts without progress, the last of which ended the daemon"
            return end(chosen.id, .quarantine(chosen.id, reason: reason), &actions)
        }
        var entry = chosen
        entry.attempts = next
        let first: Step = entry.caches == 0 ? afterCaches(entry) : .cache(0)
        jobs[entry.id] = (entry, .active(next: first, before: chosen.attempts))
        active = entry.id
        actions.append(.begin(entry.id, next))
    }

    private mutating func proceed(_ id: JobID, _ now: Double, _ actions: inout [Action]) {
        guard case .active(let step, _) = jobs[id]?.standing else { return }
        if step == .publish {
            end(id, .publish(id), &actions)
            return choose(now, &actions)
        }
        work = .job(id, step)
        actions.append(.work(.job(id, step)))
    }
}
