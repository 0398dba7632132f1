import SystemPackage

/// The records of a job's images on disk: pages of a bounded size under `images/` in its folder, so that what one image costs
/// does not grow with the set. A page is replaced as a whole, like every file of the spool.
struct ImagePages {
    let store: DurableStore
    let folder: SpoolPath

    static let folderName = "images"
    /// Images per page.
    static let pageSize = 64

    init(_ store: DurableStore, of job: SpoolPath) {
        self.store = store
        folder = job.appending(Self.folderName)
    }

    private func path(_ page: Int) -> SpoolPath {
        let digits = String(page)
        return folder.appending(String(repeating: "0", count: max(0, 4 - digits.count)) + digits + ".json")
    }

    /// The records, in order; nil when no page was ever written.
    func read() throws(SpoolError) -> [JobRecord.Image]? {
        guard try isThere() else { return nil }
        var images: [JobRecord.Image] = []
        while images.count.isMultiple(of: Self.pageSize), let page = try read(page: images.count / Self.pageSize) {
            images += page
        }
        return images
    }

    /// How many records there are, of which the last page alone is read; nil when no page was ever written.
    func count() throws(SpoolError) -> Int? {
        guard try isThere() else { return nil }
        let pages = try store.system.list(folder).count
        // A page that a crash has left beyond the last one is not counted.
        for last in (0..<pages).reversed() {
            if let page = try read(page: last) { return last * Self.pageSize + page.count }
        }
        return 0
    }

    private func isThere() throws(SpoolError) -> Bool {
        guard let status = try store.system.statusIfAny(folder) else { return false }
        guard status.kind == .folder else { throw SpoolError(.damaged, operation: "read", path: folder.string) }
        return true
    }

    private func read(page number: Int) throws(SpoolError) -> [JobRecord.Image]? {
        let path = path(number)
        guard try store.system.statusIfAny(path) != nil else { return nil }
        let page: JSON
        do throws(SpoolError) {
            page = try store.readJSON(path)
        } catch  where error.errno == .isDirectory {
            throw SpoolError(.damaged, operation: "read", path: path.string)
        }
        guard page.isIntact, let entries = page["images"]?.array, (1...Self.pageSize).contains(entries.count) else {
            throw SpoolError(.damaged, operation: "read", path: path.string)
        }
        let images = entries.compactMap(JobRecord.Image.init)
        guard images.count == entries.count else {
            throw SpoolError(.damaged, operation: "read", path: path.string)
        }
        return images
    }

    /// Writes the page that the last image is on.
    func append(_ images: [JobRecord.Image]) throws(SpoolError) {
        guard !images.isEmpty else { return }
        try store.ensureDirectory(folder)
        try write(images, page: (images.count - 1) / Self.pageSize)
    }

    /// Writes all pages anew, and removes those beyond.
    func replace(_ images: [JobRecord.Image]) throws(SpoolError) {
        guard !images.isEmpty else { return try store.removeTree(folder) }
        try store.ensureDirectory(folder)
        let pages = (images.count + Self.pageSize - 1) / Self.pageSize
        // From the end: a crash in between leaves the first of the old ones.
        for name in try store.system.list(folder).reversed()
        where folder.appending(name).string > path(pages - 1).string {
            try store.system.unlink(folder.appending(name))
        }
        for page in (0..<pages).reversed() { try write(images, page: page) }
    }

    private func write(_ images: [JobRecord.Image], page: Int) throws(SpoolError) {
        let first = page * Self.pageSize
        let entries = images[first..<min(first + Self.pageSize, images.count)].map(\.json)
        try store.publish(
            JSON.object(["version": .integer(1), "images": .array(entries)]).sealed, at: path(page), replacing: true)
    }
}
