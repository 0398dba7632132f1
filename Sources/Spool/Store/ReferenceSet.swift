/// A set of references as ingested: `set.json` in its folder, which is named by the digest of this list.
struct ReferenceSet: Sendable, Equatable {
    struct File: Sendable, Equatable {
        /// The plain name it is stored under.
        let name: String
        let sha256: String
        let bytes: Int
        /// The name the person gave; bytes that are not UTF-8 as `\xE9`.
        let original: String
        /// The picture whose mask this is, by its stored name; nil for a picture.
        let maskOf: String?

        init(name: String, sha256: String, bytes: Int, original: String? = nil, maskOf: String? = nil) {
            self.name = name
            self.sha256 = sha256
            self.bytes = bytes
            self.original = original ?? name
            self.maskOf = maskOf
        }
    }

    /// Sorted by name.
    let files: [File]

    init(files: [File]) { self.files = files.sorted { $0.name < $1.name } }

    /// What the set is called: equal files under equal names are the same set.
    var digest: String { Digest.sha256(files.map { "\($0.sha256)  \($0.name)\n" }.joined()) }

    /// The references, without their masks.
    var images: [File] { files.filter { $0.maskOf == nil } }

    /// The name that the person gave to a stored file, harmless to show; any other text stays as it is.
    func original(of name: String) -> String { files.first { $0.name == name }?.original.printable ?? name }

    /// What a job that begins with this set's first picture is bound to.
    func initialImage(subject: String) -> JobRecord.InitialImage? {
        images.first.map {
            JobRecord.InitialImage(subject: subject, references: digest, file: $0.name, sha256: $0.sha256)
        }
    }

    static func stem(_ name: String) -> String {
        guard let dot = name.lastIndex(of: "."), dot > name.startIndex else { return name }
        return String(name[..<dot])
    }

    static let listFile = "set.json"

    var json: JSON {
        .object([
            "files": .array(
                files.map {
                    .object([
                        "name": .string($0.name), "sha256": .string($0.sha256), "bytes": .integer($0.bytes),
                        "original": $0.original == $0.name ? nil : .string($0.original),
                        "mask_of": $0.maskOf.map { .string($0) },
                    ])
                })
        ])
    }

    init?(_ json: JSON) {
        guard let entries = json["files"]?.array else { return nil }
        let names = entries.compactMap { $0["name"]?.string }
        var files: [File] = []
        for entry in entries {
            guard let name = entry["name"]?.string, DropName.isPlain(name), let sha256 = entry["sha256"]?.string,
                let bytes = entry["bytes"]?.integer
            else { return nil }
            files.append(
                File(
                    name: name, sha256: sha256, bytes: bytes, original: entry["original"]?.string,
                    maskOf: entry["mask_of"]?.string ?? Self.masked(by: name, among: names)))
        }
        self.init(files: files)
    }

    /// A set of stored files whose list is lost; masks are told by their names. What the person called them is lost too.
    init(findingMasksIn files: [File]) {
        let names = files.map(\.name)
        self.init(
            files: files.map {
                File(name: $0.name, sha256: $0.sha256, bytes: $0.bytes, maskOf: Self.masked(by: $0.name, among: names))
            })
    }

    /// The picture a file is the mask of, in lists of earlier versions, which do not say it.
    private static func masked(by name: String, among names: [String]) -> String? {
        let stem = stem(name)
        guard name.hasSuffix(".png"), stem.hasSuffix("_mask") else { return nil }
        let base = stem.dropLast("_mask".count)
        return names.first { $0 != name && Self.stem($0) == base }
    }
}

extension DurableStore {
    /// The list of a set of references. Where it is damaged the files say it again; `.damaged` when they do not.
    func referenceSet(_ digest: String) throws(SpoolError) -> ReferenceSet {
        let folder = SpoolLayout.referenceSet(digest)
        let path = folder.appending(ReferenceSet.listFile)
        do throws(SpoolError) {
            if let set = ReferenceSet(try readJSON(path)), set.digest == digest { return set }
        } catch  where error.tellsOfDamage {
            // The files are asked.
        }
        guard let set = try referenceSet(ofFilesIn: folder), set.digest == digest else {
            throw SpoolError(.damaged, operation: "read", path: path.string)
        }
        return set
    }

    /// The list that the files in a set's folder would give, or nil when there is no folder.
    func referenceSet(ofFilesIn folder: SpoolPath) throws(SpoolError) -> ReferenceSet? {
        guard try system.statusIfAny(folder)?.kind == .folder else { return nil }
        var files: [ReferenceSet.File] = []
        for name in try system.list(folder) where name.string != ReferenceSet.listFile {
            let path = folder.appending(name)
            guard DropName.isPlain(name.string), try system.status(path).kind == .regular else { continue }
            let digest: (sha256: String, bytes: Int)
            do throws(SpoolError) {
                digest = try self.digest(of: path)
            } catch  where error.tellsOfDamage {
                continue
            }
            files.append(.init(name: name.string, sha256: digest.sha256, bytes: digest.bytes))
        }
        return ReferenceSet(findingMasksIn: files)
    }

    /// An error of the renderer, in which a file is named as the person named it. The renderer knows stored names alone.
    func naming(_ error: RendererError, inSet digest: String?) -> RendererError {
        guard case .rejected(let field?, let message) = error, let digest, let set = try? referenceSet(digest) else {
            return error
        }
        return .rejected(field: set.original(of: field), message: message)
    }

    /// Whether the picture a job begins with is still what was dropped.
    func isSound(_ initial: JobRecord.InitialImage) throws(SpoolError) -> Bool {
        let path = SpoolLayout.referenceSet(initial.references).appending(initial.file)
        guard try system.statusIfAny(path)?.kind == .regular else { return false }
        return try digest(of: path).sha256 == initial.sha256
    }
}
