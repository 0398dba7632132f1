import Logging
import SystemPackage

/// What a scan of the drop folders found.
struct IntakeResult: Sendable {
    /// Jobs now in `queued`.
    var jobs: [Job] = []
    /// Subjects with a new generation.
    var subjects: [SubjectRecord] = []
    /// Data sets that are ready.
    var datasets: [DatasetRecord] = []
    /// Cancellations and retries, to be carried out and then answered.
    var requests: [Request] = []
    /// More is there than one batch takes.
    var hasMore = false
    /// Something was left to come to rest, or could not be taken yet.
    var isUnsettled = false
    /// What the machine did not allow, or nil.
    var trouble: String?

    struct Request: Sendable, Equatable {
        enum Kind: String, Sendable, CaseIterable { case cancel, retry }
        let claim: Claim
        let kind: Kind
        let job: JobID
    }
}

/// Takes what users drop: decides when a drop is complete, claims it, and hands it on as jobs, subjects and requests.
///
/// A claim is a rename into `lib/claims`. What follows is idempotent by the claim's id, so a claim found after a crash is
/// simply worked on again. An error that one drop causes is that drop's own: it is set aside, and the scan goes on.
struct Intake {
    let store: DurableStore
    let jobs: JobStore
    let receipts: ReceiptBook
    let clock: SpoolClock
    let random: @Sendable () -> UInt64
    let logger: Logger
    /// Called between two pieces of work: tells that the daemon lives, and is false when the scan should end soon.
    let pulse: () -> Bool
    var configuration: SpoolConfiguration
    var nextSequence = 1

    /// The settings of a training, as its renderer knows them.
    let trainingSettings: Schema
    /// The data set that is being taken in.
    var datasetCopy: DatasetCopy?
    var trackers = Dictionary(uniqueKeysWithValues: DropFolder.allCases.map { ($0, DropTracker()) })
    private var turns = Dictionary(uniqueKeysWithValues: DropFolder.allCases.map { ($0, OwnerTurns()) })
    /// When a claim was first found still being written.
    private var unsteady: [Claim: Double] = [:]
    /// The claims made by the scan at hand; no job can have their ids yet.
    var fresh: Set<JobID> = []
    /// The claims an earlier daemon has left. One of them may have ended it.
    private var suspects: Set<JobID>
    /// Whose idempotency keys the manifests say they are; read when the first key is met whose own file names no job that is kept.
    var keyOwners: [OwnedKey: JobID]?
    /// Claims that are left alone until a moment, and what went wrong with them.
    private var paused: [JobID: (until: Double, trouble: String)] = [:]
    /// Folders whose last claims may not be durable yet.
    private var unsynced: Set<DropFolder> = []
    private var nextTidying = 0.0

    init(
        store: DurableStore, jobs: JobStore, receipts: ReceiptBook, clock: SpoolClock,
        random: @escaping @Sendable () -> UInt64, logger: Logger, configuration: SpoolConfiguration,
        trainingSettings: Schema, pulse: @escaping () -> Bool
    ) throws(SpoolError) {
        self.store = store
        self.jobs = jobs
        self.receipts = receipts
        self.clock = clock
        self.random = random
        self.logger = logger
        self.configuration = configuration
        self.trainingSettings = trainingSettings
        self.pulse = pulse
        var suspects: Set<JobID> = []
        for folder in DropFolder.allCases { suspects.formUnion(try receipts.shelf.waiting(in: folder).map(\.id)) }
        self.suspects = suspects
    }

    var system: SystemCalls { store.system }
    private var shelf: ClaimShelf { receipts.shelf }

    /// Notes an event.
    mutating func notice(_ event: WatchEvent) {
        guard case .movedIn(let folder, let name) = event, let name = SpoolPath.Name(name) else { return }
        let status = try? system.foreignStatus(SpoolLayout.drop(folder).appending(name))
        trackers[folder]?.wasMovedIn(name, status)
    }

    /// Looks into all folders and takes what is complete.
    ///
    /// - Parameters:
    ///   - result: what was taken, also when the scan ends in an error.
    ///   - waiting: why a manifest's job will not run at once, or nil.
    ///   - check: the renderer's opinion of a manifest.
    ///   - notes: what its author should know although it is accepted.
    /// - Throws: only what ends the daemon.
    mutating func scan(
        into result: inout IntakeResult, waiting: (JobManifest) -> String?,
        check: (JobManifest) throws(RendererError) -> Void, notes: (JobManifest) -> [String] = { _ in [] }
    ) throws(SpoolError) {
        fresh = []
        let now = clock.monotonic()
        paused = paused.filter { $0.value.until > now }
        if now >= nextTidying {
            nextTidying = now + configuration.rescanInterval
            try shelf.tidy { (path) throws(SpoolError) in try fingerprint(path) }
        }
        // References first: a job dropped together with its subject then finds it.
        for claim in try claims(in: .references, &result) where pulse() {
            try work(on: claim, .references, &result) { (intake, claim, result) throws(SpoolError) in
                try intake.ingest(claim, &result)
            }
        }
        var manifests: [Claim] = []
        for claim in try claims(in: .jobs, &result) {
            if let request = request(claim) {
                result.requests.append(request)
            } else if claim.key.hasSuffix(".json") {
                manifests.append(claim)
            } else {
                guard pulse() else {
                    result.hasMore = true
                    break
                }
                let message = "found '\(claim.key)', expected a manifest *.json, or <job>.cancel or <job>.retry"
                try work(on: claim, .job, &result) { (intake, claim, _) throws(SpoolError) in
                    try intake.receipts.reject(claim, kind: .job, message: message)
                }
            }
        }
        try acceptTogether(manifests, &result, waiting: waiting, check: check, notes: notes)
        try ingestDatasets(&result)
        if result.trouble == nil { result.trouble = paused.values.min { $0.until < $1.until }?.trouble }
    }

    /// Data sets come last, since they take what time there is.
    private mutating func ingestDatasets(_ result: inout IntakeResult) throws(SpoolError) {
        let datasets = try claims(in: .datasets, &result)
        if !datasets.contains(where: { $0.id == datasetCopy?.claim }) { datasetCopy = nil }
        // One after the other, since each may take many scans.
        for claim in datasets where datasetCopy.map({ $0.claim == claim.id }) ?? true {
            guard pulse() else {
                result.hasMore = true
                break
            }
            try work(on: claim, .dataset, &result) { (intake, claim, result) throws(SpoolError) in
                try intake.ingestDataset(claim, &result)
            }
        }
    }

    // MARK: - Claims

    /// Folders of photos may be large; after so many the loop looks after everything else first.
    private static let foldersAtOnce = 4
    /// How often a claim is begun at the most: twice perhaps with others, then three times by itself.
    private static let maximumTries = 5
    /// After so many refusals by the machine in one scan there is no use in going on with it.
    private static let maximumTroubles = 3

    /// The claims left from before and those made now, at most a batch of them.
    private mutating func claims(in folder: DropFolder, _ result: inout IntakeResult) throws(SpoolError) -> [Claim] {
        do throws(SpoolError) {
            if unsynced.contains(folder) { try sync(folder) }
            let waiting = try shelf.waiting(in: folder).filter { paused[$0.id] == nil }
            var claims = waiting
            let limit = folder == .jobs ? configuration.acceptBatch : Self.foldersAtOnce
            var hasNew = false
            var troubles = 0
            for name in try store.isSuspect ? [] : names(in: folder) {
                guard claims.count - waiting.count < limit, troubles < Self.maximumTroubles, pulse() else {
                    result.hasMore = true
                    break
                }
                do throws(SpoolError) {
                    guard try isComplete(name, in: folder) else {
                        result.isUnsettled = true
                        continue
                    }
                    guard let claim = try take(name, in: folder) else { continue }
                    trackers[folder]?.forget(name)
                    fresh.insert(claim.id)
                    claims.append(claim)
                    hasNew = true
                } catch {
                    try note(error, of: DropName.key(name), &result)
                    troubles += 1
                }
            }
            // Until the claims are durable nothing may follow from them: a claim that a power cut undoes would be made
            // anew, under another id.
            if hasNew {
                unsynced.insert(folder)
                try sync(folder)
            }
            return claims
        } catch {
            try note(error, of: SpoolLayout.drop(folder).string, &result)
            return []
        }
    }

    private mutating func sync(_ folder: DropFolder) throws(SpoolError) {
        try store.syncDirectory(SpoolLayout.claims(folder))
        try store.syncDirectory(SpoolLayout.drop(folder))
        unsynced.remove(folder)
    }

    /// The names in a drop folder that may be drops, owners taking turns.
    private mutating func names(in folder: DropFolder) throws(SpoolError) -> [SpoolPath.Name] {
        let path = SpoolLayout.drop(folder)
        let all = try system.list(path)
        if trackers[folder]?.isWaiting == true { trackers[folder]?.keepOnly(Set(all)) }
        let names = all.filter { !DropName.isIgnored($0.string) && !shelf.isLeftover($0, in: folder) }
        let (system, pulse) = (system, pulse)
        return try turns[folder]?.order(names) { (name) throws(SpoolError) in
            guard pulse() else { return nil }
            return try system.foreignStatus(path.appending(name))?.owner ?? 0
        } ?? names
    }

    private func take(_ name: SpoolPath.Name, in folder: DropFolder) throws(SpoolError) -> Claim? {
        let path = SpoolLayout.drop(folder).appending(name)
        return try shelf.take(name, in: folder, as: JobID(wall: clock.wall(), random: random())) {
            () throws(SpoolError) in try fingerprint(path) ?? ""
        }
    }

    /// Works on one claim. What goes wrong with it is its own: the machine's trouble makes it wait, anything else is
    /// counted, and after too many tries it is refused.
    private mutating func work(
        on claim: Claim, _ kind: Receipt.Kind, _ result: inout IntakeResult,
        _ body: (inout Intake, Claim, inout IntakeResult) throws(SpoolError) -> Void
    ) throws(SpoolError) {
        var claim = claim
        do throws(SpoolError) {
            if suspects.remove(claim.id) != nil { claim = try shelf.counted(claim) }
            guard claim.attempt <= Self.maximumTries else {
                return try refuse(claim, kind, "it was begun \(claim.attempt - 1) times without coming to an end")
            }
            try body(&self, claim, &result)
        } catch {
            try note(error, of: claim.key, &result)
            pause(claim, error)
            guard !error.isMachineTrouble else { return }
            do throws(SpoolError) {
                claim = try shelf.counted(claim)
                guard claim.attempt > Self.maximumTries else { return }
                try refuse(claim, kind, error.description)
                paused[claim.id] = nil
            } catch {
                try note(error, of: claim.key, &result)
            }
        }
    }

    /// Leaves a claim alone for a while.
    mutating func pause(_ claim: Claim, _ error: SpoolError) {
        paused[claim.id] = (clock.monotonic() + configuration.environmentPause, "\(claim.key): \(error)")
    }

    /// Refuses what cannot be dealt with in any other way; where even its receipt cannot be written, without one.
    private func refuse(_ claim: Claim, _ kind: Receipt.Kind, _ reason: String) throws(SpoolError) {
        do throws(SpoolError) {
            try receipts.reject(claim, kind: kind, message: reason)
        } catch  where !error.isFinal && !error.isMachineTrouble {
            logger.error("a drop is set aside without a receipt", metadata: ["drop": "\(claim.key)"])
            try shelf.keep(claim)
        }
    }

    /// Says what went wrong, unless it ends the daemon.
    private func note(_ error: SpoolError, of drop: String, _ result: inout IntakeResult) throws(SpoolError) {
        if error.isFinal { throw error }
        logger.error("a drop could not be dealt with yet", metadata: ["drop": "\(drop)", "error": "\(error)"])
        result.isUnsettled = true
        if result.trouble == nil { result.trouble = "\(drop): \(error)" }
    }

    /// Works on manifests with shared syncs; those that fail together, or may have ended an earlier daemon together, are
    /// tried one by one.
    private mutating func acceptTogether(
        _ manifests: [Claim], _ result: inout IntakeResult, waiting: (JobManifest) -> String?,
        check: (JobManifest) throws(RendererError) -> Void, notes: (JobManifest) -> [String]
    ) throws(SpoolError) {
        var batch: [Claim] = []
        var alone: [Claim] = []
        do throws(SpoolError) {
            for claim in manifests {
                if !suspects.contains(claim.id) {
                    batch.append(claim)
                } else if claim.attempt == 1 {
                    var next = claim
                    next.attempt = 2
                    if claim.unmoved == nil { try system.rename(claim.path, to: next.path) }
                    batch.append(next)
                    suspects.remove(claim.id)
                } else {
                    alone.append(claim)
                }
            }
            if batch.contains(where: { $0.attempt > 1 }) { try store.syncDirectory(SpoolLayout.claims(.jobs)) }
            try accept(batch, &result, waiting: waiting, check: check, notes: notes)
        } catch {
            try note(error, of: "\(batch.count) manifests", &result)
            guard !error.isMachineTrouble else { return batch.forEach { pause($0, error) } }
            suspects.formUnion(batch.map(\.id))
            alone = try shelf.waiting(in: .jobs).filter { suspects.contains($0.id) && request($0) == nil }
        }
        for claim in alone where pulse() {
            try work(on: claim, .job, &result) { (intake, claim, result) throws(SpoolError) in
                try intake.accept([claim], &result, waiting: waiting, check: check, notes: notes)
            }
        }
    }

    // MARK: - Requests

    func request(named name: String) -> (IntakeResult.Request.Kind, JobID)? {
        for kind in IntakeResult.Request.Kind.allCases where name.hasSuffix("." + kind.rawValue) {
            if let id = JobID(String(name.dropLast(kind.rawValue.count + 1))) { return (kind, id) }
        }
        return nil
    }

    private func request(_ claim: Claim) -> IntakeResult.Request? {
        request(named: claim.key).map { IntakeResult.Request(claim: claim, kind: $0.0, job: $0.1) }
    }

    /// Carries out a request; what goes wrong is counted as for any other claim.
    mutating func work(
        on request: IntakeResult.Request, _ result: inout IntakeResult,
        _ body: (Claim) throws(SpoolError) -> Void
    ) throws(SpoolError) {
        try work(on: request.claim, .request, &result) { (_, claim, _) throws(SpoolError) in try body(claim) }
    }

    // MARK: - Patience

    /// Whether there is still patience with a claim that is being written to.
    mutating func isPatient(_ claim: Claim) -> Bool {
        let now = clock.monotonic()
        let since = unsteady[claim] ?? now
        unsteady[claim] = since
        return now - since < configuration.incompleteLimit
    }

    /// A claim has come to rest.
    mutating func isSteady(_ claim: Claim) { unsteady[claim] = nil }
}
