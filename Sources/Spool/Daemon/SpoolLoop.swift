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
    /// The generation being encoded.
    private var encoding: SubjectRecord.Generation?
    let workerState = WorkerState()
    /// Tells reports of the work at hand from those of work given up.
    private var assignmentNumber = 0
    private var outcome: Assignment.Outcome?
    /// Endings the storage refused, to be tried again.
    private var deferred: [QueueMachine.Action] = []
    private var nextDeferred = 0.0
    /// Cancellations whose job has not ended yet.
    private var pendingCancels: [JobID: Claim] = [:]
    private(set) var hasExited = false
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
            Retention(store: store, jobs: jobs, limits: configuration.retention, wall: clock.wall(), logger: logger)
                .run(
                    subjects: subjects, unfinished: Array(machine.jobs.keys))
        }
        status.update(self)
    }

    /// How long the next turn may wait, in seconds.
    var patience: Double {
        let deadlines = [nextScan, machine.nextDeadline, deferred.isEmpty ? nil : nextDeferred, stopDeadline]
        let rest = (deadlines.compactMap(\.self).min() ?? .infinity) - now
        return min(max(rest, 0.01), machine.work == nil ? 10 : 1)
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
                check: { (manifest) throws(RendererError) in try self.renderer.check(manifest) })
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
            for: .init(id: Self.anyID, sequence: 0, subjects: manifest.subjects.map(\.name), images: 0))
    }

    private static let anyID = JobID(wall: 0, random: 0)

    /// Tells the machine how a subject stands.
    private func announce(_ record: SubjectRecord) {
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
            subjects: job.manifest.subjects.map(\.name), images: job.manifest.imageCount,
            hasGrid: job.manifest.output.grid, attempts: job.record.attempts,
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

    // MARK: - Actions

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
    private func absorb(_ error: SpoolError, of action: QueueMachine.Action) throws(SpoolError) {
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
        case .work(.encode):
            let isLasting = error.code == .damaged || error.errno == .noSuchFileOrDirectory
            let message = error.description
            try feed(.failed(isLasting ? .rejected(field: nil, message: message) : .environment(message: message)))
        case .commit(.encode(let subject)), .rejectSubject(let subject, _), .holdSubject(let subject, _):
            _ = machine.handle(.subject(subject, .pending(notBefore: now + configuration.environmentPause)), now: now)
        case .interrupt, .exit: break
        }
    }

    private func isDeferred(_ id: JobID) -> Bool { deferred.contains { $0.job == id } }

    private func retryDeferred() throws(SpoolError) {
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

    private func perform(_ action: QueueMachine.Action) throws(SpoolError) {
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

    private func begin(_ id: JobID, _ attempts: JobRecord.Attempts) throws(SpoolError) {
        var job = try jobs.load(id, .queued)
        job.record.attempts = attempts
        if job.record.caches.isEmpty {
            for subject in job.manifest.subjects {
                guard let references = subjects[subject.name]?.current?.references else {
                    throw SpoolError(.unknown, operation: "begin", path: subject.name)
                }
                job.record.caches.append(.init(subject: subject.name, references: references, cache: nil))
            }
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

    private func publish(_ id: JobID) throws(SpoolError) {
        let job: Job
        if let current, current.id == id { job = current } else { job = try jobs.load(id, .active) }
        try jobs.publish(job, time: stamp)
        try jobs.move(id, from: .active, to: .done)
        if current?.id == id { current = nil }
        status.jobEnded(job, .done, self)
        try answerCancel(of: id, "it was done first")
        logger.info("set published", metadata: ["job": "\(id)", "images": "\(job.record.images.count)"])
    }

    private func end(_ id: JobID, _ state: JobState, _ reason: String) throws(SpoolError) {
        guard let from = try jobs.locate(id) else { return }
        if !from.isFinal { try jobs.end(id, from: from, to: state, reason: reason, time: stamp) }
        if let job = current, job.id == id {
            status.jobEnded(job, state, self)
            current = nil
        }
        logger.error("job ended", metadata: ["job": "\(id)", "state": "\(state.rawValue)", "reason": "\(reason)"])
        try answerCancel(of: id, "cancelled")
    }

    private func answerCancel(of id: JobID, _ message: String) throws(SpoolError) {
        guard let claim = pendingCancels[id] else { return }
        try receipts.answer([(claim, receipts.make(claim, .request, .accepted, id: id, message: message))])
        pendingCancels[id] = nil
    }

    /// Brings a job whose transition failed half-way to where it belongs, wherever it stands.
    private func settle(_ id: JobID, _ attempts: JobRecord.Attempts) throws(SpoolError) {
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

    // MARK: - Work

    private func assign(_ work: QueueMachine.Work) throws(SpoolError) {
        let assignment: Assignment
        do throws(AssignmentRefusal) {
            assignment = try prepare(work)
        } catch {
            switch error {
            case .storage(let error): throw error
            case .manifest(let error):
                assignmentNumber += 1
                return mailbox.post(.worked(assignmentNumber, .failure(error)))
            }
        }
        assignmentNumber += 1
        workerState.begin()
        let (number, mailbox, renderer, system, state) = (
            assignmentNumber, mailbox, renderer, store.system, workerState
        )
        worker.submit {
            let result = Result { () throws(RendererError) in
                try assignment.perform(
                    renderer, system, progress: { state.report($0) }, shouldStop: { state.shouldStop })
            }
            if case .failure = result { try? system.unlink(assignment.temporary) }
            mailbox.post(.worked(number, result))
        }
    }

    private enum AssignmentRefusal: Error {
        case storage(SpoolError)
        case manifest(RendererError)
    }

    private func prepare(_ work: QueueMachine.Work) throws(AssignmentRefusal) -> Assignment {
        switch work {
        case .encode(let subject):
            guard let generation = subjects[subject]?.current else {
                throw .storage(SpoolError(.unknown, operation: "encode", path: subject))
            }
            encoding = generation
            return .cache(
                try order(
                    subject, generation.references, chosen: nil, field: nil, model: nil, settings: CacheSettings()))
        case .job(_, let step):
            guard let job = current else { throw .storage(SpoolError(.unknown, operation: "render")) }
            switch step {
            case .cache(let index):
                let use = job.manifest.subjects[index]
                return .cache(
                    try order(
                        use.name, job.record.caches[index].references, chosen: use.references,
                        field: "$.subjects[\(index)].references", model: job.manifest.model,
                        settings: job.manifest.cache))
            case .image(let index):
                status.imageBegan(now: now)
                let temporary = store.temporary("\(job.id).\(job.manifest.fileName(image: index))")
                return .image(
                    RenderRequest(
                        job: job.id.text, manifest: job.manifest, image: job.plans[index], caches: uses(job),
                        output: store.system.absolute(temporary), checkpoint: slot(job, image: index)),
                    temporary: temporary)
            case .grid, .publish:
                let set = SpoolLayout.job(job.id, .active).appending(JobStore.setFolder)
                let temporary = store.temporary("\(job.id).\(job.manifest.gridFileName)")
                return .grid(
                    GridRequest(
                        manifest: job.manifest,
                        images: job.record.images.map { store.system.absolute(set.appending($0.file)) },
                        output: store.system.absolute(temporary)),
                    temporary: temporary)
            }
        }
    }

    private func uses(_ job: Job) -> [CacheUse] {
        zip(job.manifest.subjects, job.record.caches).map { use, binding in
            CacheUse(
                subject: use.name, imageScale: use.imageScale ?? job.manifest.imageScale,
                path: store.system.absolute(SpoolLayout.cache(binding.cache ?? "")))
        }
    }

    private func order(
        _ subject: String, _ digest: String, chosen: [String]?, field: String?, model: String?, settings: CacheSettings
    ) throws(AssignmentRefusal) -> CacheOrder {
        let folder = SpoolLayout.referenceSet(digest)
        let set: ReferenceSet
        do throws(SpoolError) {
            let path = folder.appending(ReferenceSet.listFile)
            guard let read = ReferenceSet(try store.readJSON(path)) else {
                throw SpoolError(.damaged, operation: "read", path: path.string)
            }
            set = read
        } catch {
            throw .storage(error)
        }
        var images = set.images
        if let chosen {
            if let missing = chosen.first(where: { name in !images.contains { $0.name == name } }) {
                throw .manifest(
                    .rejected(
                        field: field,
                        message: "found '\(missing)', expected one of \(images.map(\.name).joined(separator: ", "))"))
            }
            images = images.filter { chosen.contains($0.name) }
        }
        let masks = set.files.filter { file in !set.images.contains(file) }
        return CacheOrder(
            subject: subject, references: images.map { store.system.absolute(folder.appending($0.name)) },
            imageDigests: images.map(\.sha256), digests: images.map(\.sha256) + ["masks"] + masks.map(\.sha256),
            model: model, settings: settings, temporary: store.temporary("\(subject).dcache"))
    }

    private func slot(_ job: Job, image: Int) -> CheckpointSlot {
        let identity = CheckpointFile.identity(of: job.record, image: image)
        let path = SpoolLayout.job(job.id, .active).appending(CheckpointFile.name)
        let (store, clock, mailbox, logger) = (store, clock, mailbox, logger)
        let (number, interval) = (assignmentNumber + 1, configuration.checkpointInterval)
        let last = LastCheckpoint(clock.monotonic())
        return CheckpointSlot(
            load: {
                guard let bytes = try? store.system.read(path, limit: 1 << 30), let file = CheckpointFile(bytes),
                    file.identity == identity
                else { return nil }
                return file.state
            },
            isDue: { clock.monotonic() - last.time >= interval },
            save: { state, step in
                last.time = clock.monotonic()
                do throws(SpoolError) {
                    let file = CheckpointFile(identity: identity, step: step, state: state)
                    try store.publish(file.bytes, at: path, replacing: true)
                    mailbox.post(.checkpointed(number, step: step))
                } catch {
                    logger.warning("checkpoint not kept", metadata: ["job": "\(job.id)", "error": "\(error)"])
                }
            })
    }

    private func commit(_ work: QueueMachine.Work) throws(SpoolError) {
        guard let outcome else { return }
        self.outcome = nil
        switch (work, outcome) {
        case (.encode(let subject), .cache(let key, let temporary)):
            try publishCache(key, temporary)
            try encoded(subject, key)
        case (.job(let id, .cache(let index)), .cache(let key, let temporary)):
            try publishCache(key, temporary)
            guard var job = current, job.id == id, job.record.caches[index].cache != key else { return }
            job.record.caches[index].cache = key
            current = job
            if job.record.images.isEmpty {
                try jobs.save(job, .active)
            } else {
                // The model behind the name has changed since the first images: a set is of one piece.
                try jobs.restart(&job)
                logger.notice("the cache has changed; the set begins anew", metadata: ["job": "\(id)"])
                throw SpoolError(.system(.staleNFSFileHandle), operation: "restart", path: id.text)
            }
        case (.job(let id, .image), .image(let report, let temporary)):
            guard var job = current, job.id == id else { return }
            try jobs.commitImage(&job, temporary, report: report)
            current = job
            status.imageEnded(now: now)
            logger.info("image done", metadata: ["job": "\(id)", "image": "\(job.record.images.count - 1)"])
        case (.job(let id, .grid), .grid(let temporary)):
            guard var job = current, job.id == id else { return }
            try jobs.commitGrid(&job, temporary)
            current = job
        default: break
        }
    }

    private func publishCache(_ key: String, _ temporary: FilePath?) throws(SpoolError) {
        guard let temporary else { return }
        defer { store.discard(temporary) }
        try store.syncFile(temporary)
        // Whoever made it first made the same.
        try store.move(temporary, to: SpoolLayout.cache(key), replacing: true)
    }

    /// The references of a subject are encoded: its record, its link and its receipt say so.
    private func encoded(_ subject: String, _ key: String) throws(SpoolError) {
        guard var record = subjects[subject], let done = encoding,
            let index = record.generations.firstIndex(where: { $0.number == done.number })
        else { return }
        // The record comes last: while it says "pending", a crash has all of this done again.
        let link = store.temporary("link")
        try store.system.makeSymbolicLink(link, target: "../\(SpoolLayout.cache(key))")
        try store.move(link, to: SpoolLayout.cacheLink(subject), replacing: true)
        if var receipt = try receipts.read(done.drop), receipt.id == done.dropID {
            receipt.state = .accepted
            receipt.message = "encoded as \(SpoolLayout.cacheLink(subject))"
            if receipt.keptAt != nil { receipt.message += "; some files were not used" }
            receipt.time = stamp
            try receipts.write(receipt)
        }
        record.generations[index].state = .ready(cache: key)
        try store.publish(record.json, at: SpoolLayout.subject(subject), replacing: true)
        subjects[subject] = record
        logger.info("references encoded", metadata: ["subject": "\(subject)", "generation": "\(done.number)"])
        // A newer generation may have come meanwhile.
        announce(record)
    }

    private func rejectSubject(_ subject: String, _ reason: String) throws(SpoolError) {
        guard var record = subjects[subject], let refused = encoding,
            let index = record.generations.firstIndex(where: { $0.number == refused.number })
        else { return }
        if var receipt = try receipts.read(refused.drop), receipt.id == refused.dropID {
            receipt.state = .rejected
            receipt.message = reason
            receipt.keptAt = SpoolLayout.referenceSet(refused.references).string
            receipt.time = stamp
            try receipts.write(receipt)
        }
        record.generations[index].state = .rejected(reason: reason)
        try store.publish(record.json, at: SpoolLayout.subject(subject), replacing: true)
        subjects[subject] = record
        logger.warning("references rejected", metadata: ["subject": "\(subject)", "reason": "\(reason)"])
        announce(record)
    }

    private func holdSubject(_ subject: String, _ reason: String) throws(SpoolError) {
        guard let generation = encoding, var receipt = try receipts.read(generation.drop),
            receipt.id == generation.dropID
        else { return }
        receipt.message = "waiting to be encoded: \(reason)"
        receipt.time = stamp
        try receipts.write(receipt)
    }
}

/// When an image's last checkpoint was kept; touched by the worker's thread alone.
private final class LastCheckpoint: @unchecked Sendable {
    var time: Double
    init(_ time: Double) { self.time = time }
}

extension SpoolError {
    /// Whether the daemon must end because of it.
    var isFinal: Bool { code == .processStopped || code == .storageFault }
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
