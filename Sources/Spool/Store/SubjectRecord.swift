import Logging
import SystemPackage

/// What is known of a subject: `lib/subjects/<name>.json`. A new drop of its folder makes a new generation.
struct SubjectRecord: Sendable, Equatable {
    let name: String
    /// Oldest first.
    var generations: [Generation] = []

    struct Generation: Sendable, Equatable {
        let number: Int
        /// Digest of the set of references, their folder's name.
        let references: String
        /// Key of its receipt, and id of the drop.
        let drop: String, dropID: JobID
        /// Keys of receipts of later drops of the same pictures, which are answered with the first.
        var furtherDrops: [String] = []
        /// The user who dropped it.
        var owner: UInt32 = 0
        /// How often its encoding was begun without coming to an end.
        var attempts = 0
        var state: State

        var isRejected: Bool { if case .rejected = state { true } else { false } }
    }

    enum State: Sendable, Equatable {
        /// Not encoded yet.
        case pending
        /// Encoded for the default model, into the cache of that key.
        case ready(cache: String)
        /// The renderer refused it.
        case rejected(reason: String)
    }

    /// The newest generation that was not rejected.
    var current: Generation? {
        generations.last { !$0.isRejected }
    }

    var json: JSON {
        .object([
            "version": .integer(1), "name": .string(name),
            "generations": .array(
                generations.map { generation in
                    let (state, cache, reason): (String, String?, String?) =
                        switch generation.state {
                        case .pending: ("pending", nil, nil)
                        case .ready(let cache): ("ready", cache, nil)
                        case .rejected(let reason): ("rejected", nil, reason)
                        }
                    return .object([
                        "number": .integer(generation.number), "references": .string(generation.references),
                        "drop": .string(generation.drop), "drop_id": .string(generation.dropID.text),
                        "further_drops": generation.furtherDrops.isEmpty
                            ? nil : .array(generation.furtherDrops.map { .string($0) }),
                        "owner": .integer(Int(generation.owner)), "attempts": .integer(generation.attempts),
                        "state": .string(state), "cache": cache.map { .string($0) },
                        "reason": reason.map { .string($0) },
                    ])
                }),
        ]).sealed
    }

    init(name: String) { self.name = name }

    init?(_ json: JSON) {
        guard json.isIntact, json["version"]?.integer == 1, let name = json["name"]?.string, DropName.isPlain(name),
            let entries = json["generations"]?.array
        else { return nil }
        self.name = name
        for entry in entries {
            guard let number = entry["number"]?.integer, (0..<1 << 32).contains(number),
                let references = entry["references"]?.string,
                DropName.isPlain(references), let drop = entry["drop"]?.string,
                let dropID = entry["drop_id"]?.string.flatMap(JobID.init)
            else { return nil }
            let state: State
            switch entry["state"]?.string {
            case "pending": state = .pending
            case "ready":
                guard let cache = entry["cache"]?.string, DropName.isPlain(cache) else { return nil }
                state = .ready(cache: cache)
            case "rejected": state = .rejected(reason: entry["reason"]?.string ?? "")
            default: return nil
            }
            var generation = Generation(
                number: number, references: references, drop: drop, dropID: dropID, state: state)
            generation.furtherDrops = (entry["further_drops"]?.array ?? []).compactMap(\.string)
            generation.owner = entry["owner"]?.integer.flatMap(UInt32.init(exactly:)) ?? Ownership.unknown
            generation.attempts = max(0, entry["attempts"]?.integer ?? 0)
            generations.append(generation)
        }
    }
}

extension DurableStore {
    /// Has a subject's link in `cache/` lead to a cache, in place of the one before.
    func link(_ subject: String, toCache key: String) throws(SpoolError) {
        let link = temporary("link")
        try system.makeSymbolicLink(link, target: SpoolLayout.cacheLinkTarget(key))
        try move(link, to: SpoolLayout.cacheLink(subject), replacing: true)
    }

    /// What is known of a subject, or nil. A record that cannot be understood is moved out of the way, so that the next drop
    /// of the subject begins a new one, and is kept, since it is somebody's.
    func subjectSettingAsideDamage(_ name: String, _ logger: Logger) throws(SpoolError) -> SubjectRecord? {
        let path = SpoolLayout.subject(name)
        guard try system.statusIfAny(path) != nil else { return nil }
        do throws(SpoolError) {
            if let record = SubjectRecord(try readJSON(path)), record.name == name { return record }
        } catch  where error.tellsOfDamage {
            logger.error("subject record cannot be read", metadata: ["subject": "\(name)", "error": "\(error)"])
        }
        logger.error("subject record set aside", metadata: ["subject": "\(name)"])
        try setAside(path, as: "subject~\(name).json")
        return nil
    }
}
