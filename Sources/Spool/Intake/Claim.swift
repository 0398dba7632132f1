/// A drop the daemon has taken: from here on it belongs to the daemon, and a crash finds it again by its id.
///
/// It lies in `lib/claims/<folder>/<attempt>~<id>~<key>`, where only the daemon can write. A drop that could not be moved
/// there is worked on where it lies, and `Leftover` remembers it.
struct Claim: Sendable, Hashable {
    let id: JobID
    /// The dropped name as `DropName.key` writes it.
    let key: String
    let folder: DropFolder
    /// How often it was begun, this time included.
    var attempt: Int
    /// The name it still has in the drop folder; nil once it was moved.
    let unmoved: SpoolPath.Name?

    /// Where the claimed drop is.
    var path: SpoolPath {
        if let unmoved { return SpoolLayout.drop(folder).appending(unmoved) }
        return SpoolLayout.claims(folder).appending("\(attempt)~\(id)~\(key)")
    }

    init(id: JobID, key: String, folder: DropFolder, attempt: Int = 1, unmoved: SpoolPath.Name? = nil) {
        self.id = id
        self.key = key
        self.folder = folder
        self.attempt = attempt
        self.unmoved = unmoved
    }

    /// The claim that a name in `lib/claims/<folder>` stands for, or nil when it is none.
    init?(_ name: String, in folder: DropFolder) {
        let parts = name.split(separator: "~", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, let attempt = Int(parts[0]), (1...1_000_000).contains(attempt),
            let id = JobID(String(parts[1])), !parts[2].isEmpty
        else { return nil }
        self.init(id: id, key: String(parts[2]), folder: folder, attempt: attempt)
    }

    /// Two claims are the same drop whatever was counted meanwhile.
    static func == (a: Claim, b: Claim) -> Bool { a.id == b.id && a.folder == b.folder }

    /// By what `==` compares.
    func hash(into hasher: inout Hasher) { hasher.combine(id) }
}
