import SystemPackage

/// The oracle: whether every accepted manifest is in exactly one state, `out/` holds a set if and only if it was
/// published, every hash matches, nothing is unlisted and nothing is left over.
///
/// It changes nothing. What is wrong with one thing keeps nothing else from being looked at.
struct Verification {
    let store: DurableStore
    let jobs: JobStore
    let isDaemonRunning: Bool
    /// Whether a `.dcache`, by its absolute path, is what was written; the spool does not know its format.
    let isSound: (String) -> Bool
    /// The time for what a remedy writes.
    let time: String

    var findings: [Finding] = []
    /// What is known of each job, by what its folder says.
    var known: [JobID: JobFacts] = [:]
    /// The subjects whose records can be read.
    var subjects: [String: SubjectRecord] = [:]

    /// What other checks need of a job.
    struct JobFacts {
        let state: JobState
        /// Nil when its folder cannot be read.
        var record: JobRecord?
        var idempotencyKey: String?
    }

    init(store: DurableStore, isDaemonRunning: Bool, time: String, isSound: @escaping (String) -> Bool) {
        self.store = store
        jobs = JobStore(store: store)
        self.isDaemonRunning = isDaemonRunning
        self.isSound = isSound
        self.time = time
    }

    /// Looks at everything.
    ///
    /// - Throws: only what a test's seam ends the process with.
    static func run(
        _ store: DurableStore, isDaemonRunning: Bool, time: String, isSound: @escaping (String) -> Bool
    ) throws(SpoolError) -> [Finding] {
        func look() throws(SpoolError) -> [Finding] {
            var verification = Verification(
                store: store, isDaemonRunning: isDaemonRunning, time: time, isSound: isSound)
            try verification.checkAll()
            return verification.findings
        }
        let found = try look()
        guard isDaemonRunning, !found.isEmpty else { return found }
        // Things move while they are looked at; what is wrong stays wrong.
        let again = try look()
        return found.filter(again.contains)
    }

    private mutating func checkAll() throws(SpoolError) {
        try checkLayout()
        try checkJobs()
        try checkOut()
        try checkSubjects()
        try checkReferenceSets()
        try checkDatasets()
        try checkCaches()
        try checkLinks()
        try checkKeys()
        try checkReceipts()
        try checkPassing()
    }

    // MARK: - Tools

    mutating func error(_ kind: Finding.Kind, _ path: SpoolPath, _ message: String, _ remedy: Remedy? = nil) {
        findings.append(Finding(.error, kind, path, message, remedy))
    }

    mutating func note(_ kind: Finding.Kind, _ path: SpoolPath, _ message: String, _ remedy: Remedy? = nil) {
        findings.append(Finding(.note, kind, path, message, remedy))
    }

    /// Does a check; what cannot be read is a finding, and the next check follows.
    mutating func attempt(_ path: SpoolPath, _ check: (inout Verification) throws(SpoolError) -> Void)
        throws(SpoolError)
    {
        do throws(SpoolError) {
            try check(&self)
        } catch  where error.code != .processStopped {
            self.error(.unreadable, path, error.description)
        }
    }

    /// Looks at each name in a folder of the layout; a folder that is not there was found before.
    mutating func each(
        in folder: SpoolPath, _ check: (inout Verification, SpoolPath.Name, SpoolPath) throws(SpoolError) -> Void
    ) throws(SpoolError) {
        guard (try? store.system.statusIfAny(folder))?.kind == .folder else { return }
        var names: [SpoolPath.Name] = []
        try attempt(folder) { (check) throws(SpoolError) in names = try check.store.system.list(folder) }
        for name in names where !Self.isBystander(name) {
            let path = folder.appending(name)
            try attempt(path) { (verification) throws(SpoolError) in try check(&verification, name, path) }
        }
    }

    /// What keeps an empty folder in a repository, or what a file manager leaves in any.
    private static func isBystander(_ name: SpoolPath.Name) -> Bool {
        [".gitignore", ".gitkeep"].contains(name.string) || ReferenceNames.isLitter(name)
    }

    /// A document of the spool's own, or nil when it is damaged or not there.
    func document(_ path: SpoolPath) throws(SpoolError) -> JSON? {
        do throws(SpoolError) {
            return try store.readJSON(path)
        } catch  where error.tellsOfDamage {
            return nil
        }
    }

    /// The SHA-256 and size of a file of the spool's own; nil when that cannot be had.
    func digest(_ path: SpoolPath) throws(SpoolError) -> (sha256: String, bytes: Int)? {
        do throws(SpoolError) {
            return try store.system.status(path).kind == .regular ? try store.digest(of: path) : nil
        } catch  where error.tellsOfDamage {
            return nil
        }
    }

    // MARK: - The layout

    private mutating func checkLayout() throws(SpoolError) {
        let home = try? store.system.status(SpoolLayout.temporary).device
        for folder in SpoolLayout.folders {
            try attempt(folder) { (check) throws(SpoolError) in
                guard let status = try check.store.system.statusIfAny(folder) else {
                    return check.error(.folderMissing, folder, "found no folder, expected one")
                }
                if status.kind != .folder {
                    check.error(.folderUnusable, folder, "found something that is no folder, expected a folder")
                } else if let home, status.device != home {
                    check.error(
                        .folderUnusable, folder, "found another file system, expected that of \(SpoolLayout.temporary)")
                }
            }
        }
        let version = SpoolLayout.versionFile
        try attempt(version) { (check) throws(SpoolError) in
            switch try LayoutVersion(check.store.system) {
            case .current: break
            case .none: check.error(.version, version, "found no version, expected \(SpoolLayout.version.dropLast())")
            case .before:
                check.note(.version, version, "the layout before this one; the next start brings it up to date")
            case .foreign(let found):
                check.error(.version, version, "found version \(found), expected \(SpoolLayout.version.dropLast())")
            }
        }
        try attempt(SpoolLayout.lock) { (check) throws(SpoolError) in
            if let status = try check.store.system.statusIfAny(SpoolLayout.lock), status.kind != .regular {
                check.error(.lock, SpoolLayout.lock, "found something that is no file, expected a file")
            }
            _ = try check.store.system.isLocked(SpoolLayout.lock)
        }
    }

    /// What passes: it is there while a daemon works, and left over when one was ended.
    private mutating func checkPassing() throws(SpoolError) {
        try each(in: SpoolLayout.leftovers) { (check, name, path) throws(SpoolError) in
            let leftover = try check.document(path).flatMap(Leftover.init)
            if leftover?.path != path {
                check.error(.leftoverDamaged, path, "it is not the record of a drop that could not be moved")
            }
        }
        try attempt(SpoolLayout.statusFile) { (check) throws(SpoolError) in
            try check.checkInforming(SpoolLayout.statusFile)
        }
        try attempt(SpoolLayout.page) { (check) throws(SpoolError) in
            if let status = try check.store.system.statusIfAny(SpoolLayout.page), status.kind != .regular {
                check.note(
                    .informing, SpoolLayout.page, "found something that is no file, expected the spool's page",
                    .remove(SpoolLayout.page))
            }
        }
        guard !isDaemonRunning else { return }
        for folder in [SpoolLayout.temporary, SpoolLayout.trash] {
            try each(in: folder) { (check, _, path) throws(SpoolError) in
                check.note(.leftOver, path, "left over; the next start removes it")
            }
        }
        for folder in DropFolder.allCases {
            try each(in: SpoolLayout.claims(folder)) { (check, name, path) throws(SpoolError) in
                if Claim(name.string, in: folder) != nil {
                    check.note(.claimed, path, "claimed; the next start goes on with it")
                } else {
                    check.error(
                        .stray, path, "found a name that is no claim",
                        .setAside(path, as: "claim~\(DropName.key(name))"))
                }
            }
        }
    }

    /// A file that only informs is written anew at the next occasion.
    mutating func checkInforming(_ path: SpoolPath) throws(SpoolError) {
        guard try store.system.statusIfAny(path) != nil, try document(path) == nil else { return }
        note(.informing, path, "it cannot be read; it informs only", .remove(path))
    }
}

extension SpoolError {
    /// Whether a file of the spool's own is not what was written, and not the machine at fault.
    var tellsOfDamage: Bool { code == .damaged || isForeign || errno == .isDirectory }
}
