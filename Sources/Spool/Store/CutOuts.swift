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

    /// The pictures that the list names, and the digest of each where it has one.
    static func files(in list: JSON) -> [(name: String, sha256: String?)] {
        (list["references"]?.array ?? []).compactMap { reference in
            reference["file"]?.string.flatMap { DropName.isPlain($0) ? ($0, reference["sha256"]?.string) : nil }
        }
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
        let place = SpoolLayout.cutOuts(key)
        if try system.statusIfAny(place) != nil {
            // Whoever made them first made the same, if they are still what they were.
            if try areSound(cutOuts: place) { return }
            try removeTree(place)
        }
        for name in try system.list(made) { try syncFile(made.appending(name)) }
        try syncDirectory(made)
        try move(made, to: place)
    }

    /// Whether a folder of cut-outs holds a list, and what it names.
    private func areSound(cutOuts folder: SpoolPath) throws(SpoolError) -> Bool {
        do throws(SpoolError) {
            for file in CutOuts.files(in: try readJSON(folder.appending(CutOuts.listFile))) {
                let found = try digest(of: folder.appending(file.name)).sha256
                if let expected = file.sha256, expected != found { return false }
            }
            return true
        } catch  where error.tellsOfDamage || error.isForeign {
            return false
        }
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
