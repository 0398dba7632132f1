/// Puts drops into an order in which owners take turns: ten thousand drops of one owner do not delay one drop of
/// another.
struct OwnerTurns: Sendable {
    /// The owners already looked up; a name that changes hands in between only changes its place in a line.
    private var owners: [SpoolPath.Name: UInt32] = [:]

    /// The names in an order in which owners take turns, each owner's own in the order given.
    ///
    /// - Parameter owner: looks an owner up; nil when there is no time for it now, which leaves the name out.
    mutating func order(
        _ names: [SpoolPath.Name], owner: (SpoolPath.Name) throws(SpoolError) -> UInt32?
    ) throws(SpoolError) -> [SpoolPath.Name] {
        var known: [SpoolPath.Name: UInt32] = [:]
        known.reserveCapacity(names.count)
        var lines: [UInt32: [SpoolPath.Name]] = [:]
        for name in names {
            let found: UInt32?
            if let seen = owners[name] { found = seen } else { found = try owner(name) }
            guard let uid = found else { continue }
            known[name] = uid
            lines[uid, default: []].append(name)
        }
        owners = known
        guard lines.count > 1 else { return lines.first?.value ?? [] }
        var ordered: [SpoolPath.Name] = []
        ordered.reserveCapacity(names.count)
        let queues = lines.sorted { $0.key < $1.key }.map(\.value)
        for place in 0..<(queues.map(\.count).max() ?? 0) {
            for queue in queues where place < queue.count { ordered.append(queue[place]) }
        }
        return ordered
    }
}
