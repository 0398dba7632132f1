import SystemPackage

/// A job as its folder holds it.
struct Job: Sendable, Equatable {
    var record: JobRecord
    let manifest: JobManifest

    var id: JobID { record.id }
    func plan(image index: Int) -> ImagePlan { manifest.plan(image: index, seed: record.seed) }
    var isRendered: Bool { record.images.count == manifest.imageCount }
}

/// The transitions of jobs, each one atomic rename: `lib/jobs/<state>/<id>/`.
///
/// A folder holds `manifest.json` as dropped, `job.json` (`JobRecord`), `set/` while it is being made, `checkpoint`,
/// `progress.json` and, for a job that failed, `reason.json`.
struct JobStore: Sendable {
    let store: DurableStore

    static let manifestFile = "manifest.json"
    static let recordFile = "job.json"
    static let setFolder = "set"
    static let reasonFile = "reason.json"
    static let progressFile = "progress.json"
    static let resultFile = "result.json"

    /// The ids in a state's folder; names there that are no ids are left out.
    func list(_ state: JobState) throws(SpoolError) -> [JobID] {
        try store.system.list(state.folder).compactMap { JobID($0.string) }
    }

    /// The state of a job, or nil when there is none of that id.
    func locate(_ id: JobID) throws(SpoolError) -> JobState? {
        for state in JobState.allCases where try store.system.statusIfAny(SpoolLayout.job(id, state)) != nil {
            return state
        }
        return nil
    }

    /// Reads a job; `.damaged` when its folder does not hold what it should.
    ///
    /// - Parameter withImages: false leaves out the records of its images, which can be made again.
    func load(_ id: JobID, _ state: JobState, withImages: Bool = true) throws(SpoolError) -> Job {
        let folder = SpoolLayout.job(id, state)
        let bytes: [UInt8]
        let document: JSON
        do throws(SpoolError) {
            bytes = try store.system.read(folder.appending(Self.manifestFile), limit: JSONReader.maximumSize)
            document = try store.readJSON(folder.appending(Self.recordFile))
        } catch {
            // A folder without its files is as damaged as one with false ones; a failing disk is another matter.
            let absent: [Errno] = [.noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels, .isDirectory]
            guard let errno = error.errno, absent.contains(errno) else {
                throw error
            }
            throw SpoolError(.damaged, operation: "read", path: error.path, detail: "the file is not there")
        }
        guard var record = JobRecord(document), record.id == id else {
            throw SpoolError(.damaged, operation: "read", path: folder.appending(Self.recordFile).string)
        }
        if withImages, let images = try ImagePages(store, of: folder).read() ?? JobRecord.inlineImages(document) {
            record.images = images
        }
        guard record.manifestDigest == Digest.sha256(bytes) else {
            throw SpoolError(
                .damaged, operation: "read", path: folder.appending(Self.manifestFile).string,
                detail: "it is not the manifest that was accepted")
        }
        let manifest: JobManifest
        do throws(ManifestError) {
            manifest = try JobManifest.parse(bytes)
        } catch {
            throw SpoolError(
                .damaged, operation: "read", path: folder.appending(Self.manifestFile).string, detail: error.description
            )
        }
        guard record.images.count <= manifest.imageCount else {
            throw SpoolError(
                .damaged, operation: "read", path: folder.appending(Self.recordFile).string, detail: "too many images")
        }
        return Job(record: record, manifest: manifest)
    }

    /// How many images of a job are done; it costs no more for ten thousand of them.
    func imageCount(_ id: JobID, _ state: JobState) throws(SpoolError) -> Int {
        let folder = SpoolLayout.job(id, state)
        if let count = try ImagePages(store, of: folder).count() { return count }
        return JobRecord.inlineImages(try store.readJSON(folder.appending(Self.recordFile)))?.count ?? 0
    }

    /// Reads a job, or nil when its folder does not hold what it should.
    func loadIfSound(_ id: JobID, _ state: JobState) throws(SpoolError) -> Job? {
        do throws(SpoolError) {
            return try load(id, state)
        } catch  where error.code == .damaged {
            return nil
        }
    }

    /// SHA-256 of a job's manifest, whatever has become of its record; nil when it cannot be read.
    func manifestDigest(_ id: JobID, _ state: JobState) throws(SpoolError) -> String? {
        do throws(SpoolError) {
            return Digest.sha256(try store.system.read(manifestPath(id, state), limit: JSONReader.maximumSize))
        } catch  where error.tellsOfDamage {
            return nil
        }
    }

    /// The idempotency key in a job's manifest, whatever has become of its record.
    func idempotencyKey(_ id: JobID, _ state: JobState) -> String? {
        let bytes = try? store.system.read(manifestPath(id, state), limit: JSONReader.maximumSize)
        return bytes.flatMap { try? JobManifest.parse($0) }?.idempotencyKey
    }

    /// The job of each idempotency key, found by reading the manifests of all jobs. Of two jobs with one key the later has it:
    /// the earlier was gone when it came.
    func keyOwners() throws(SpoolError) -> [OwnedKey: JobID] {
        var owners: [OwnedKey: JobID] = [:]
        for state in JobState.allCases {
            for id in try list(state) {
                let job = try loadIfSound(id, state)
                guard let text = job.map(\.manifest.idempotencyKey) ?? idempotencyKey(id, state) else { continue }
                let key = OwnedKey(owner: job?.record.owner, key: text)
                owners[key] = max(owners[key] ?? id, id)
            }
        }
        return owners
    }

    private func manifestPath(_ id: JobID, _ state: JobState) -> SpoolPath {
        SpoolLayout.job(id, state).appending(Self.manifestFile)
    }

    /// Brings a job's folder of the layout before this one to this one: its images move out of `job.json`.
    func upgrade(_ id: JobID, _ state: JobState) throws(SpoolError) {
        let folder = SpoolLayout.job(id, state)
        guard try store.system.statusIfAny(folder.appending(ImagePages.folderName)) == nil,
            let job = try loadIfSound(id, state), !job.record.images.isEmpty
        else { return }
        try ImagePages(store, of: folder).replace(job.record.images)
        try save(job, state)
    }

    /// Keeps a changed record.
    func save(_ job: Job, _ state: JobState) throws(SpoolError) {
        try store.publish(
            job.record.json, at: SpoolLayout.job(job.id, state).appending(Self.recordFile), replacing: true)
    }

    /// Moves a job from one state to another.
    func move(_ id: JobID, from: JobState, to: JobState) throws(SpoolError) {
        try store.move(SpoolLayout.job(id, from), to: SpoolLayout.job(id, to))
    }

    /// Moves a job to where it ends, with the reason inside.
    func end(_ id: JobID, from: JobState, to: JobState, reason: String, time: String) throws(SpoolError) {
        if try store.system.status(SpoolLayout.job(id, from)).kind == .folder {
            try write(reason: reason, of: id, in: from, ending: to, time: time)
        }
        try move(id, from: from, to: to)
    }

    /// Writes why a job ends, or ended.
    func write(
        reason: String, of id: JobID, in state: JobState, ending: JobState, time: String
    ) throws(SpoolError) {
        let document = JSON.object([
            "reason": .string(reason), "state": .string(ending.rawValue), "time": .string(time),
        ]).sealed
        try store.publish(document, at: SpoolLayout.job(id, state).appending(Self.reasonFile), replacing: true)
    }

    // MARK: - The set

    private func set(_ id: JobID) -> SpoolPath { SpoolLayout.job(id, .active).appending(Self.setFolder) }

    /// Puts a file the renderer has written into the set and returns what it is.
    private func adopt(
        _ temporary: SpoolPath, as name: String, seed: Int, report: RenderedImage, beside: [JobRecord.File] = [],
        of id: JobID
    ) throws(SpoolError) -> JobRecord.Image {
        let file = try adopt(temporary, as: name, of: id)
        return JobRecord.Image(
            file: name, sha256: file.sha256, bytes: file.bytes, seed: seed, report: report, beside: beside)
    }

    private func adopt(_ temporary: SpoolPath, as name: String, of id: JobID) throws(SpoolError) -> JobRecord.File {
        try store.syncFile(temporary)
        let digest = try store.digest(of: temporary)
        try store.ensureDirectory(set(id))
        // A file of this name that the record does not know was interrupted before it counted.
        try store.move(temporary, to: set(id).appending(name), replacing: true)
        return JobRecord.File(name: name, sha256: digest.sha256, bytes: digest.bytes)
    }

    /// Puts the candidates that were not chosen, where they are kept, into the set.
    private func adoptOthers(
        of temporary: SpoolPath, _ report: RenderedImage, image: Int, _ job: Job
    ) throws(SpoolError) -> [JobRecord.Image.Other] {
        guard let choice = report.choice, job.manifest.select?.keepsAll == true else { return [] }
        try store.ensureDirectory(set(job.id))
        try store.ensureDirectory(set(job.id).appending(Selection.folder))
        var others: [JobRecord.Image.Other] = []
        for candidate in choice.candidates.indices where candidate != choice.best {
            let name = job.manifest.fileName(image: image, candidate: candidate)
            let file = try adopt(
                SpoolPath("\(temporary).\(candidate)"), as: "\(Selection.folder)/\(name)", of: job.id)
            others.append(.init(candidate: candidate, file: file))
        }
        return others
    }

    /// Puts the files beside an image that were written into the set.
    private func adopt(
        beside temporaries: [SpoolPath], _ report: RenderedImage, image name: String, _ job: Job
    ) throws(SpoolError) -> [JobRecord.File] {
        let names = AttentionRequest.fileNames(beside: name)
        var files: [JobRecord.File] = []
        for (path, name) in zip(temporaries, [names.overlay, names.maps]) {
            let isThere = try store.system.statusIfAny(path)?.kind == .regular
            if isThere, report.attention?.error == nil {
                files.append(try adopt(path, as: name, of: job.id))
            } else if try store.system.statusIfAny(set(job.id).appending(name)) != nil {
                // An earlier try has left it.
                try store.system.unlink(set(job.id).appending(name))
            }
        }
        return files
    }

    /// An image is done: its file joins the set, with those that go with it; then the record names them.
    func commitImage(
        _ job: inout Job, _ temporary: SpoolPath, beside: [SpoolPath] = [], report: RenderedImage
    ) throws(SpoolError) {
        let index = job.record.images.count
        let name = job.manifest.fileName(image: index)
        let files = try adopt(beside: beside, report, image: name, job)
        let others = try adoptOthers(of: temporary, report, image: index, job)
        var image = try adopt(
            temporary, as: name, seed: report.choice?.chosen.seed ?? job.record.seed + index, report: report,
            beside: files, of: job.id)
        image.others = others
        job.record.images.append(image)
        do throws(SpoolError) {
            // The first picture decides what the others must be made with.
            let (identity, tuning) = (report.identity ?? job.record.identity, report.tuning ?? job.record.tuning)
            if (job.record.identity, job.record.tuning) != (identity, tuning) {
                (job.record.identity, job.record.tuning) = (identity, tuning)
                try save(job, .active)
            }
            try ImagePages(store, of: SpoolLayout.job(job.id, .active)).append(job.record.images)
        } catch {
            job.record.images.removeLast()
            throw error
        }
        try? store.system.unlink(SpoolLayout.job(job.id, .active).appending(CheckpointFile.name))
    }

    /// An adapter is done: its files join the set; then the record names them.
    func commitAdapter(
        _ job: inout Job, _ temporary: SpoolPath, files: [(name: String, temporary: SpoolPath)],
        metadata: [String: String]
    ) throws(SpoolError) {
        var beside: [JobRecord.File] = []
        for file in files { beside.append(try adopt(file.temporary, as: file.name, of: job.id)) }
        let adapter = try adopt(
            temporary, as: job.manifest.fileName(image: 0), seed: job.record.seed,
            report: RenderedImage(metadata: metadata), beside: beside, of: job.id)
        try ImagePages(store, of: SpoolLayout.job(job.id, .active)).append([adapter])
        job.record.images = [adapter]
        try? store.system.unlink(SpoolLayout.job(job.id, .active).appending(CheckpointFile.name))
    }

    /// The folder of a training's own state; nil for a job that has none.
    func workFolder(of job: Job, _ state: JobState) -> SpoolPath? {
        job.manifest.workFolder.map { SpoolLayout.job(job.id, state).appending($0) }
    }

    /// A published job goes where finished ones are, without what it needed to get there.
    func finish(_ job: Job, from state: JobState) throws(SpoolError) {
        if let folder = workFolder(of: job, state) { try store.removeTree(folder) }
        try move(job.id, from: state, to: .done)
    }

    /// The contact sheet and the page, as far as they were wanted, are done or given up.
    func commitSheets(_ job: inout Job, grid: Sheet?, page: Sheet?) throws(SpoolError) {
        func adopted(_ sheet: Sheet?, as name: String) throws(SpoolError) -> JobRecord.Image? {
            guard let temporary = sheet?.temporary else { return nil }
            return try adopt(temporary, as: name, seed: job.record.seed, report: RenderedImage(), of: job.id)
        }
        if grid != nil { job.record.grid = try adopted(grid, as: job.manifest.gridFileName) }
        if page != nil { job.record.page = try adopted(page, as: PageRequest.fileName) }
        if case .failed(let reason) = grid { job.record.gridError = reason }
        if case .failed(let reason) = page { job.record.pageError = reason }
        try save(job, .active)
    }

    /// The set becomes visible as a whole.
    ///
    /// - Returns: where that is now which somebody had put in its place.
    func publish(_ job: Job, time: String) throws(SpoolError) -> SpoolPath? {
        guard try store.system.statusIfAny(set(job.id)) != nil else { return nil }
        let manifest = try store.readJSON(SpoolLayout.job(job.id, .active).appending(Self.manifestFile))
        try store.publish(
            result(job, manifest: manifest, time: time), at: set(job.id).appending(Self.resultFile), replacing: true)
        // Its group may move it away. That needs the right to write in it, whatever the daemon's umask is.
        let candidates = set(job.id).appending(Selection.folder)
        for folder in [set(job.id), candidates] {
            guard let status = try store.system.statusIfAny(folder) else { continue }
            try store.system.setMode(folder, status.permissions | 0o070)
        }
        let place = SpoolLayout.published(job.id)
        do throws(SpoolError) {
            try store.move(set(job.id), to: place)
            return nil
        } catch  where error.errno == .fileExists {
            // The set is still here, so that is none. Whoever takes sets away may also put something in their places.
            let moved = try store.stepAside(place)
            try store.move(set(job.id), to: place)
            return moved
        }
    }

    /// What `result.json` says of a set.
    func result(_ job: Job, manifest: JSON, time: String) -> JSON {
        let record = job.record.json
        return .object([
            "version": .integer(1), "job": .string(job.id.text), "drop": .string(job.record.drop),
            "accepted": .string(job.record.accepted), "finished": .string(time),
            "attempts": .integer(job.record.attempts.total), "manifest": manifest, "seed": .integer(job.record.seed),
            "caches": record["caches"], "init_image": record["init_image"],
            "dataset": record["dataset"],
            "tuning": record["tuning"],
            "images": .array(job.record.images.map(\.json)),
            "grid": job.record.grid?.json, "grid_error": job.record.gridError.map { .string($0) },
            "page": job.record.page?.json, "page_error": job.record.pageError.map { .string($0) },
            "restarts": job.record.restarts.isEmpty ? nil : .array(job.record.restarts.map { .string($0) }),
        ])
    }

    /// Whether the set of a job has left its folder for `out/`. All images recorded and no set left here says so too:
    /// the user may have taken it away since.
    func isPublished(_ job: Job, _ state: JobState) throws(SpoolError) -> Bool {
        guard job.isRendered else { return false }
        return try store.system.statusIfAny(SpoolLayout.job(job.id, state).appending(Self.setFolder)) == nil
    }

    /// Brings record and set of an interrupted job into agreement: what is recorded and whole stays, the rest goes.
    func mend(_ job: inout Job, _ state: JobState) throws(SpoolError) {
        let folder = SpoolLayout.job(job.id, state).appending(Self.setFolder)
        var good: [JobRecord.Image] = []
        for image in job.record.images {
            guard try isWhole(image, in: folder) else { break }
            good.append(image)
        }
        func whole(_ sheet: JobRecord.Image?) throws(SpoolError) -> JobRecord.Image? {
            guard let sheet, good.count == job.manifest.imageCount, try isWhole(sheet, in: folder) else { return nil }
            return sheet
        }
        let (grid, page) = (try whole(job.record.grid), try whole(job.record.page))
        if good != job.record.images || grid != job.record.grid || page != job.record.page {
            if good != job.record.images {
                job.record.images = good
                try ImagePages(store, of: SpoolLayout.job(job.id, state)).replace(good)
            }
            job.record.grid = grid
            job.record.page = page
            try save(job, state)
        }
        guard let status = try store.system.statusIfAny(folder) else { return }
        guard status.kind == .folder else { return try store.removeTree(folder) }
        let known = Set((good + [grid, page].compactMap(\.self)).flatMap(\.files).map(\.name))
        try removeUnknown(in: folder, known: known)
    }

    /// Removes what lies in an unfinished set and is no file of it.
    private func removeUnknown(in folder: SpoolPath, known: Set<String>) throws(SpoolError) {
        let candidates = folder.appending(Selection.folder)
        if known.contains(where: { $0.hasPrefix("\(Selection.folder)/") }) {
            for name in try store.system.list(candidates) where !known.contains("\(Selection.folder)/\(name.string)") {
                try store.removeTree(candidates.appending(name))
            }
        } else {
            try store.removeTree(candidates)
        }
        for name in try store.system.list(folder)
        where !known.contains(name.string) && name.string != Selection.folder {
            try store.removeTree(folder.appending(name))
        }
    }

    private func isWhole(_ image: JobRecord.Image, in folder: SpoolPath) throws(SpoolError) -> Bool {
        for file in image.files {
            let path = folder.appending(file.name)
            guard let status = try store.system.statusIfAny(path), status.kind == .regular, status.size == file.bytes,
                try store.digest(of: path).sha256 == file.sha256
            else { return false }
        }
        return true
    }

    /// The checkpoint of the next image of a job, if there is a sound one.
    func checkpoint(of job: Job, _ state: JobState) -> CheckpointFile? {
        let path = SpoolLayout.job(job.id, state).appending(CheckpointFile.name)
        guard let bytes = try? store.system.read(path, limit: 1 << 30), let file = CheckpointFile(bytes),
            file.identity == CheckpointFile.identity(of: job.record, image: job.record.images.count)
        else { return nil }
        return file
    }

    /// Forgets every image, since the model has changed since they were made.
    func restart(_ job: inout Job, because reason: String) throws(SpoolError) {
        let folder = SpoolLayout.job(job.id, .active)
        job.record.images = []
        job.record.grid = nil
        job.record.page = nil
        job.record.identity = nil
        job.record.tuning = nil
        job.record.restarts.append(reason)
        try ImagePages(store, of: folder).replace([])
        try save(job, .active)
        try store.removeTree(set(job.id))
        if let work = workFolder(of: job, .active) { try store.removeTree(work) }
        try? store.system.unlink(folder.appending(CheckpointFile.name))
    }
}
