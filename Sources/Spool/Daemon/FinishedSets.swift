import Pages
import SystemPackage

/// The finished sets in the order in which they were finished, and the pages of them: `pages/0001.html` and on, oldest first,
/// so that a set more changes the last page alone.
///
/// Nothing is kept on disk but the pages. They are made anew after a start, one at a time.
struct FinishedSets {
    private let store: DurableStore
    private let jobs: JobStore
    private var ids: [JobID]
    /// Numbers of the pages to write.
    private var stale: Set<Int> = []
    /// What is known of the sets that were shown last.
    private var known: [JobID: Facts] = [:]

    /// Sets on the spool's own page.
    static let newest = 24
    private static let remembered = 256
    private static let folder = SpoolPath(ArchivePage.folder)

    private struct Facts {
        let subjects: String, prompt: String, images: Int, file: String, time: String
    }

    /// The sets of the jobs that are done.
    init(_ store: DurableStore, _ jobs: JobStore) throws(SpoolError) {
        self.store = store
        self.jobs = jobs
        var found: [(moment: Int64, id: JobID)] = []
        for id in try jobs.list(.done) {
            // The change time: that of the rename that brought the job there.
            guard let status = try store.system.statusIfAny(SpoolLayout.job(id, .done)) else { continue }
            found.append((status.changed, id))
        }
        ids = found.sorted { ($0.moment, $0.id) < ($1.moment, $1.id) }.map(\.id)
        if ids.count > Self.newest { stale = Set(1...pageCount) }
        try removePages()
    }

    var count: Int { ids.count }

    /// The number of the last page; nil where the spool's own page shows all.
    var lastPage: Int? { ids.count > Self.newest ? pageCount : nil }

    private var pageCount: Int { (ids.count + ArchivePage.size - 1) / ArchivePage.size }

    /// Whether ``writePage()`` has something to do.
    var hasMore: Bool { !stale.isEmpty }

    /// A set more.
    mutating func add(_ id: JobID) {
        guard ids.last != id else { return }
        ids.append(id)
        guard let lastPage else { return }
        stale.insert(lastPage)
        // The one before has a neighbour now; and the first page comes into being late.
        if lastPage > 1, ids.count % ArchivePage.size == 1 { stale.insert(lastPage - 1) }
    }

    /// Whether sets have gone since, as by retention.
    func isOutdated() throws(SpoolError) -> Bool { try jobs.list(.done).count != ids.count }

    /// The newest sets, newest first.
    mutating func shown() -> [SpoolPage.FinishedSet] { sets(ids.suffix(Self.newest)) }

    /// Writes the newest of the pages that are not up to date.
    mutating func writePage() throws(SpoolError) {
        guard let number = stale.max() else { return }
        let first = (number - 1) * ArchivePage.size
        let sets = sets(ids[first..<min(first + ArchivePage.size, ids.count)])
        let page: String
        do throws(PageError) {
            page = try ArchivePage(sets, number: number, hasNewer: number < pageCount).html()
        } catch {
            throw SpoolError(.damaged, operation: "make", path: ArchivePage.fileName(number), detail: "\(error)")
        }
        if try store.system.statusIfAny(Self.folder) == nil { try store.system.makeDirectory(Self.folder) }
        try store.replaceUnsynced(Array(page.utf8), at: Self.folder.appending(ArchivePage.fileName(number)))
        stale.remove(number)
    }

    /// Removes the pages of more sets than there are.
    private func removePages() throws(SpoolError) {
        guard try store.system.statusIfAny(Self.folder) != nil else { return }
        let wanted = Set((1...max(1, lastPage ?? 1)).map(ArchivePage.fileName))
        for name in try store.system.list(Self.folder)
        where name.string.hasSuffix(".html") && !wanted.contains(name.string) {
            try store.system.unlink(Self.folder.appending(name))
        }
    }

    private mutating func sets(_ ids: ArraySlice<JobID>) -> [SpoolPage.FinishedSet] {
        if known.count > Self.remembered { known = [:] }
        return ids.reversed().map { id in
            let facts = known[id] ?? facts(id)
            known[id] = facts
            let folder = SpoolLayout.published(id)
            func isThere(_ name: String) -> Bool {
                (try? store.system.statusIfAny(folder.appending(name)))?.kind == .regular
            }
            return SpoolPage.FinishedSet(
                job: id.text, subjects: facts.subjects, prompt: facts.prompt, images: facts.images, time: facts.time,
                picture: isThere(facts.file) ? facts.file : nil, hasPage: isThere(PageRequest.fileName))
        }
    }

    private func facts(_ id: JobID) -> Facts {
        guard let job = try? jobs.load(id, .done, withImages: false) else {
            return Facts(subjects: id.text, prompt: "", images: 0, file: "0000.png", time: "")
        }
        return Facts(
            subjects: job.manifest.subjectTitle, prompt: job.manifest.title(image: 0),
            images: job.manifest.imageCount, file: job.manifest.pictureName,
            time: Timestamp.forPeople(job.record.accepted))
    }
}
