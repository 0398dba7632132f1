/// A record's own digest, by which a changed byte is told from a written one.
extension JSON {
    private static let sealName = "record_sha256"

    /// The object with one more member, the SHA-256 of all others.
    var sealed: JSON {
        guard case .object(let members) = content else { return self }
        return JSON(.object(members + [Member(Self.sealName, .string(Self.digest(of: members)))]))
    }

    /// Whether the object is as it was sealed; also when it never was, as records of earlier versions.
    var isIntact: Bool {
        guard case .object(let members) = content, let seal = self[Self.sealName] else { return true }
        return seal.string == Self.digest(of: members.filter { $0.name != Self.sealName })
    }

    private static func digest(of members: [Member]) -> String {
        Digest.sha256(JSON(.object(members)).text(pretty: false))
    }
}
