/// Records that are damaged, written anew from what is known elsewhere: the set of a job says nearly all of it.
extension JobStore {
    /// Whether what lies in `out/` under a job's id was put there by the daemon. Others who may write there may put a folder
    /// under an id that they have read in a receipt; what it says of the job does not count.
    func isOwn(published id: JobID) -> Bool {
        guard let set = try? store.system.status(SpoolLayout.published(id)), set.kind == .folder else { return false }
        return set.owner == (try? store.system.status(JobState.done.folder))?.owner
    }

    /// What the published set of a job says of it; nil when it was taken away or is damaged.
    private func published(_ id: JobID) -> JSON? {
        guard isOwn(published: id) else { return nil }
        let path = SpoolLayout.published(id).appending(Self.resultFile)
        guard let result = try? store.readJSON(path), result["job"]?.string == id.text else { return nil }
        return result
    }

    /// The records of the images in the published set of a job; nil when it was taken away or is damaged.
    func publishedImages(_ id: JobID) -> [JobRecord.Image]? {
        guard let entries = published(id)?["images"]?.array else { return nil }
        let images = entries.compactMap(JobRecord.Image.init)
        return images.count == entries.count ? images : nil
    }

    /// Whether `rebuild` can do it.
    func isRebuildable(_ id: JobID) -> Bool { parts(of: id) != nil }

    /// Writes manifest and record of a finished job anew from its set, all but the order of acceptance and the owner.
    func rebuild(_ id: JobID) throws(SpoolError) {
        guard let (job, bytes) = parts(of: id) else {
            throw SpoolError(.damaged, operation: "rebuild", path: SpoolLayout.job(id, .done).string)
        }
        let folder = SpoolLayout.job(id, .done)
        try store.publish(bytes, at: folder.appending(Self.manifestFile), replacing: true)
        let pages = ImagePages(store, of: folder)
        try store.removeTree(pages.folder)
        try pages.replace(job.record.images)
        try save(job, .done)
    }

    /// A finished job by what can be read of its folder and its set, and its manifest's bytes; nil when too little can.
    private func parts(of id: JobID) -> (job: Job, manifest: [UInt8])? {
        let result = published(id)
        let path = SpoolLayout.job(id, .done).appending(Self.manifestFile)
        if var known = try? load(id, .done, withImages: false),
            let bytes = try? store.system.read(path, limit: JSONReader.maximumSize)
        {
            // The set may have been taken away by its owner. Then the record has no images.
            known.record.images = publishedImages(id) ?? []
            return result == nil && (try? store.system.statusIfAny(SpoolLayout.published(id))) != nil
                ? nil : (known, bytes)
        }
        guard let result, let document = result["manifest"] else { return nil }
        var bytes = (try? store.system.read(path, limit: JSONReader.maximumSize)) ?? []
        if (try? JSONReader.read(bytes)) != document { bytes = Array(document.text().utf8) }
        guard let manifest = try? JobManifest.parse(bytes), let images = publishedImages(id) else { return nil }
        let attempts = JSON.object([
            "total": result["attempts"], "fruitless": .integer(0), "images": .integer(images.count),
            "step": .integer(0),
        ])
        let record = JSON.object([
            "version": .integer(1), "id": .string(id.text), "sequence": .integer(0), "drop": result["drop"],
            "accepted": result["accepted"], "seed": result["seed"], "manifest_sha256": .string(Digest.sha256(bytes)),
            "attempts": attempts, "caches": result["caches"], "init_image": result["init_image"],
            "dataset": result["dataset"],
            "tuning": result["tuning"],
            "restarts": result["restarts"], "grid": result["grid"], "grid_error": result["grid_error"],
            "page": result["page"], "page_error": result["page_error"],
        ])
        guard var rebuilt = JobRecord(record) else { return nil }
        rebuilt.images = images
        return (Job(record: rebuilt, manifest: manifest), bytes)
    }
}
