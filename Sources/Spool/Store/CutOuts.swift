/// The folder of cut-outs that stands beside a `.dcache`: `NAME.cutouts` beside `NAME.dcache`. It holds a picture
/// `0000.png` of each reference that was cut out, by the reference's index, and a list of what there is to say.
public enum CutOuts {
    /// The list's name.
    public static let listFile = "cutouts.json"

    /// The path of the folder beside a cache.
    public static func folder(beside cache: String) -> String {
        let ending = ".dcache"
        return (cache.hasSuffix(ending) ? String(cache.dropLast(ending.count)) : cache) + ".cutouts"
    }

    /// The name of a reference's picture.
    public static func fileName(reference index: Int) -> String {
        let digits = String(index)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits + ".png"
    }

    /// The pictures that the list names.
    static func files(in list: JSON) -> [String] {
        (list["references"]?.array ?? []).compactMap { $0["file"]?.string }.filter(DropName.isPlain)
    }

    /// What the list says of the references, a sentence each, in order: `photo.jpg: ...`.
    ///
    /// - Parameter original: the name that the person gave to a stored file.
    static func remarks(in list: JSON, original: (String) -> String) -> [String] {
        (list["references"]?.array ?? []).flatMap { reference in
            let name = reference["name"]?.string.map(original) ?? "a reference"
            return (reference["remarks"]?.array ?? []).compactMap(\.string).map { "\(name): \($0)" }
        }
    }
}

extension DurableStore {
    /// Puts the cut-outs made beside a temporary cache beside the cache of that key. They come before the cache, whose
    /// presence says that all is there.
    func publishCutOuts(_ key: String, madeWith temporary: SpoolPath) throws(SpoolError) {
        let made = SpoolPath(CutOuts.folder(beside: temporary.string))
        guard try system.statusIfAny(made) != nil else { return }
        defer { discard(made) }
        // Whoever made them first made the same, and a folder is not replaced by renaming.
        guard try system.statusIfAny(SpoolLayout.cutOuts(key)) == nil else { return }
        for name in try system.list(made) { try syncFile(made.appending(name)) }
        try syncDirectory(made)
        try move(made, to: SpoolLayout.cutOuts(key))
    }

    /// What is to be said of the references of the cache of that key. The cache may serve several sets whose pictures are
    /// equal; each person reads the names of their own set.
    func remarks(_ key: String, ofSet digest: String) throws(SpoolError) -> [String] {
        let list = SpoolLayout.cutOuts(key).appending(CutOuts.listFile)
        guard try system.statusIfAny(list) != nil else { return [] }
        do throws(SpoolError) {
            let list = try readJSON(list)
            let set = try referenceSet(digest)
            return CutOuts.remarks(in: list, original: set.original)
        } catch  where error.tellsOfDamage {
            // They only inform; `verify` names the damage.
            return []
        }
    }
}
