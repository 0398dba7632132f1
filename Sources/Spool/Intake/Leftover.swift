/// A drop that stays where its owner put it, since the daemon may not move it: another's folder without group write
/// permission, a mount point. `lib/leftovers/<digest>.json` remembers it, so that it is taken once.
///
/// It is also the drop's claim: the id is durable before anything follows from it.
struct Leftover: Sendable, Equatable {
    let id: JobID
    let folder: DropFolder
    let name: SpoolPath.Name
    /// What it looked like when it was taken (`Intake.fingerprint`); another look is another drop.
    let fingerprint: String
    /// Whether its receipt is written.
    var isAnswered = false
    /// Whether its content goes to `lib/rejected`, once it can be moved, instead of away.
    var isKept = false

    /// Where it is remembered.
    var path: SpoolPath { Self.path(folder, name) }

    static func path(_ folder: DropFolder, _ name: SpoolPath.Name) -> SpoolPath {
        SpoolLayout.leftovers.appending(Digest.sha256(Array(folder.rawValue.utf8) + [0x2F] + name.bytes) + ".json")
    }

    /// It as a claim to work on.
    var claim: Claim { Claim(id: id, key: DropName.key(name), folder: folder, unmoved: name) }

    init(id: JobID, folder: DropFolder, name: SpoolPath.Name, fingerprint: String) {
        self.id = id
        self.folder = folder
        self.name = name
        self.fingerprint = fingerprint
    }

    var json: JSON {
        .object([
            "version": .integer(1), "id": .string(id.text), "folder": .string(folder.rawValue),
            "name": .array(name.bytes.map { .integer(Int($0)) }), "fingerprint": .string(fingerprint),
            "answered": .bool(isAnswered), "kept": .bool(isKept),
        ]).sealed
    }

    init?(_ json: JSON) {
        guard json.isIntact, json["version"]?.integer == 1, let id = json["id"]?.string.flatMap(JobID.init),
            let folder = json["folder"]?.string.flatMap(DropFolder.init(rawValue:)),
            let numbers = json["name"]?.array?.map({ $0.integer.flatMap(UInt8.init(exactly:)) }),
            let name = SpoolPath.Name(bytes: numbers.compactMap(\.self)), name.bytes.count == numbers.count,
            let fingerprint = json["fingerprint"]?.string, let isAnswered = json["answered"]?.bool,
            let isKept = json["kept"]?.bool
        else { return nil }
        self.init(id: id, folder: folder, name: name, fingerprint: fingerprint)
        self.isAnswered = isAnswered
        self.isKept = isKept
    }
}
