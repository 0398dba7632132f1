import SystemPackage

/// Subjects, the references they name, and the caches made of them.
extension Verification {
    mutating func checkSubjects() throws(SpoolError) {
        try each(in: SpoolLayout.subjects) { (check, name, path) throws(SpoolError) in
            guard let subject = SpoolLayout.subject(ofRecord: name) else {
                return check.error(.stray, path, "found a name that is no subject's record")
            }
            guard let record = try check.document(path).flatMap(SubjectRecord.init), record.name == subject else {
                return check.error(.subjectDamaged, path, "it is not the subject's record")
            }
            check.subjects[subject] = record
        }
    }

    /// Subjects whose current references are to be encoded yet.
    private func pending(_ digest: String) -> (subject: String, generation: SubjectRecord.Generation)? {
        for (name, record) in subjects {
            if let current = record.current, current.state == .pending, current.references == digest {
                return (name, current)
            }
        }
        return nil
    }

    // MARK: - References

    mutating func checkReferenceSets() throws(SpoolError) {
        var named = Set(subjects.values.flatMap { $0.generations.map(\.references) })
        for facts in known.values where !facts.state.isFinal {
            guard let record = facts.record else { continue }
            named.formUnion(record.caches.map(\.references) + (record.initialImage.map { [$0.references] } ?? []))
        }
        var there: Set<String> = []
        try each(in: SpoolLayout.references) { (check, name, path) throws(SpoolError) in
            guard Digest.isDigest(name.string) else {
                return check.error(
                    .stray, path, "found a name that is no set of references",
                    .setAside(path, as: "references~\(DropName.key(name))"))
            }
            there.insert(name.string)
            if !named.contains(name.string) { check.note(.referencesUnused, path, "nobody names it any more") }
            try check.checkReferenceSet(name.string)
        }
        for (name, record) in subjects {
            guard let current = record.current, !there.contains(current.references) else { continue }
            missing(
                SpoolLayout.referenceSet(current.references), of: current.references, "subject '\(name)' names",
                lost: "the references were")
        }
    }

    private mutating func checkReferenceSet(_ digest: String) throws(SpoolError) {
        let folder = SpoolLayout.referenceSet(digest)
        let list = folder.appending(ReferenceSet.listFile)
        guard let set = try document(list).flatMap(ReferenceSet.init), set.digest == digest else {
            var remedy = Remedy.setAside(folder, as: "references~\(digest)")
            if let found = try store.referenceSet(ofFilesIn: folder), found.digest == digest {
                remedy = .writeList(found)
            }
            return error(.referenceListDamaged, list, "it is not the list of these references", remedy)
        }
        for file in set.files {
            let path = folder.appending(file.name)
            try attempt(path) { (check) throws(SpoolError) in
                guard try check.store.system.statusIfAny(path) != nil else {
                    return check.missing(
                        path, of: digest, "its set lists", lost: "\(set.original(of: file.name)): the file was")
                }
                if try check.digest(path)?.sha256 != file.sha256 {
                    check.error(
                        .referenceDamaged, path, "it is not the file that was ingested",
                        .setAside(path, as: "reference~\(file.name)"))
                }
            }
        }
        let names = Set(set.files.map(\.name) + [ReferenceSet.listFile])
        try each(in: folder) { (check, name, path) throws(SpoolError) in
            guard !names.contains(name.string) else { return }
            check.error(
                .stray, path, "found a file that its set does not list",
                .setAside(path, as: "reference~\(DropName.key(name))"))
        }
    }

    /// References that are gone keep their subject from being encoded; one that is encoded already is not harmed.
    ///
    /// - Parameter lost: what was damaged, for the receipt: "NAME: the file was".
    private mutating func missing(_ path: SpoolPath, of digest: String, _ who: String, lost: String) {
        guard let (subject, generation) = pending(digest) else {
            return note(
                .referenceMissing, path, "found nothing, expected the reference \(who); it cannot be encoded anew")
        }
        error(
            .referenceMissing, path, "found nothing, expected the reference \(who)",
            .reject(
                subject: subject, generation: generation.number,
                reason: "\(lost) damaged in the spool; drop the references again"))
    }

    // MARK: - Caches

    mutating func checkCaches() throws(SpoolError) {
        var users: [String: String] = [:]
        for (name, record) in subjects {
            if case .ready(let key) = record.current?.state { users[key] = name }
        }
        var used = Set(users.keys)
        for facts in known.values { used.formUnion((facts.record?.caches ?? []).compactMap(\.cache)) }
        var there: Set<String> = []
        try each(in: SpoolLayout.caches) { (check, name, path) throws(SpoolError) in
            let key = ReferenceSet.stem(name.string)
            if path == SpoolLayout.cutOuts(key), DropName.isPlain(key) { return try check.checkCutOuts(path) }
            guard path == SpoolLayout.cache(key), DropName.isPlain(key) else {
                return check.error(
                    .stray, path, "found a name that is no cache", .setAside(path, as: "cache~\(DropName.key(name))"))
            }
            there.insert(key)
            if try check.store.system.status(path).kind != .regular || !check.isSound(check.store.system.absolute(path))
            {
                check.error(.cacheDamaged, path, "it is not what was encoded; it is made again", .remove(path))
            } else if !used.contains(key) {
                check.note(.cacheUnused, path, "no subject uses it")
            }
        }
        for (key, subject) in users where !there.contains(key) {
            error(
                .cacheMissing, SpoolLayout.cache(key), "found no file, expected the cache of subject '\(subject)'",
                .encodeAgain(subject: subject))
        }
        for (id, facts) in known where !facts.state.isFinal {
            for key in (facts.record?.caches ?? []).compactMap(\.cache) where !there.contains(key) && users[key] == nil
            {
                note(.cacheMissing, SpoolLayout.cache(key), "found no file; it is made again when job \(id) goes on")
            }
        }
    }

    /// What was cut out of a cache's references: only people look at it.
    private mutating func checkCutOuts(_ folder: SpoolPath) throws(SpoolError) {
        let list = folder.appending(CutOuts.listFile)
        var files: [(name: String, sha256: String?)] = []
        do throws(SpoolError) {
            files = CutOuts.files(in: try store.readJSON(list))
        } catch  where error.tellsOfDamage || error.isForeign {
            return self.error(.cacheDamaged, folder, "found no list of cut-outs, expected one", .remove(folder))
        }
        for file in files {
            let path = folder.appending(file.name)
            guard try store.system.statusIfAny(path)?.kind == .regular else {
                note(.cacheDamaged, path, "found no file, expected the cut-out that the list names")
                continue
            }
            if let sha256 = file.sha256, try digest(path)?.sha256 != sha256 {
                note(.cacheDamaged, path, "it is not the cut-out that was made; the cache is not harmed")
            }
        }
    }

    mutating func checkLinks() throws(SpoolError) {
        try each(in: SpoolLayout.cacheLinks) { (check, name, path) throws(SpoolError) in
            guard try check.store.system.status(path).kind != .symbolicLink else {
                if check.subjects[ReferenceSet.stem(name.string)] == nil {
                    check.note(.linkUnused, path, "no subject of this name is known")
                }
                return
            }
            check.error(
                .stray, path, "found something that is no link", .setAside(path, as: "link~\(DropName.key(name))"))
        }
        for (name, record) in subjects {
            guard case .ready(let key) = record.current?.state else { continue }
            let path = SpoolLayout.cacheLink(name)
            try attempt(path) { (check) throws(SpoolError) in
                let status = try check.store.system.statusIfAny(path)
                if let status, status.kind != .symbolicLink { return }
                let target = status == nil ? nil : try check.store.system.readLink(path)
                guard target != SpoolLayout.cacheLinkTarget(key) else { return }
                check.error(
                    .linkDamaged, path, "it does not lead to the cache of subject '\(name)'",
                    .link(subject: name, cache: key))
            }
        }
    }
}
