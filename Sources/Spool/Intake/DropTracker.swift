/// Tells when a drop has come to rest, as a pure value: it is given every look at the drop, and says for how long the
/// drop has looked the same.
struct DropTracker: Sendable {
    private struct Sighting: Sendable {
        var fingerprint: String
        var since: Double
        var isWhole: Bool?
    }

    private var sightings: [SpoolPath.Name: Sighting] = [:]
    /// What was moved in, as it was then: inode and time of its last change of any kind.
    private var movedIn: [SpoolPath.Name: Arrival] = [:]

    private struct Arrival: Sendable, Equatable {
        let inode: UInt64
        let changed: Int64
    }

    /// Whether anything is remembered.
    var isWaiting: Bool { !sightings.isEmpty || !movedIn.isEmpty }

    /// An event said that this name was renamed in, which only somebody who has finished does.
    ///
    /// - Parameter status: what has the name now; nil when it is gone.
    mutating func wasMovedIn(_ name: SpoolPath.Name, _ status: SystemCalls.FileStatus?) {
        movedIn[name] = status.map { Arrival(inode: $0.inode, changed: $0.changed) }
    }

    /// Whether this was renamed in under that name and has not changed since. Another file of the name was not.
    func isExplicit(_ name: SpoolPath.Name, _ status: SystemCalls.FileStatus) -> Bool {
        movedIn[name] == Arrival(inode: status.inode, changed: status.changed)
    }

    /// Notes what a drop looks like now and returns for how long, in seconds, it has looked so.
    mutating func rest(of name: SpoolPath.Name, fingerprint: String, now: Double) -> Double {
        if let seen = sightings[name], seen.fingerprint == fingerprint { return now - seen.since }
        sightings[name] = Sighting(fingerprint: fingerprint, since: now, isWhole: nil)
        return 0
    }

    /// Whether all of a drop was whole when last examined; nil when it was not, or has changed since.
    func isWhole(_ name: SpoolPath.Name) -> Bool? { sightings[name]?.isWhole }

    /// Notes the outcome of an examination.
    mutating func noteWhole(_ name: SpoolPath.Name, _ whole: Bool) { sightings[name]?.isWhole = whole }

    /// Forgets a drop that was claimed.
    mutating func forget(_ name: SpoolPath.Name) {
        sightings[name] = nil
        movedIn[name] = nil
    }

    /// Forgets all drops that are no longer there.
    mutating func keepOnly(_ names: Set<SpoolPath.Name>) {
        sightings = sightings.filter { names.contains($0.key) }
        movedIn = movedIn.filter { names.contains($0.key) }
    }
}
