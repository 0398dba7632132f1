import Logging
import SystemPackage

/// The daemon's one thread: what the machine decides, this does.
///
/// Every change of the spool is made here, except that the worker writes its temporary files and checkpoints.
final class SpoolLoop {
    enum Message: Sendable {
        case watch(WatchEvent)
        case worked(Int, Result<Assignment.Outcome, RendererError>)
        case checkpointed(Int, step: Int)
        case stop
        case reload(SpoolConfiguration)
    }

    let clock: SpoolClock
    let hooks: DaemonHooks
    let logger: Logger
    let mailbox: Mailbox<Message>
    let renderer: any Renderer
    let worker: Worker
    let store: DurableStore
    let jobs: JobStore
    let receipts: ReceiptBook
    var configuration: SpoolConfiguration
    var intake: Intake
    var machine: QueueMachine
    private let lock: SystemCalls.Lock

    /// The job in `active`, as its folder holds it.
    var current: Job?
    var subjects: [String: SubjectRecord] = [:]
    /// The attempts of the job in `active` as they were before this one.
    var attemptsBefore = JobRecord.Attempts()
    /// The generation being encoded.
    var encoding: SubjectRecord.Generation?
    let workerState = WorkerState()
    /// Tells reports of the work at hand from those of work given up.
    var assignmentNumber = 0
    var outcome: Assignment.Outcome?
    /// Endings the storage refused, to be tried again.
    var deferred: [QueueMachine.Action] = []
    var nextDeferred = 0.0
    /// Cancellations whose job has not ended yet.
    var pendingCancels: [JobID: Claim] = [:]
    var hasExited = false
    private var stopDeadline: Double?

    var nextScan = 0.0
    private var nextSpaceCheck = 0.0
    private var nextSweep = 0.0
    /// Why nothing new is accepted, or nil.
    var pressure: String?
    /// Why the last scan was cut short, or nil.
    var intakeTrouble: String?
    /// Why the watcher does not watch, or nil when it does.
    var pollingReason: String?
    var status = StatusKeeper()
    private var nextRetention: Double

    init(
        configuration: SpoolConfiguration, renderer: any Renderer, clock: SpoolClock, worker: Worker,
        hooks: DaemonHooks, logger: Logger, mailbox: Mailbox<Message>, gate: SystemGate?,
        random: @escaping @Sendable () -> UInt64
    ) throws(SpoolError) {
        self.configuration = configuration
        self.renderer = renderer
        self.clock = clock
        self.worker = worker
        self.hooks = hooks
        self.logger = logger
        self.mailbox = mailbox
        let system = try SystemCalls(root: configuration.root, gate: gate)
        store = DurableStore(system)
        jobs = JobStore(store: store)
        receipts = ReceiptBook(store: store, clock: clock, logger: logger)
        lock = try Recovery.open(store)
        intake = Intake(
            store: store, jobs: jobs, receipts: receipts, clock: clock, random: random, logger: logger,
            configuration: configuration)
        machine = QueueMachine(limits: .init(configuration))
        nextRetention = clock.monotonic() + 3600
        try recover()
    }

    var now: Double { clock.monotonic() }
    var stamp: String { Timestamp(clock.wall()).text }

    private func recover() throws(SpoolError) {
        let found = try Recovery(store: store, jobs: jobs, logger: logger, time: stamp).run()
        subjects = found.subjects
        intake.nextSequence = found.nextSequence
        for record in subjects.values { announce(record) }
        for job in found.queued { _ = machine.handle(.queued(entry(job, .queued)), now: now) }
        for job in found.retrying { _ = machine.handle(.retrying(entry(job, .retry)), now: now) }
    }

    // MARK: - Turns

    /// One turn: waits for something to happen, at most so many seconds, and deals with it.
    func turn(wait: Double) throws(SpoolError) {
        for message in mailbox.receive(timeout: wait) { try take(message) }
        let now = now
        if now >= nextSpaceCheck { checkSpace() }
        if now >= nextScan, stopDeadline == nil { try scan() }
        if !deferred.isEmpty, now >= nextDeferred { try retryDeferred() }
        if now >= nextSweep { sweep() }
        try feed(.tick)
        if let stopDeadline, now >= stopDeadline, !hasExited {
            // The renderer has not heard; its job goes back to the queue without it.
            assignmentNumber += 1
            try feed(.failed(.stopped))
        }
        if now >= nextRetention {
            nextRetention = now + 3600
            let retention = Retention(
                store: store, jobs: jobs, limits: configuration.retention, wall: clock.wall(), logger: logger)
            retention.run(subjects: subjects, unfinished: Array(machine.jobs.keys))
        }
        status.update(self)
    }

    /// How long the next turn may wait, in seconds.
    var patience: Double {
        let deadlines = [nextScan, machine.nextDeadline, deferred.isEmpty ? nil : nextDeferred, stopDeadline]
        let rest = (deadlines.compactMap(\.self).min() ?? .infinity) - now
        return min(max(rest, 0.01), machine.work == nil ? 10 : 1, configuration.aliveInterval)
    }

    private func take(_ message: Message) throws(SpoolError) {
        switch message {
        case .watch(let event):
            intake.notice(event)
            nextScan = 0
            if case .lost(let reason) = event {
                logger.notice("events were lost; scanning", metadata: ["reason": "\(reason)"])
            }
        case .worked(let number, let result):
            guard number == assignmentNumber else { return }
            switch result {
            case .success(let outcome):
                self.outcome = outcome
                try feed(.worked)
                if let left = self.outcome?.temporary { store.discard(left) }
                self.outcome = nil
            case .failure(let error): try workFailed(error)
            }
        case .checkpointed(let number, let step):
            if number == assignmentNumber { try feed(.checkpointed(step: step)) }
        case .stop:
            guard stopDeadline == nil else { return }
            stopDeadline = now + configuration.stopLimit
            hooks.stopping()
            try feed(.stop)
        case .reload(let next):
            guard next.root == configuration.root else {
                logger.error("the spool's root cannot be changed while it runs", metadata: ["root": "\(next.root)"])
                return
            }
            configuration = next
            intake.configuration = next
            machine.limits = .init(next)
            nextScan = 0
            nextSpaceCheck = 0
            // A model that could not be used may be mended.
            for (name, subject) in machine.subjects {
                if case .held = subject { try feed(.subject(name, .pending(notBefore: now))) }
            }
            hooks.reloaded()
            logger.info("configuration reloaded")
        }
    }

    private func workFailed(_ error: RendererError) throws(SpoolError) {
        if error != .stopped {
            let job = current.map { "\($0.id)" } ?? encoding.map { "encoding \($0.drop)" } ?? ""
            logger.warning("work failed", metadata: ["job": "\(job)", "error": "\(error)"])
        }
        if case .job(let id, _) = machine.work, current?.id == id, case .transient(let message) = error {
            current?.record.lastError = message
        }
        try feed(.failed(error))
    }

    /// Removes what failing operations have left in `lib/tmp`; between two pieces of work nothing there is in use.
    private func sweep() {
        guard machine.work == nil else { return }
        nextSweep = now + configuration.rescanInterval
        guard let names = try? store.system.list(SpoolLayout.temporary) else { return }
        for name in names { store.discard(SpoolLayout.temporary.appending(name)) }
    }

    // MARK: - Drops

    private func checkSpace() {
        nextSpaceCheck = now + configuration.pressureInterval
        var reason: String?
        do throws(SpoolError) {
            let space = try store.system.space()
            if space.freeBytes < configuration.minimumFreeBytes {
                reason = "\(space.freeBytes >> 20) MiB free, expected \(configuration.minimumFreeBytes >> 20)"
            } else if let inodes = space.freeInodes, inodes < configuration.minimumFreeInodes {
                reason = "\(inodes) inodes free, expected \(configuration.minimumFreeInodes)"
            }
        } catch {
            reason = "\(error)"
        }
        if reason != nil, pressure == nil {
            logger.error("too little free space; nothing new is accepted", metadata: ["reason": "\(reason ?? "")"])
        } else if reason == nil, pressure != nil {
            logger.notice("there is free space again")
            nextScan = 0
        }
        pressure = reason
        _ = machine.handle(.mayStart(reason == nil), now: now)
    }

    private func scan() throws(SpoolError) {
        nextScan = now + (pollingReason == nil ? configuration.rescanInterval : 1)
        guard pressure == nil else { return }
        var result = IntakeResult()
        let trouble: SpoolError?
        do throws(SpoolError) {
            try intake.scan(
                into: &result, waiting: { self.waiting(for: $0) },
                check: { (manifest) throws(RendererError) in try self.renderer.check(manifest) },
                notes: { self.renderer.notes(on: $0) })
            trouble = nil
        } catch {
            trouble = error
        }
        // What was taken before an error was taken.
        for record in result.subjects {
            subjects[record.name] = record
            announce(record)
        }
        for job in result.jobs where machine.jobs[job.id] == nil && !isDeferred(job.id) {
            _ = machine.handle(.queued(entry(job, .queued)), now: now)
        }
        if let trouble {
            guard !trouble.isFinal else { throw trouble }
            logger.error("the drop folders could not be read to their end", metadata: ["error": "\(trouble)"])
            nextScan = now + configuration.environmentPause
        } else {
            if result.hasMore { nextScan = 0 } else if result.isUnsettled { nextScan = min(nextScan, now + 1) }
        }
        intakeTrouble = trouble.map(\.description)
        for request in result.requests { try perform(request) }
    }

    private func waiting(for manifest: JobManifest) -> String? {
        machine.waiting(
            for: .init(id: Self.anyID, sequence: 0, subjects: manifest.neededSubjects, images: 0))
    }

    private static let anyID = JobID(wall: 0, random: 0)

    /// Tells the machine how a subject stands.
    func announce(_ record: SubjectRecord) {
        switch record.current?.state {
        case .ready: _ = machine.handle(.subject(record.name, .ready), now: now)
        case .pending: _ = machine.handle(.subject(record.name, .pending(notBefore: now)), now: now)
        case .rejected, nil: _ = machine.handle(.subject(record.name, nil), now: now)
        }
    }

    func entry(_ job: Job, _ state: JobState) -> QueueMachine.Entry {
        let step = jobs.checkpoint(of: job, state)?.step ?? 0
        return .init(
            id: job.id, sequence: job.record.sequence, priority: job.manifest.priority,
            subjects: job.manifest.neededSubjects, caches: job.manifest.subjects.count,
            images: job.manifest.imageCount, hasGrid: job.manifest.output.grid, attempts: job.record.attempts,
            point: .init(images: job.record.images.count, step: step), isGridDone: job.record.grid != nil)
    }

    // MARK: - Requests

    private func perform(_ request: IntakeResult.Request) throws(SpoolError) {
        guard pendingCancels[request.job] == nil else { return }
        do throws(SpoolError) {
            guard let state = try jobs.locate(request.job) else {
                return try receipts.reject(
                    request.claim, kind: .request, message: "found no job \(request.job), expected one of the spool's")
            }
            switch request.kind {
            case .cancel:
                guard !state.isFinal else {
                    return try answer(request, "job \(request.job) has ended: \(state.rawValue)")
                }
                pendingCancels[request.job] = request.claim
                try feed(.cancel(request.job))
            case .retry: try retry(request, state)
            }
        } catch  where !error.isFinal {
            logger.error("request not carried out yet", metadata: ["job": "\(request.job)", "error": "\(error)"])
            nextScan = now + configuration.environmentPause
        }
    }

    private func retry(_ request: IntakeResult.Request, _ state: JobState) throws(SpoolError) {
        switch state {
        case .done: return try answer(request, "job \(request.job) is done")
        case .queued, .active, .retry: return try answer(request, "job \(request.job) is \(state.rawValue)")
        case .failed, .quarantine: break
        }
        var job: Job
        do throws(SpoolError) {
            job = try jobs.load(request.job, state)
        } catch  where error.code == .damaged {
            return try receipts.reject(
                request.claim, kind: .request, message: "job \(request.job) cannot be read: \(error)")
        }
        job.record.attempts = .init()
        try jobs.mend(&job, state)
        try jobs.save(job, state)
        try jobs.move(job.id, from: state, to: .queued)
        _ = machine.handle(.queued(entry(job, .queued)), now: now)
        try answer(request, "job \(request.job) is queued again")
    }

    private func answer(_ request: IntakeResult.Request, _ message: String) throws(SpoolError) {
        try receipts.answer([
            (request.claim, receipts.make(request.claim, .request, .accepted, id: request.job, message: message))
        ])
    }
}

extension SpoolError {
    /// Whether the daemon must end because of it.
    var isFinal: Bool { code == .processStopped || code == .storageFault }
}
