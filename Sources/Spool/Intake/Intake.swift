import Logging
import SystemPackage

/// What a scan of the drop folders found.
struct IntakeResult: Sendable {
    /// Jobs now in `queued`.
    var jobs: [Job] = []
    /// Subjects with a new generation.
    var subjects: [SubjectRecord] = []
    /// Cancellations and retries, to be carried out and then answered.
    var requests: [Request] = []
    /// More is there than one batch takes.
    var hasMore = false
    /// Something was left to come to rest, or could not be taken yet.
    var isUnsettled = false

    struct Request: Sendable, Equatable {
        enum Kind: String, Sendable, CaseIterable { case cancel, retry }
        let claim: Claim
        let kind: Kind
        let job: JobID
    }
}

/// Takes what users drop: decides when a drop is complete, claims it, and hands it on as jobs, subjects and requests.
///
/// A claim is a rename in place. What follows is idempotent by the claim's id, so a claim found after a crash is simply
/// worked on again.
struct Intake {
    let store: DurableStore
    let jobs: JobStore
    let receipts: ReceiptBook
    let clock: SpoolClock
    let random: @Sendable () -> UInt64
    let logger: Logger
    var configuration: SpoolConfiguration
    var nextSequence = 1

    private var trackers: [DropFolder: DropTracker] = [.references: DropTracker(), .jobs: DropTracker()]
    /// When a claim was first found still being written.
    private var unsteady: [Claim: Double] = [:]
    /// The claims made by the scan at hand; no job can have their ids yet.
    private var fresh: Set<JobID> = []

    init(
        store: DurableStore, jobs: JobStore, receipts: ReceiptBook, clock: SpoolClock,
        random: @escaping @Sendable () -> UInt64, logger: Logger, configuration: SpoolConfiguration
    ) {
        self.store = store
        self.jobs = jobs
        self.receipts = receipts
        self.clock = clock
        self.random = random
        self.logger = logger
        self.configuration = configuration
    }

    var system: SystemCalls { store.system }

    /// Notes an event.
    mutating func notice(_ event: WatchEvent) {
        guard case .movedIn(let folder, let name) = event, let name = SpoolPath.Name(name) else { return }
        trackers[folder]?.wasMovedIn(name)
    }

    /// Looks into both folders and takes what is complete.
    ///
    /// - Parameters:
    ///   - waiting: why a manifest's job will not run at once, or nil.
    ///   - check: the renderer's opinion of a manifest.
    ///   - notes: what its author should know although it is accepted.
    ///   - result: what was taken, also when the scan ends in an error.
    mutating func scan(
        into result: inout IntakeResult, waiting: (JobManifest) -> String?,
        check: (JobManifest) throws(RendererError) -> Void, notes: (JobManifest) -> [String] = { _ in [] }
    ) throws(SpoolError) {
        fresh = []
        // References first: a job dropped together with its subject then finds it.
        for claim in try claims(in: .references, &result) { try ingest(claim, &result) }
        let claims = try claims(in: .jobs, &result)
        var manifests: [Claim] = []
        for claim in claims {
            if let request = request(claim) {
                result.requests.append(request)
            } else if claim.key.hasSuffix(".json") {
                manifests.append(claim)
            } else {
                let message = "found '\(claim.key)', expected a manifest *.json, or <job>.cancel or <job>.retry"
                try receipts.reject(claim, kind: .job, message: message)
            }
        }
        try accept(manifests, &result, waiting: waiting, check: check, notes: notes)
    }

    // MARK: - What is complete

    /// Folders of photos may be large; after so many the loop looks after everything else first.
    private static let foldersAtOnce = 4

    /// The claims left from before and those made now, at most a batch.
    private mutating func claims(in folder: DropFolder, _ result: inout IntakeResult) throws(SpoolError) -> [Claim] {
        let path = SpoolLayout.drop(folder)
        let names = try system.list(path)
        if trackers[folder]?.isWaiting == true { trackers[folder]?.keepOnly(Set(names)) }
        var claims: [Claim] = []
        var hasNew = false
        let limit = folder == .jobs ? configuration.acceptBatch : Self.foldersAtOnce
        for name in names {
            let leftover = Claim(name.string, in: folder)
            if leftover == nil, DropName.isIgnored(name.string) { continue }
            guard claims.count < limit else {
                result.hasMore = true
                break
            }
            if let leftover {
                claims.append(leftover)
            } else {
                guard try isComplete(name, in: folder) else {
                    result.isUnsettled = true
                    continue
                }
                let claim = Claim(
                    id: JobID(wall: clock.wall(), random: random()), key: DropName.key(name), folder: folder)
                do throws(SpoolError) {
                    try system.rename(path.appending(name), to: claim.path)
                } catch  where error.errno == .noSuchFileOrDirectory {
                    continue
                }
                trackers[folder]?.forget(name)
                claims.append(claim)
                fresh.insert(claim.id)
                hasNew = true
            }
        }
        // Until the claims are durable nothing may follow from them: a claim that a power cut undoes would be made anew,
        // under another id.
        if hasNew { try store.syncDirectory(path) }
        return claims
    }

    private mutating func isComplete(_ name: SpoolPath.Name, in folder: DropFolder) throws(SpoolError) -> Bool {
        let path = SpoolLayout.drop(folder).appending(name)
        guard let status = try system.statusIfAny(path) else { return false }
        // Links, pipes and devices never become anything else.
        guard status.kind == .regular || status.kind == .folder else { return true }
        if trackers[folder]?.isExplicit(name) == true { return true }
        switch folder {
        case .jobs:
            if request(named: name.string) != nil { return true }
            if status.kind == .regular, name.string.hasSuffix(".json") {
                if try isFinal(manifest: path) { return true }
                return try rest(name, folder, status) >= configuration.incompleteLimit
            }
            return try rest(name, folder, status) >= configuration.settleTime
        case .references:
            if status.kind == .folder, try system.foreignStatus(path.appending(".ready")) != nil { return true }
            let rest = try rest(name, folder, status)
            guard rest >= configuration.settleTime else { return false }
            let whole: Bool
            if let known = trackers[folder]?.isWhole(name) { whole = known } else { whole = try isWhole(path, status) }
            trackers[folder]?.noteWhole(name, whole)
            return whole || rest >= configuration.incompleteLimit
        }
    }

    private mutating func rest(
        _ name: SpoolPath.Name, _ folder: DropFolder, _ status: SystemCalls.FileStatus
    ) throws(SpoolError) -> Double {
        let path = SpoolLayout.drop(folder).appending(name)
        var lines = [line(name, status)]
        if status.kind == .folder {
            let names = try listIfAny(path)
            // Far more files than are allowed: their number is fingerprint enough for a rejection.
            lines.append(String(names.count))
            for inner in names.prefix(4 * configuration.references.files) {
                if let status = try system.foreignStatus(path.appending(inner)) { lines.append(line(inner, status)) }
            }
        }
        let fingerprint = Digest.sha256(lines.joined(separator: "\n"))
        return trackers[folder]?.rest(of: name, fingerprint: fingerprint, now: clock.monotonic()) ?? 0
    }

    private func line(_ name: SpoolPath.Name, _ status: SystemCalls.FileStatus) -> String {
        "\(name.string) \(status.inode) \(status.size) \(status.modified)"
    }

    /// The names in a folder that its owner may take away at any moment.
    func listIfAny(_ path: SpoolPath) throws(SpoolError) -> [SpoolPath.Name] {
        do throws(SpoolError) {
            return try system.list(path)
        } catch  where error.isForeign {
            return []
        }
    }

    /// Whether more bytes could not make a manifest any better: it is whole, or wrong before its end.
    private func isFinal(manifest path: SpoolPath) throws(SpoolError) -> Bool {
        var bytes: [UInt8] = []
        let refusal = try system.readForeign(path, limit: JSONReader.maximumSize) { bytes.append(contentsOf: $0) }
        switch refusal {
        case nil: break
        case .changedWhileRead: return false
        default: return true
        }
        do throws(JSONError) {
            _ = try JSONReader.read(bytes)
            return true
        } catch {
            // Copying programs that reserve the space first leave zeros where the rest will be.
            return !error.isTruncation && !bytes.contains(0)
        }
    }

    private func isWhole(_ path: SpoolPath, _ status: SystemCalls.FileStatus) throws(SpoolError) -> Bool {
        let files = status.kind == .folder ? try listIfAny(path).map { path.appending($0) } : [path]
        for file in files.prefix(configuration.references.files) {
            guard let status = try system.foreignStatus(file), status.kind == .regular else { continue }
            switch try examine(file) {
            case .failure(.incomplete), .failure(.changing): return false
            default: continue
            }
        }
        return true
    }

    /// Reads and examines an image; a file that cannot be read counts as refused.
    func examine(_ path: SpoolPath) throws(SpoolError) -> Result<(ImageFile, [UInt8]), ImageFile.Fault> {
        var bytes: [UInt8] = []
        let refusal = try system.readForeign(path, limit: configuration.references.fileBytes) {
            bytes.append(contentsOf: $0)
        }
        switch refusal {
        case nil: break
        case .changedWhileRead: return .failure(.changing)
        case .some(let refusal):
            let (found, expected) = Self.words(refusal)
            return .failure(.refused(found: found, expected: expected))
        }
        return Result { () throws(ImageFile.Fault) in
            (try ImageFile.examine(bytes, limits: configuration.references), bytes)
        }
    }

    static func words(_ refusal: SystemCalls.Refusal) -> (found: String, expected: String) {
        switch refusal {
        case .notRegular(.symbolicLink): ("a symbolic link", "a plain file")
        case .notRegular(.folder): ("a folder", "a plain file")
        case .notRegular: ("a pipe, socket or device", "a plain file")
        case .severalLinks(let count): ("a file with \(count) hard links", "a file with one name")
        case .tooLarge(let size, let limit): ("\(size) bytes", "at most \(limit)")
        case .changedWhileRead: ("a file that is still being written", "a finished one")
        case .cannotOpen(let errno): ("a file that cannot be read (\(errno))", "one the daemon may read")
        }
    }

    // MARK: - Requests

    private func request(named name: String) -> (IntakeResult.Request.Kind, JobID)? {
        for kind in IntakeResult.Request.Kind.allCases where name.hasSuffix("." + kind.rawValue) {
            if let id = JobID(String(name.dropLast(kind.rawValue.count + 1))) { return (kind, id) }
        }
        return nil
    }

    private func request(_ claim: Claim) -> IntakeResult.Request? {
        request(named: claim.key).map { IntakeResult.Request(claim: claim, kind: $0.0, job: $0.1) }
    }

    // MARK: - Manifests

    private enum Verdict {
        case accept(Job, bytes: [UInt8])
        case known(JobID, message: String)
        case reject(message: String, faults: [ManifestError.Fault])
        case later
    }

    private mutating func accept(
        _ claims: [Claim], _ result: inout IntakeResult, waiting: (JobManifest) -> String?,
        check: (JobManifest) throws(RendererError) -> Void, notes: (JobManifest) -> [String]
    ) throws(SpoolError) {
        var answers: [(Claim, Receipt)] = []
        var drafts: [(draft: DurableStore.Draft, destination: SpoolPath)] = []
        var accepted: [Job] = []
        defer { for (draft, _) in drafts { store.discard(draft.path) } }
        for claim in claims {
            switch try judge(claim, beside: accepted, &result, check: check) {
            case .accept(var job, let bytes):
                let reason = waiting(job.manifest)
                job.record.isAnnouncedAsWaiting = reason != nil
                var draft = try store.draft()
                try store.add(JobStore.manifestFile, bytes, to: &draft)
                try store.add(JobStore.recordFile, Array(job.record.json.text().utf8), to: &draft)
                drafts.append((draft, SpoolLayout.job(job.id, .queued)))
                accepted.append(job)
                var receipt = receipts.make(
                    claim, .job, reason == nil ? .accepted : .waiting, message: reason ?? "queued")
                receipt.notes = notes(job.manifest)
                answers.append((claim, receipt))
            case .known(let id, let message):
                answers.append((claim, receipts.make(claim, .job, .accepted, id: id, message: message)))
            case .reject(let message, let faults):
                try receipts.reject(claim, kind: .job, message: message, faults: faults)
            case .later: result.isUnsettled = true
            }
        }
        try store.publish(drafts)
        drafts = []
        result.jobs += accepted
        try receipts.answer(answers)
        for job in accepted {
            logger.info(
                "job accepted",
                metadata: ["job": "\(job.id)", "drop": "\(job.record.drop)", "images": "\(job.manifest.imageCount)"])
        }
    }

    private mutating func judge(
        _ claim: Claim, beside batch: [Job], _ result: inout IntakeResult,
        check: (JobManifest) throws(RendererError) -> Void
    ) throws(SpoolError) -> Verdict {
        if !fresh.contains(claim.id), let state = try jobs.locate(claim.id) {
            // Accepted before a crash or a failing sync; whoever keeps the queue may not have heard of it.
            if state == .queued { result.jobs.append(try jobs.load(claim.id, state)) }
            return .known(claim.id, message: state.rawValue)
        }
        guard DropName.isPlain(claim.key) else {
            return .reject(
                message: "found the name '\(claim.key)', expected \(Schema.StringPattern.name.expectation)", faults: [])
        }
        var bytes: [UInt8] = []
        let refusal = try system.readForeign(claim.path, limit: JSONReader.maximumSize) { bytes.append(contentsOf: $0) }
        switch refusal {
        case nil: unsteady[claim] = nil
        case .changedWhileRead where isPatient(claim): return .later
        case .some(let refusal):
            let (found, expected) = Self.words(refusal)
            return .reject(message: "found \(found), expected \(expected)", faults: [])
        }
        let manifest: JobManifest
        do throws(ManifestError) {
            manifest = try JobManifest.parse(bytes)
        } catch {
            let more = error.faults.count > 1 ? " and \(error.faults.count - 1) more" : ""
            return .reject(message: "\(error.faults[0])\(more)", faults: error.faults)
        }
        do throws(RendererError) {
            try check(manifest)
        } catch .rejected(let field, let message) {
            return .reject(message: field.map { "\($0): \(message)" } ?? message, faults: [])
        } catch {
            // Anything else may have passed by the time the job runs.
        }
        let digest = Digest.sha256(bytes)
        if let key = manifest.idempotencyKey, let owner = try owner(of: key, claim, beside: batch) {
            if owner.digest == digest { return .known(owner.id, message: "its idempotency_key names this job already") }
            return .reject(
                message: """
                    $.idempotency_key: found '\(key)', which names job \(owner.id) with another manifest, \
                    expected the same manifest or a new key
                    """,
                faults: [])
        }
        let record = JobRecord(
            id: claim.id, sequence: nextSequence, drop: claim.key, accepted: Timestamp(clock.wall()).text,
            seed: manifest.seed ?? Int(random() & 0xFFFF_FFFF), manifestDigest: digest)
        nextSequence += 1
        return .accept(Job(record: record, manifest: manifest), bytes: bytes)
    }

    /// Whether there is still patience with a claim that is being written to.
    mutating func isPatient(_ claim: Claim) -> Bool {
        let now = clock.monotonic()
        let since = unsteady[claim] ?? now
        unsteady[claim] = since
        return now - since < configuration.incompleteLimit
    }

    /// The job an idempotency key belongs to and its manifest's digest, when that is not this claim's. The key is bound to
    /// the claim's id before the job exists; after a crash in between, the claim's replay finds its own id. A key whose
    /// job is no longer kept is free.
    private func owner(
        of key: String, _ claim: Claim, beside batch: [Job]
    ) throws(SpoolError) -> (id: JobID, digest: String)? {
        let path = SpoolLayout.keys.appending(Digest.sha256(key))
        let mine = Array(claim.id.text.utf8)
        do throws(SpoolError) {
            try store.publish(mine, at: path, replacing: false)
            return nil
        } catch  where error.errno == .fileExists {
            guard let owner = JobID(String(decoding: try system.read(path, limit: 256), as: UTF8.self)) else {
                throw SpoolError(.damaged, operation: "read", path: path.string, detail: "expected a job id")
            }
            if owner == claim.id { return nil }
            if let job = batch.first(where: { $0.id == owner }) { return (owner, job.record.manifestDigest) }
            if let state = try jobs.locate(owner) { return (owner, try jobs.load(owner, state).record.manifestDigest) }
            try store.publish(mine, at: path, replacing: true)
            return nil
        }
    }
}
