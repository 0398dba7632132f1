import SystemPackage

/// Data sets, and the records of their names.
extension Verification {
    mutating func checkDatasets() throws(SpoolError) {
        var named: [String: String] = [:]
        for facts in known.values where !facts.state.isFinal {
            if let dataset = facts.record?.dataset { named[dataset.digest] = "job" }
        }
        var there: Set<String> = []
        var records: [DatasetRecord] = []
        try each(in: SpoolLayout.datasets) { (check, name, path) throws(SpoolError) in
            if Digest.isDigest(name.string) {
                there.insert(name.string)
            } else if name.string.hasSuffix(DatasetCopy.suffix) {
                if !check.isDaemonRunning { check.note(.leftOver, path, "left over; the next start removes it") }
            } else if let record = try DatasetRecord.name(ofRecord: name).flatMap({ (name) throws(SpoolError) in
                try check.store.datasetRecord(name)
            }) {
                records.append(record)
            } else {
                check.error(
                    .datasetDamaged, path, "it is not the record of a data set",
                    .setAside(path, as: "dataset~\(DropName.key(name))"))
            }
        }
        for record in records {
            named[record.digest] = record.name
            guard !there.contains(record.digest) else { continue }
            error(
                .datasetDamaged, SpoolLayout.datasetFolder(record.digest),
                "found nothing, expected the data set '\(record.name)'",
                .setAside(SpoolLayout.dataset(record.name), as: "dataset~\(record.name).json"))
        }
        for digest in there.sorted() {
            let folder = SpoolLayout.datasetFolder(digest)
            if named[digest] == nil { note(.datasetUnused, folder, "nobody names it any more") }
            try attempt(folder) { (check) throws(SpoolError) in try check.checkDataset(digest, folder) }
        }
    }

    private mutating func checkDataset(_ digest: String, _ folder: SpoolPath) throws(SpoolError) {
        let aside = Remedy.setAside(folder, as: "dataset~\(digest)")
        guard let list = try store.datasetList(digest) else {
            return error(.datasetDamaged, folder, "found no list of its files, expected one", aside)
        }
        let files = folder.appending(DatasetList.filesFolder)
        for file in list.files {
            let path = files.appending(file.path)
            guard let found = try store.system.statusIfAny(path) == nil ? nil : self.digest(path),
                found == (file.sha256, file.bytes)
            else {
                // Whoever drops it again mends it.
                error(.datasetDamaged, path, "it is not the file that was ingested", aside)
                return
            }
        }
    }
}
