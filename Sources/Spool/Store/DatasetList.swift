/// A data set as ingested: `dataset.json` in its folder, which is named by the digest of this list. Its files are under `files/`,
/// in the folders and under the names that their owner gave them.
struct DatasetList: Sendable, Equatable {
    struct File: Sendable, Equatable {
        /// Its path in the data set.
        let path: String
        let sha256: String
        let bytes: Int
    }

    /// In the order of their paths.
    let files: [File]

    static let name = "dataset.json"
    static let filesFolder = "files"

    init(files: [File]) { self.files = files.sorted { $0.path < $1.path } }

    /// Equal files under equal names are the same data set.
    var digest: String { Digest.sha256(files.map { "\($0.sha256)  \($0.path)\n" }.joined()) }

    var json: JSON {
        .object([
            "files": .array(
                files.map {
                    .object(["path": .string($0.path), "sha256": .string($0.sha256), "bytes": .integer($0.bytes)])
                })
        ])
    }

    init?(_ json: JSON) {
        guard let entries = json["files"]?.array else { return nil }
        var files: [File] = []
        for entry in entries {
            guard let path = entry["path"]?.string, SpoolPath(path).string == path, !path.isEmpty,
                let sha256 = entry["sha256"]?.string, let bytes = entry["bytes"]?.integer
            else { return nil }
            files.append(File(path: path, sha256: sha256, bytes: bytes))
        }
        self.init(files: files)
    }
}

/// What is known of a data set by its name: `lib/datasets/<name>.json`. A new drop of the name takes its place; jobs that have begun
/// go on with the one they are bound to.
struct DatasetRecord: Sendable, Equatable {
    let name: String
    /// Its folder's name.
    let digest: String
    /// Key of its receipt, and id of the drop.
    let drop: String, dropID: JobID
    /// The user who dropped it.
    let owner: UInt32

    var json: JSON {
        .object([
            "version": .integer(1), "name": .string(name), "digest": .string(digest), "drop": .string(drop),
            "drop_id": .string(dropID.text), "owner": .integer(Int(owner)),
        ]).sealed
    }

    init(name: String, digest: String, drop: String, dropID: JobID, owner: UInt32) {
        (self.name, self.digest, self.drop, self.dropID, self.owner) = (name, digest, drop, dropID, owner)
    }

    init?(_ json: JSON) {
        guard json.isIntact, json["version"]?.integer == 1, let name = json["name"]?.string, DropName.isPlain(name),
            let digest = json["digest"]?.string, Digest.isDigest(digest), let drop = json["drop"]?.string,
            let dropID = json["drop_id"]?.string.flatMap(JobID.init)
        else { return nil }
        self.init(
            name: name, digest: digest, drop: drop, dropID: dropID,
            owner: json["owner"]?.integer.flatMap(UInt32.init(exactly:)) ?? Ownership.unknown)
    }

    /// The data set whose record has that name in `lib/datasets`, or nil when it is none's.
    static func name(ofRecord name: SpoolPath.Name) -> String? {
        guard name.string.hasSuffix(".json") else { return nil }
        let dataset = String(name.string.dropLast(5))
        return DropName.isPlain(dataset) ? dataset : nil
    }
}

extension DurableStore {
    /// The record of a data set, or nil where there is none that can be understood.
    func datasetRecord(_ name: String) throws(SpoolError) -> DatasetRecord? {
        let path = SpoolLayout.dataset(name)
        guard try system.statusIfAny(path) != nil else { return nil }
        do throws(SpoolError) {
            let record = DatasetRecord(try readJSON(path))
            return record?.name == name ? record : nil
        } catch  where error.tellsOfDamage {
            return nil
        }
    }

    /// The list of a data set, or nil where it is none.
    func datasetList(_ digest: String) throws(SpoolError) -> DatasetList? {
        let path = SpoolLayout.datasetFolder(digest).appending(DatasetList.name)
        guard try system.statusIfAny(path) != nil else { return nil }
        do throws(SpoolError) {
            // A line of some hundred bytes for each of up to a million files.
            let bytes = try system.read(path, limit: 1 << 30)
            let list = (try? JSONReader.read(bytes, maximumSize: .max)).flatMap(DatasetList.init)
            return list?.digest == digest ? list : nil
        } catch  where error.tellsOfDamage {
            return nil
        }
    }
}
