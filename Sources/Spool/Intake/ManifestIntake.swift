import Logging
import SystemPackage

/// Manifests: from a claimed file to `lib/jobs/queued/<id>/` and a receipt.
extension Intake {
    private enum Verdict {
        case accept(Job, bytes: [UInt8])
        case known(JobID, message: String)
        case reject(message: String, faults: [ManifestError.Fault])
        case later
    }

    mutating func accept(
        _ claims: [Claim], _ result: inout IntakeResult, waiting: (JobManifest) -> String?,
        check: (JobManifest) throws(RendererError) -> Void, notes: (JobManifest) -> [String]
    ) throws(SpoolError) {
        var answers: [(Claim, Receipt)] = []
        var drafts: [(draft: DurableStore.Draft, destination: SpoolPath)] = []
        var accepted: [Job] = []
        defer { for (draft, _) in drafts { store.discard(draft.path) } }
        for claim in claims {
            guard pulse() else {
                result.hasMore = true
                break
            }
            switch try judge(claim, beside: accepted, &result, check: check) {
            case .accept(let job, let bytes):
                let reason = waiting(job.manifest)
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
            if state == .queued, let job = try jobs.loadIfSound(claim.id, state) { result.jobs.append(job) }
            return .known(claim.id, message: state.rawValue)
        }
        guard DropName.isPlain(claim.key) else {
            return .reject(
                message:
                    "found the name '\(Self.droppedName(claim.key)?.printable ?? claim.key)', expected \(Schema.StringPattern.name.expectation)",
                faults: [])
        }
        guard let status = try system.statusIfAny(claim.path) else { return .later }
        var bytes: [UInt8] = []
        let refusal = try system.readForeign(claim.path, limit: JSONReader.maximumSize) { bytes.append(contentsOf: $0) }
        switch refusal {
        case nil: isSteady(claim)
        case .changedWhileRead where isPatient(claim): return .later
        case .some(let refusal):
            let (found, expected) = Self.words(refusal)
            return .reject(message: "found \(found), expected \(expected)", faults: [])
        }
        let manifest: JobManifest
        do throws(ManifestError) {
            manifest = try JobManifest.parse(bytes, settings: trainingSettings)
        } catch {
            let more = error.faults.count > 1 ? " and \(error.faults.count - 1) more" : ""
            let first = error.faults.first.map { "\($0)" } ?? "found no manifest"
            return .reject(message: first + more, faults: error.faults)
        }
        do throws(RendererError) {
            try check(manifest)
        } catch {
            // Anything else may have passed by the time the job runs.
            if case .rejected = error { return .reject(message: error.description, faults: []) }
        }
        let digest = Digest.sha256(bytes)
        let key = manifest.idempotencyKey.map { OwnedKey(owner: status.owner, key: $0) }
        if let key, let verdict = try judge(key, digest, claim, beside: batch) { return verdict }
        let record = JobRecord(
            id: claim.id, sequence: nextSequence, drop: claim.key, accepted: Timestamp(clock.wall()).text,
            seed: manifest.seed ?? Int(random() & 0xFFFF_FFFF), manifestDigest: digest, owner: status.owner)
        nextSequence += 1
        if let key { keyOwners?[key] = claim.id }
        return .accept(Job(record: record, manifest: manifest), bytes: bytes)
    }

    // MARK: - Idempotency keys

    private mutating func judge(
        _ key: OwnedKey, _ digest: String, _ claim: Claim, beside batch: [Job]
    ) throws(SpoolError) -> Verdict? {
        guard let owner = try owner(of: key, claim, beside: batch) else { return nil }
        // Where the other's manifest cannot be read any more, the key still names that job.
        if owner.digest == nil || owner.digest == digest {
            return .known(owner.id, message: "its idempotency_key names this job already")
        }
        return .reject(
            message: """
                $.idempotency_key: found '\(key.key)', which names job \(owner.id) with another manifest, \
                expected the same manifest or a new key
                """,
            faults: [])
    }

    /// The job an idempotency key belongs to and its manifest's digest, when that is not this claim's. The key is bound to
    /// the claim's id before the job exists; after a crash in between, the claim's replay finds its own id. A key whose
    /// job is no longer kept is free.
    private mutating func owner(
        of key: OwnedKey, _ claim: Claim, beside batch: [Job]
    ) throws(SpoolError) -> (id: JobID, digest: String?)? {
        func kept(_ id: JobID) throws(SpoolError) -> (id: JobID, digest: String?)? {
            if let job = batch.first(where: { $0.id == id }) { return (id, job.record.manifestDigest) }
            guard let state = try jobs.locate(id) else { return nil }
            return (id, try jobs.manifestDigest(id, state))
        }
        let path = SpoolLayout.key(key)
        let named = try system.statusIfAny(path) == nil ? nil : try store.keyOwner(path)
        if named == claim.id { return nil }
        if let named, let owner = try kept(named) { return owner }
        // Its file is missing or damaged, or the key is new or free: the manifests know.
        if keyOwners == nil { keyOwners = try jobs.keyOwners() }
        if let id = keyOwners?[key] ?? keyOwners?[OwnedKey(owner: nil, key: key.key)], id != claim.id,
            let owner = try kept(id)
        {
            try store.publish(Array(id.text.utf8), at: path, replacing: true)
            return owner
        }
        try store.publish(Array(claim.id.text.utf8), at: path, replacing: true)
        return nil
    }
}
