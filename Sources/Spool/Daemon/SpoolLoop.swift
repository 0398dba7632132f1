import Logging
import SystemPackage

/// The daemon's one thread. It carries out what the queue machine decides.
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
    let pulse: ScanPulse
    var intake: Intake
    var machine: QueueMachine
    private let lock: SystemCalls.Lock

    /// The job in `active`, as its folder holds it.
    var current: Job?
    var subjects: [String: SubjectRecord] = [:]
    var datasets: [String: DatasetRecord] = [:]
    /// The attempts of the job in `active` as they were before this one.
    var attemptsBefore = JobRecord.Attempts()
    /// The generation that was last given to the worker.
    var encoding: (subject: String, generation: SubjectRecord.Generation)?
    /// Jobs whose model turned out to have changed, until the machine is told.
    var changes: [JobID: String] = [:]
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
    /// Whether a reload has changed how drops are noticed.
    var isWatchingAskedAnew = false
    private var stopDeadline: Double?

    var nextScan = 0.0
    private var nextHealing = 0.0
    private var nextSpaceCheck = 0.0
    private var nextSweep = 0.0
    /// Why nothing new is accepted, or nil.
    var pressure: String?
    /// Why the last scan was cut short, or nil.
    var intakeTrouble: String?
    /// Why the watcher does not watch, or nil when it does.
    var pollingReason: String?
    var status: StatusKeeper
    var pages: PageKeeper
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
        lock = try Recovery.open(store, jobs, logger)
        let refusals = Refusals(store)
        receipts = ReceiptBook(
            store: store, shelf: try ClaimShelf(store, logger: logger), clock: clock, logger: logger,
            refusals: refusals)
        pulse = ScanPulse(clock: clock, mailbox: mailbox, hooks: hooks)
        intake = try Intake(
            store: store, jobs: jobs, receipts: receipts, clock: clock, random: random, logger: logger,
            configuration: configuration, trainingSettings: renderer.trainingSettings, pulse: pulse.beat)
        machine = QueueMachine(limits: .init(configuration))
        status = StatusKeeper(store: store, hooks: hooks)
        pages = PageKeeper(store, jobs, refusals, logger)
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
        for record in found.datasets.values { announce(record) }
        for job in found.queued { _ = machine.handle(.queued(entry(job, .queued)), now: now) }
        for job in found.retrying { _ = machine.handle(.retrying(entry(job, .retry)), now: now) }
        for job in found.unreadable { deferred.append(.settle(job.id, job.attempts)) }
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
            // The renderer has not stopped in time; its job goes back to the queue without it.
            assignmentNumber += 1
            try feed(.failed(.stopped))
        }
        if now >= nextRetention {
            nextRetention = now + 3600
            let retention = Retention(
                store: store, jobs: jobs, limits: configuration.retention, wall: clock.wall(), logger: logger)
            for name in retention.run(subjects: subjects, unfinished: Array(machine.jobs.keys)) {
                datasets[name] = nil
                _ = machine.handle(.dataset(name, isThere: false), now: now)
            }
            pages.retentionRan()
        }
        let snapshot = snapshot
        status.update(snapshot)
        pages.update(snapshot, eta: snapshot.current.flatMap { status.eta($0, snapshot.progress, snapshot.now) })
    }

    private var snapshot: DaemonSnapshot {
        DaemonSnapshot(
            now: now, time: Timestamp(clock.wall()), machine: machine, current: current, ticks: workerState.ticks,
            progress: workerState.progress, trouble: pressure ?? intakeTrouble, pollingReason: pollingReason,
            isStopping: stopDeadline != nil, hasExited: hasExited, wantsPages: configuration.pages,
            aliveInterval: configuration.aliveInterval,
            statusInterval: configuration.statusInterval)
    }

    /// How long the next turn may wait, in seconds.
    var patience: Double {
        let deadlines = [
            nextScan, machine.nextDeadline(after: now), deferred.isEmpty ? nil : nextDeferred, stopDeadline,
            configuration.pages && pages.hasMore ? now : nil,
        ]
        let rest = (deadlines.compactMap(\.self).min() ?? .infinity) - now
        // While there is work, its progress is written.
        let most = machine.work == nil ? 10 : min(1, configuration.statusInterval)
        return min(max(rest, 0.01), most, configuration.aliveInterval)
    }

    private func take(_ message: Message) throws(SpoolError) {
        switch message {
        case .watch(let event):
            intake.notice(event)
            // Who writes a file in place may look at it once more after closing it, as rsync does to set its times.
            if case .changed = event {
                nextScan = min(nextScan, now + configuration.eventDelay)
            } else {
                nextScan = 0
            }
            if case .lost(let reason) = event {
                logger.notice("events were lost; scanning", metadata: ["reason": "\(reason)"])
            }
        case .worked(let number, let result):
            guard number == assignmentNumber else { return }
            switch result {
            case .success(let outcome):
                self.outcome = outcome
                try feed(.worked)
                for left in self.outcome?.temporaries ?? [] { store.discard(left) }
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
        case .reload(var next):
            if next.root != configuration.root {
                logger.error("the spool's root cannot be changed while it runs", metadata: ["root": "\(next.root)"])
                next.root = configuration.root
            }
            isWatchingAskedAnew = next.polling != configuration.polling
            configuration = next
            intake.configuration = next
            machine.limits = .init(next)
            nextScan = 0
            nextSpaceCheck = 0
            // A model that could not be used may be mended.
            try feed(.retryHeld)
            hooks.reloaded()
            logger.info("configuration reloaded")
        }
    }

    private func workFailed(_ error: RendererError) throws(SpoolError) {
        var error = error
        // The spool was moved, so absolute paths lead nowhere. Whatever failed is not to blame.
        if error != .stopped, !store.system.isInPlace { error = .environment(message: Self.movedReason) }
        if error != .stopped {
            let job = current.map { "\($0.id)" } ?? encoding.map { "encoding \($0.generation.drop)" } ?? ""
            logger.warning(
                "work failed", metadata: ["job": "\(job)", "kind": "\(error.kind)", "error": "\(error)"])
        }
        if case .job(let id, _) = machine.work, current?.id == id, case .transient(let message) = error {
            current?.record.lastError = message
        }
        try feed(.failed(error))
    }

    private static let movedReason = "the spool is no longer where it was opened"

    /// Removes what failing operations have left in `lib/tmp` and in the trash; between two pieces of work nothing there is
    /// in use.
    private func sweep() {
        guard machine.work == nil else { return }
        nextSweep = now + configuration.rescanInterval
        for folder in [SpoolLayout.temporary, SpoolLayout.trash] {
            guard let names = try? store.system.list(folder) else { continue }
            for name in names { store.discard(folder.appending(name)) }
        }
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
        reason = reason.map { "too little space: \($0)" }
        if !store.system.isInPlace { reason = Self.movedReason }
        if reason != nil, pressure == nil {
            logger.error("nothing new is accepted or begun", metadata: ["reason": "\(reason ?? "")"])
        } else if reason == nil, pressure != nil {
            logger.notice("drops are accepted again")
            nextScan = 0
        }
        pressure = reason
        _ = machine.handle(.mayStart(reason == nil), now: now)
    }

    private func scan() throws(SpoolError) {
        nextScan = now + (pollingReason == nil ? configuration.rescanInterval : 1)
        guard pressure == nil else { return }
        if now >= nextHealing {
            nextHealing = now + configuration.rescanInterval
            _ = healLayout()
        }
        var result = IntakeResult()
        pulse.begin()
        do throws(SpoolError) {
            try intake.scan(
                into: &result, waiting: { self.waiting(for: $0) },
                check: { (manifest) throws(RendererError) in try self.renderer.check(manifest) },
                notes: { self.renderer.notes(on: $0) })
            admit(result)
            for request in result.requests where pulse.beat() { try perform(request, &result) }
        } catch {
            // Drops that were taken before the error stay taken.
            admit(result)
            throw error
        }
        if result.hasMore || pulse.isOver {
            nextScan = 0
        } else if result.isUnsettled {
            nextScan = min(nextScan, now + 1)
        }
        if result.trouble != nil {
            nextScan = min(nextScan, now + configuration.environmentPause)
            _ = healLayout()
        }
        intakeTrouble = result.trouble
    }

    private func admit(_ result: IntakeResult) {
        for record in result.subjects {
            subjects[record.name] = record
            announce(record)
        }
        for record in result.datasets { announce(record) }
        for job in result.jobs where machine.jobs[job.id] == nil && !isDeferred(job.id) {
            _ = machine.handle(.queued(entry(job, .queued)), now: now)
        }
    }

    /// Makes folders of the layout that somebody has removed, or put something else in place of.
    ///
    /// - Returns: whether there were any.
    func healLayout() -> Bool {
        var wasWhole = true
        for folder in SpoolLayout.folders {
            do throws(SpoolError) {
                guard try !store.ensureFolder(folder) else { continue }
                wasWhole = false
                logger.warning("a folder of the spool was gone and is made anew", metadata: ["folder": "\(folder)"])
            } catch {
                wasWhole = false
                logger.error("a folder of the spool is gone", metadata: ["folder": "\(folder)", "error": "\(error)"])
            }
        }
        return !wasWhole
    }

    private func waiting(for manifest: JobManifest) -> String? {
        machine.obstacle(
            to: .init(
                id: Self.anyID, sequence: 0, model: manifest.neededModel, subjects: manifest.neededSubjects,
                dataset: manifest.neededDataset, images: 0))
    }

    private static let anyID = JobID(wall: 0, random: 0)

    /// Tells the machine of a data set.
    private func announce(_ record: DatasetRecord) {
        datasets[record.name] = record
        _ = machine.handle(.dataset(record.name, isThere: true), now: now)
    }

    /// Tells the machine how a subject stands.
    func announce(_ record: SubjectRecord) {
        let subject: QueueMachine.Subject?
        switch record.current?.state {
        case .ready: subject = .ready
        case .pending:
            let (owner, attempts) = record.current.map { ($0.owner, $0.attempts) } ?? (0, 0)
            // References whose encoding may have ended the daemon wait before they are tried again.
            let pause = attempts == 0 ? 0 : machine.pause(after: attempts)
            subject = .pending(notBefore: now + pause, owner: owner, attempts: attempts)
        case .rejected, nil: subject = nil
        }
        _ = machine.handle(.subject(record.name, subject), now: now)
    }

    func entry(_ job: Job, _ state: JobState) -> QueueMachine.Entry {
        let step = jobs.checkpoint(of: job, state)?.step ?? 0
        return .init(
            id: job.id, sequence: job.record.sequence, owner: job.record.owner, priority: job.manifest.priority,
            model: job.manifest.neededModel, subjects: job.manifest.neededSubjects,
            dataset: job.record.dataset == nil ? job.manifest.neededDataset : nil,
            yields: job.manifest.training != nil, caches: job.manifest.subjects.count,
            images: job.manifest.imageCount,
            hasGrid: job.manifest.output.grid || configuration.pages && job.manifest.isShownOnPage,
            attempts: job.record.attempts,
            point: .init(images: job.record.images.count, step: step),
            isGridDone: !needsGrid(job) && !needsPage(job))
    }

    // MARK: - Requests

    private func perform(_ request: IntakeResult.Request, _ result: inout IntakeResult) throws(SpoolError) {
        guard pendingCancels[request.job] == nil else { return }
        try intake.work(on: request, &result) { (claim) throws(SpoolError) in
            guard let file = try store.system.statusIfAny(claim.path), file.kind == .regular else {
                return try receipts.reject(
                    claim, kind: .request, message: "found something that is no file, expected an empty file")
            }
            guard let state = try jobs.locate(request.job) else {
                return try receipts.reject(
                    claim, kind: .request, message: "found no job \(request.job), expected one of the spool's")
            }
            // A damaged record does not say whose job it is; such a job is anybody's to end.
            let job = try jobs.loadIfSound(request.job, state)
            let owner = job?.record.owner ?? Ownership.unknown
            guard Ownership.permits(file.owner, changing: owner) else {
                return try receipts.reject(
                    claim, kind: .request,
                    message: "found a request of user \(file.owner), expected one of user \(owner), who dropped job "
                        + "\(request.job), or of root")
            }
            switch request.kind {
            case .cancel where state.isFinal:
                try answer(claim, request.job, "job \(request.job) has ended: \(state.rawValue)")
            case .cancel:
                pendingCancels[request.job] = claim
                try feed(.cancel(request.job))
            case .retry: try retry(claim, request.job, job, state)
            }
        }
    }

    /// - Parameter job: nil where its folder is damaged.
    private func retry(_ claim: Claim, _ id: JobID, _ job: Job?, _ state: JobState) throws(SpoolError) {
        switch state {
        case .done: return try answer(claim, id, "job \(id) is done")
        case .queued, .active, .retry: return try answer(claim, id, "job \(id) is \(state.rawValue)")
        case .failed, .quarantine: break
        }
        guard var job else {
            return try receipts.reject(
                claim, kind: .request, message: "job \(id) cannot be read: its folder is damaged")
        }
        job.record.attempts = .init()
        try jobs.mend(&job, state)
        try jobs.save(job, state)
        try jobs.move(job.id, from: state, to: .queued)
        pages.failuresChanged()
        _ = machine.handle(.queued(entry(job, .queued)), now: now)
        try answer(claim, id, "job \(id) is queued again")
    }

    private func answer(_ claim: Claim, _ id: JobID, _ message: String) throws(SpoolError) {
        try receipts.answer([(claim, receipts.make(claim, .request, .accepted, id: id, message: message))])
    }
}

extension SpoolError {
    /// Whether the daemon must end because of it.
    var isFinal: Bool { code == .processStopped || code == .storageFault }
}
