import Logging
import SystemPackage

/// The worker's side of the loop: what it is given, and what becomes of what it made.
extension SpoolLoop {
    func assign(_ work: QueueMachine.Work) throws(SpoolError) {
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
        let (number, mailbox, renderer, store, state) = (assignmentNumber, mailbox, renderer, store, workerState)
        try worker.run {
            let result = Result { () throws(RendererError) in
                try assignment.perform(
                    renderer, store.system, progress: { state.report($0) },
                    shouldYield: { state.shouldYield }, shouldStop: { state.shouldStop })
            }.mapError { store.naming($0, inSet: assignment.references) }
            if case .failure = result {
                for temporary in assignment.temporaries { store.discard(temporary) }
                if case .cache(let order) = assignment {
                    store.discard(SpoolPath(CutOuts.folder(beside: order.temporary.string)))
                }
            }
            mailbox.post(.worked(number, result))
        }
    }

    enum AssignmentRefusal: Error {
        case storage(SpoolError)
        case manifest(RendererError)
    }

    func prepare(_ work: QueueMachine.Work) throws(AssignmentRefusal) -> Assignment {
        switch work {
        case .encode(let subject):
            guard let generation = subjects[subject]?.current else {
                throw .storage(SpoolError(.unknown, operation: "encode", path: subject))
            }
            encoding = (subject, generation)
            return .cache(
                try order(
                    subject, generation.references, chosen: nil, field: nil, model: nil, settings: CacheSettings()))
        case .job(_, let step):
            guard let job = current else { throw .storage(SpoolError(.unknown, operation: "render")) }
            switch step {
            case .cache(let index):
                return .cache(try order(job, subject: index))
            case .image(let index):
                let steps = job.manifest.inferenceSteps * job.manifest.candidatesPerImage
                let kept = machine.jobs[job.id]?.entry.point.step ?? 0
                status.imageBegan(holding: Double(kept) / Double(max(1, steps)), now: now)
                if let training = job.manifest.training { return .training(try order(job, training)) }
                return .image(try order(job, image: index))
            case .grid, .publish: return .sheets(try sheets(job))
            }
        }
    }

    private func order(_ job: Job, _ training: TrainingOrder) throws(AssignmentRefusal) -> AdapterOrder {
        guard let dataset = job.record.dataset, let folder = jobs.workFolder(of: job, .active) else {
            throw .storage(SpoolError(.unknown, operation: "train", path: job.id.text))
        }
        // Before anything lies in it, so that no power cut takes the whole of it.
        do throws(SpoolError) { try store.ensureDirectory(folder) } catch { throw .storage(error) }
        let files = SpoolLayout.datasetFolder(dataset.digest).appending(DatasetList.filesFolder)
        let temporary = store.temporary("\(job.id).\(job.manifest.fileName(image: 0))")
        let request = TrainingRequest(
            job: job.id.text, model: job.manifest.model, order: training, dataset: store.system.absolute(files),
            folder: store.system.absolute(folder), output: store.system.absolute(temporary))
        return AdapterOrder(
            request: request, checkpoint: slot(job, image: 0), dataset: dataset, folder: folder, temporary: temporary)
    }

    private func order(_ job: Job, image index: Int) throws(AssignmentRefusal) -> ImageOrder {
        let name = job.manifest.fileName(image: index)
        let temporary = store.temporary("\(job.id).\(name)")
        var orders: [CacheOrder] = []
        if job.manifest.select?.criterion.needsPhotos == true {
            for subject in job.manifest.subjects.indices { orders.append(try order(job, subject: subject)) }
        }
        let names = AttentionRequest.fileNames(beside: name)
        let beside = [names.overlay, names.maps].map { store.temporary("\(job.id).\($0)") }
        let attention: AttentionRequest? =
            job.manifest.output.attention
            ? AttentionRequest(
                references: try references(job), overlay: store.system.absolute(beside[0]),
                maps: store.system.absolute(beside[1])) : nil
        let request = RenderRequest(
            job: job.id.text, manifest: job.manifest, image: job.plan(image: index), caches: uses(job),
            initialImage: initialImage(job),
            photos: orders.flatMap { order in
                order.references.map { GridRequest.Reference(subject: order.subject, path: $0) }
            }, output: store.system.absolute(temporary), identity: job.record.identity, attention: attention,
            tuning: job.record.tuning)
        return ImageOrder(
            request: request, checkpoint: slot(job, image: index), initial: job.record.initialImage, photos: orders,
            temporary: temporary, beside: attention == nil ? [] : beside)
    }

    func uses(_ job: Job) -> [CacheUse] {
        zip(job.manifest.subjects, job.record.caches).map { use, binding in
            CacheUse(
                subject: use.name, imageScale: use.imageScale ?? job.manifest.imageScale,
                path: store.system.absolute(SpoolLayout.cache(binding.cache ?? "")))
        }
    }

    func initialImage(_ job: Job) -> InitialImage? {
        job.record.initialImage.map {
            InitialImage(
                path: store.system.absolute(SpoolLayout.referenceSet($0.references).appending($0.file)),
                sha256: $0.sha256)
        }
    }

    func order(_ job: Job, subject index: Int) throws(AssignmentRefusal) -> CacheOrder {
        let use = job.manifest.subjects[index]
        return try order(
            use.name, job.record.caches[index].references, chosen: use.references,
            field: "$.subjects[\(index)].references", model: job.manifest.model, settings: job.manifest.cache)
    }

    func order(
        _ subject: String, _ digest: String, chosen: [String]?, field: String?, model: String?, settings: CacheSettings
    ) throws(AssignmentRefusal) -> CacheOrder {
        let folder = SpoolLayout.referenceSet(digest)
        let set: ReferenceSet
        do throws(SpoolError) { set = try store.referenceSet(digest) } catch { throw .storage(error) }
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
            imageDigests: images.map(\.sha256), set: digest, files: images + masks,
            digests: images.map(\.sha256) + ["masks"] + masks.map(\.sha256),
            model: model, settings: settings, temporary: store.temporary("\(subject).dcache"))
    }

    func slot(_ job: Job, image: Int) -> CheckpointSlot {
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

    func commit(_ work: QueueMachine.Work) throws(SpoolError) {
        guard let outcome else { return }
        self.outcome = nil
        switch (work, outcome) {
        case (.encode(let subject), .cache(let key, let temporary)):
            try publishCache(key, temporary)
            try encoded(subject, key)
        case (.job(let id, .cache(let index)), .cache(let key, let temporary)):
            try publishCache(key, temporary)
            guard var job = current, job.id == id, job.record.caches[index].cache != key else { return }
            let hasChanged = !job.record.images.isEmpty
            // A job that is held for its old model stays bound to that one's cache.
            if !hasChanged || configuration.onModelChange == .restart {
                job.record.caches[index].cache = key
                try jobs.save(job, .active)
                current = job
            }
            if hasChanged {
                changes[id] = Self.changeReason
                throw SpoolError(.changed, operation: "commit", path: id.text)
            }
        case (.job(let id, .image), .image(let report, let temporary, let beside)):
            guard var job = current, job.id == id else { return }
            try jobs.commitImage(&job, temporary, beside: beside, report: report)
            current = job
            if let tuning = report.tuning { try tell(tuning, to: job) }
            status.imageEnded(now: now)
            logger.info("image done", metadata: ["job": "\(id)", "image": "\(job.record.images.count - 1)"])
        case (.job(let id, .image), .adapter(let metadata, let temporary, let files)):
            guard var job = current, job.id == id else { return }
            try jobs.commitAdapter(&job, temporary, files: files, metadata: metadata)
            current = job
            logger.info("adapter trained", metadata: ["job": "\(id)"])
        case (.job(let id, .grid), .sheets(let grid, let page)):
            guard var job = current, job.id == id else { return }
            try jobs.commitSheets(&job, grid: grid, page: page)
            current = job
            for (name, sheet) in [("contact sheet", grid), ("page", page)] {
                guard case .failed(let reason) = sheet else { continue }
                logger.warning("a set has no \(name)", metadata: ["job": "\(id)", "reason": "\(reason)"])
            }
        default: break
        }
    }

    /// What a pilot has chosen stands in the job's receipt.
    private func tell(_ tuning: Tuning, to job: Job) throws(SpoolError) {
        guard var receipt = try receipts.read(job.record.drop), receipt.id == job.id, receipt.state == .accepted else {
            return
        }
        receipt.message = "started; \(tuning.summary)"
        receipt.time = stamp
        try receipts.write(receipt)
    }

    /// The model behind a name has changed since the first images of a set were made. A set is made with one model.
    private static let changeReason = "the model is not the one its first pictures were made with"

    func publishCache(_ key: String, _ temporary: SpoolPath?) throws(SpoolError) {
        guard let temporary else { return }
        defer { store.discard(temporary) }
        try store.publishCutOuts(key, madeWith: temporary)
        try store.syncFile(temporary)
        // A cache that is there already is the same: equal keys mean equal caches.
        try store.move(temporary, to: SpoolLayout.cache(key), replacing: true)
    }

    /// The references of a subject are encoded: its record, its link and its receipts say so.
    func encoded(_ subject: String, _ key: String) throws(SpoolError) {
        guard var record = subjects[subject], let done = generationAtWork(of: subject),
            let index = record.generations.firstIndex(where: { $0.number == done.number })
        else { return }
        // The record comes last: while it says "pending", a crash has all of this done again.
        try store.link(subject, toCache: key)
        let remarks = try store.remarks(key, ofSet: done.references)
        try answer(subject, record.generations[index]) { receipt in
            receipt.state = .accepted
            receipt.message = "encoded as \(SpoolLayout.cacheLink(subject))"
            if receipt.keptAt != nil { receipt.message += "; some files were not used" }
            for remark in remarks { receipt.message += "; \(remark)" }
        }
        record.generations[index].state = .ready(cache: key)
        record.generations[index].attempts = 0
        try answerReplaced(&record, before: index)
        try store.publish(record.json, at: SpoolLayout.subject(subject), replacing: true)
        subjects[subject] = record
        logger.info("references encoded", metadata: ["subject": "\(subject)", "generation": "\(done.number)"])
        // A newer generation may have come meanwhile.
        announce(record)
    }

    /// Generations that were never encoded because a later one was: nothing will ever be done for them.
    private func answerReplaced(_ record: inout SubjectRecord, before index: Int) throws(SpoolError) {
        let reason = "replaced by references that were dropped later, before these were encoded"
        for older in record.generations.indices.prefix(index) where record.generations[older].state == .pending {
            try answer(record.name, record.generations[older]) { receipt in
                receipt.state = .accepted
                receipt.message = reason
            }
            record.generations[older].state = .rejected(reason: reason)
        }
    }

    func rejectSubject(_ subject: String, _ reason: String) throws(SpoolError) {
        guard var record = subjects[subject], let refused = generationAtWork(of: subject),
            let index = record.generations.firstIndex(where: { $0.number == refused.number })
        else { return }
        try answer(subject, record.generations[index]) { receipt in
            receipt.state = .rejected
            receipt.message = reason
            receipt.keptAt = SpoolLayout.referenceSet(refused.references).string
        }
        record.generations[index].state = .rejected(reason: reason)
        try store.publish(record.json, at: SpoolLayout.subject(subject), replacing: true)
        subjects[subject] = record
        logger.warning("references rejected", metadata: ["subject": "\(subject)", "reason": "\(reason)"])
        announce(record)
    }

    func holdSubject(_ subject: String, _ reason: String) throws(SpoolError) {
        guard let generation = generationAtWork(of: subject) else { return }
        try answer(subject, generation) { $0.message = "waiting to be encoded: \(reason)" }
    }

    /// The generation of a subject that was given to the worker, or else its newest.
    private func generationAtWork(of subject: String) -> SubjectRecord.Generation? {
        if let encoding, encoding.subject == subject { return encoding.generation }
        return subjects[subject]?.current
    }

    /// Changes the receipts of a generation: its drop's, and those of the same pictures dropped under other names.
    private func answer(
        _ subject: String, _ generation: SubjectRecord.Generation, _ change: (inout Receipt) -> Void
    ) throws(SpoolError) {
        for drop in [generation.drop] + generation.furtherDrops {
            var receipt: Receipt
            if let known = try receipts.read(drop) {
                guard known.speaks(of: subject, generation) else { continue }
                receipt = known
            } else {
                receipt = Receipt(
                    drop: drop, kind: .references, state: .waiting, id: generation.dropID, message: "", time: stamp)
                receipt.subject = subject
                receipt.generation = generation.number
            }
            change(&receipt)
            receipt.time = stamp
            try receipts.write(receipt)
        }
    }
}

/// When an image's last checkpoint was kept; touched by the worker's thread alone.
private final class LastCheckpoint: @unchecked Sendable {
    var time: Double
    init(_ time: Double) { self.time = time }
}

extension Receipt {
    /// Whether it is the answer to a drop of that generation; the same references dropped twice have two ids.
    fileprivate func speaks(of subject: String, _ generation: SubjectRecord.Generation) -> Bool {
        kind == .references && self.subject == subject && self.generation == generation.number
    }
}
