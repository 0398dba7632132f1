import Glibc
import SystemPackage

/// What the command line does with a spool, all of it through files: it works the same while the daemon is down.
public struct SpoolClient: Sendable {
    let store: DurableStore
    let jobs: JobStore
    let clock: SpoolClock

    /// A client of the spool at `root`.
    ///
    /// - Parameter gate: what system calls pass, in tests.
    /// - Throws: `.badLayout` when there is no such folder.
    public init(root: String, clock: SpoolClock = .system, gate: SystemGate? = nil) throws(SpoolError) {
        store = DurableStore(try SystemCalls(root: root, gate: gate))
        jobs = JobStore(store: store)
        self.clock = clock
    }

    // MARK: - Dropping

    /// Drops a manifest, whole: under a hidden name first, synced, then renamed.
    ///
    /// - Parameter name: what to call the drop, without `.json`; nil makes a name that is not in use.
    /// - Returns: the dropped name, which the receipt is keyed by.
    /// - Throws: `.system(.fileExists)` when a drop of that name is still waiting.
    public func submit(manifest: [UInt8], name: String? = nil) throws(SpoolError) -> String {
        let dropped = (name ?? "submit-\(freshName())") + ".json"
        guard DropName.isPlain(dropped) else {
            throw SpoolError(
                .badLayout, operation: "submit", path: dropped,
                detail: "expected " + Schema.StringPattern.name.expectation)
        }
        try drop(manifest, as: dropped)
        return dropped
    }

    /// Asks for a job to be ended; the answer is the receipt of the returned name.
    public func cancel(_ id: JobID) throws(SpoolError) -> String { try request("cancel", id) }

    /// Asks for a failed or quarantined job to be queued again; the answer is the receipt of the returned name.
    public func retry(_ id: JobID) throws(SpoolError) -> String { try request("retry", id) }

    private func request(_ verb: String, _ id: JobID) throws(SpoolError) -> String {
        let name = "\(id).\(verb)"
        do throws(SpoolError) {
            try drop([], as: name)
        } catch  where error.errno == .fileExists {
            // Somebody has asked already.
        }
        return name
    }

    private func drop(_ bytes: [UInt8], as name: String) throws(SpoolError) {
        let folder = SpoolLayout.drop(.jobs)
        let hidden = folder.appending(".\(freshName()).part")
        do throws(SpoolError) {
            let file = try store.system.create(hidden)
            try file.write(bytes)
            try file.syncAndClose()
            // The daemon reads it by its group, whatever the caller's umask is.
            try store.system.setMode(hidden, 0o660)
            try store.move(hidden, to: folder.appending(name))
        } catch {
            try? store.system.unlink(hidden)
            throw error
        }
    }

    private func freshName() -> String { JobID(wall: clock.wall(), random: UInt64.random(in: 0...UInt64.max)).text }

    // MARK: - Asking

    /// How something a person waits for ended.
    public enum Outcome: Sendable, Equatable {
        /// The set is at that absolute path.
        case done(JobID, set: String)
        /// It cannot be done, or was cancelled.
        case failed(JobID, reason: String)
        /// It failed too often, or its folder is damaged.
        case quarantined(JobID, reason: String)
        /// The drop was refused.
        case rejected(Receipt)
        /// References or a request were taken care of.
        case answered(Receipt)

        /// The command line's exit code.
        public var exitCode: Int32 {
            switch self {
            case .done, .answered: 0
            case .failed: 1
            case .quarantined: 3
            case .rejected: 4
            }
        }
    }

    /// What is known of a drop.
    public enum Standing: Sendable, Equatable {
        /// Nothing of that name was ever seen.
        case unknown
        /// Dropped and not yet answered.
        case dropped
        /// Accepted, not at its end.
        case working(JobSummary)
        /// References that wait to be encoded.
        case waiting(Receipt)
        /// At its end.
        case ended(Outcome)
    }

    /// The receipt of a drop, or nil when there is none (yet).
    public func receipt(of drop: String) throws(SpoolError) -> Receipt? {
        guard let component = SpoolPath.Name(drop) else { return nil }
        let path = SpoolLayout.receipt(DropName.key(component))
        guard try store.system.statusIfAny(path) != nil else { return nil }
        return (try? store.readJSON(path)).flatMap(Receipt.init)
    }

    /// How a job, by its id, or a drop, by its name with or without `.json`, stands.
    public func standing(of name: String) throws(SpoolError) -> Standing {
        if let id = JobID(name), let summary = try summary(id) { return standing(of: summary) }
        for drop in [name, name + ".json"] {
            // As long as the drop or its claim is there, the receipt is that of an earlier drop of the same name.
            if try isPending(drop) { return .dropped }
            guard let receipt = try receipt(of: drop) else { continue }
            switch (receipt.kind, receipt.state) {
            case (_, .rejected): return .ended(.rejected(receipt))
            case (.job, _):
                guard let summary = try summary(receipt.id) else { return .unknown }
                return standing(of: summary)
            case (_, .accepted): return .ended(.answered(receipt))
            case (_, .waiting): return .waiting(receipt)
            }
        }
        // Receipts may have been cleared away; the jobs know what they were dropped as.
        for drop in [name, name + ".json"] {
            if let summary = try newest(droppedAs: drop) { return standing(of: summary) }
        }
        return .unknown
    }

    private func newest(droppedAs drop: String) throws(SpoolError) -> JobSummary? {
        guard let key = SpoolPath.Name(drop).map(DropName.key) else { return nil }
        var newest: (id: JobID, state: JobState)?
        for state in JobState.allCases {
            for id in try jobs.list(state) where newest.map({ $0.id < id }) ?? true {
                if try jobs.loadIfSound(id, state)?.record.drop == key { newest = (id, state) }
            }
        }
        return try newest.flatMap { (found) throws(SpoolError) in try summary(found.id, found.state) }
    }

    private func standing(of summary: JobSummary) -> Standing {
        switch summary.state {
        case .done: .ended(.done(summary.id, set: store.system.absolute(SpoolLayout.published(summary.id))))
        case .failed: .ended(.failed(summary.id, reason: summary.reason ?? "no reason is recorded"))
        case .quarantine: .ended(.quarantined(summary.id, reason: summary.reason ?? "no reason is recorded"))
        case .queued, .active, .retry: .working(summary)
        }
    }

    private func isPending(_ drop: String) throws(SpoolError) -> Bool {
        guard let name = SpoolPath.Name(drop) else { return false }
        for folder in DropFolder.allCases {
            // In the order in which the daemon moves it: whoever looks for the claim first may see neither.
            if try store.system.statusIfAny(SpoolLayout.drop(folder).appending(name)) != nil {
                // What could not be moved lies there still when it is answered.
                let leftover = try? store.readJSON(Leftover.path(folder, name))
                if leftover.flatMap(Leftover.init)?.isAnswered != true { return true }
            }
            for claim in try claims(in: folder) where claim.key == DropName.key(name) { return true }
        }
        return false
    }

    private func claims(in folder: DropFolder) throws(SpoolError) -> [Claim] {
        do throws(SpoolError) {
            return try store.system.list(SpoolLayout.claims(folder)).compactMap { Claim($0.string, in: folder) }
        } catch  where error.isLayoutGone {
            // No daemon of this layout was here yet.
            return []
        }
    }

    /// Waits until a job or drop has ended.
    ///
    /// It looks at a few files, at first after 20 ms and then ever less often, at least once a second.
    /// - Parameters:
    ///   - timeout: how long at most, in seconds; nil waits as long as a daemon runs.
    ///   - grace: how long a daemon that is down is waited for.
    /// - Throws: `.timedOut`, or `.unknown` when nothing of that name was ever dropped.
    public func wait(
        for name: String, timeout: Double? = nil, grace: Double = 10, onChange: (Standing) -> Void = { _ in }
    ) throws(SpoolError) -> Outcome {
        let start = clock.monotonic()
        var lastSeen = start
        var pause = 0.02
        var previous: Standing?
        while true {
            let standing = try standing(of: name)
            if case .ended(let outcome) = standing { return outcome }
            if standing == .unknown { throw SpoolError(.unknown, operation: "wait", path: name) }
            if standing != previous {
                onChange(standing)
                previous = standing
            }
            let now = clock.monotonic()
            if try isDaemonRunning() { lastSeen = now }
            if let timeout, now - start >= timeout { throw SpoolError(.timedOut, operation: "wait", path: name) }
            if now - lastSeen > grace {
                throw SpoolError(.timedOut, operation: "wait", path: name, detail: "no daemon is running")
            }
            usleep(UInt32(pause * 1e6))
            pause = min(pause * 1.5, 1)
        }
    }

    /// The picture that `init_image` of a subject stands for today, or nil when there is none of that name.
    public func initialImage(of subject: String) throws(SpoolError) -> InitialImage? {
        let path = SpoolLayout.subject(subject)
        guard DropName.isPlain(subject), try store.system.statusIfAny(path) != nil,
            let current = SubjectRecord(try store.readJSON(path))?.current,
            let image = try store.referenceSet(current.references).initialImage(subject: subject)
        else { return nil }
        let file = SpoolLayout.referenceSet(image.references).appending(image.file)
        return InitialImage(path: store.system.absolute(file), sha256: image.sha256)
    }

    /// The absolute path of the spool's page, or of a finished set's; nil when it is not there.
    public func page(of job: JobID? = nil) throws(SpoolError) -> String? {
        let path = job.map { SpoolLayout.published($0).appending(PageRequest.fileName) } ?? SpoolLayout.page
        return try store.system.statusIfAny(path)?.kind == .regular ? store.system.absolute(path) : nil
    }

    /// Whether a daemon holds the spool.
    public func isDaemonRunning() throws(SpoolError) -> Bool { try store.system.isLocked(SpoolLayout.lock) }

    /// `status.json`, or nil when no daemon ever ran here.
    public func status() throws(SpoolError) -> JSON? {
        guard try store.system.statusIfAny(SpoolLayout.statusFile) != nil else { return nil }
        return try store.readJSON(SpoolLayout.statusFile)
    }

    /// A job as lists show it.
    public struct JobSummary: Sendable, Equatable {
        /// The job.
        public let id: JobID
        /// Order of acceptance; nil when its folder cannot be read.
        public let sequence: Int?
        /// Where it is.
        public let state: JobState
        /// The name it was dropped under; nil when its folder cannot be read.
        public let drop: String?
        /// When it was accepted.
        public let accepted: String?
        /// Its subjects.
        public let subjects: [String]
        /// What is trained, for a training.
        public let training: TrainingOrder?
        /// Steps of a training that its state knows of.
        public let step: Int
        /// Images done, and in all.
        public let done: Int, images: Int
        /// The seed of image 0.
        public let seed: Int?
        /// Why it ended, or last failed.
        public let reason: String?
        /// `progress.json`, for a job at work.
        public let progress: JSON?
    }

    /// A job, or nil when there is none of that id.
    public func summary(_ id: JobID) throws(SpoolError) -> JobSummary? {
        // A job may move between looking for it and reading it.
        for _ in 0..<5 {
            guard let state = try jobs.locate(id) else { continue }
            if let summary = try summary(id, state) { return summary }
        }
        return nil
    }

    /// The jobs in some states, oldest first.
    public func list(_ states: [JobState] = JobState.allCases) throws(SpoolError) -> [JobSummary] {
        var found: [JobID: JobSummary] = [:]
        for state in states {
            for id in try jobs.list(state) { found[id] = try summary(id, state) ?? found[id] }
        }
        // By the second an id begins with, then by order of acceptance: that begins anew when a daemon starts on a spool
        // without unfinished jobs.
        return found.values.sorted {
            ($0.id.second, $0.sequence ?? 0, $0.id) < ($1.id.second, $1.sequence ?? 0, $1.id)
        }
    }

    func summary(_ id: JobID, _ state: JobState) throws(SpoolError) -> JobSummary? {
        let folder = SpoolLayout.job(id, state)
        var job: Job?
        var done = 0
        do throws(SpoolError) {
            let found = try jobs.load(id, state, withImages: false)
            done = try jobs.imageCount(id, state)
            job = found
        } catch  where error.code == .damaged || error.isLayoutGone {
            // It is damaged, or moved while it was read.
            if try store.system.statusIfAny(folder) == nil { return nil }
        }
        func document(_ name: String) -> JSON? { try? store.readJSON(folder.appending(name)) }
        return JobSummary(
            id: id, sequence: job?.record.sequence, state: state, drop: job?.record.drop,
            accepted: job?.record.accepted,
            subjects: job?.manifest.subjects.map(\.name) ?? [], training: job?.manifest.training,
            step: job?.manifest.training == nil ? 0 : job.flatMap { jobs.checkpoint(of: $0, state)?.step } ?? 0,
            done: done,
            images: job?.manifest.imageCount ?? 0, seed: job?.record.seed,
            reason: document(JobStore.reasonFile)?["reason"]?.string ?? standingReason(job, state)
                ?? job?.record.lastError,
            progress: state == .active ? document(JobStore.progressFile) : nil)
    }

    /// Why a job that is queued does not run yet, as its receipt says it.
    private func standingReason(_ job: Job?, _ state: JobState) -> String? {
        guard state == .queued, let job, let name = SpoolPath.Name(job.record.drop),
            let receipt = (try? store.readJSON(SpoolLayout.receipt(name.string))).flatMap(Receipt.init),
            receipt.id == job.id, receipt.state == .waiting
        else { return nil }
        return receipt.message
    }
}
