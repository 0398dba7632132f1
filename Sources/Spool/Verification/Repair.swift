import Logging
import SystemPackage

/// What a start-up does, and what the daemon would do later when it comes upon damage, done at once: everything that can
/// be made again goes or is written anew, and what is somebody's goes to `lib/rejected`.
public struct Repair: Sendable {
    /// What was found and is no more.
    public let repaired: [Finding]
    /// What is left, errors and notes.
    public let left: [Finding]
    /// Why some of it could not be repaired, in the machine's words.
    public let refusals: [String]
}

/// Repairs a spool that no daemon runs on.
struct Repairer {
    let store: DurableStore
    let jobs: JobStore
    let clock: SpoolClock
    let logger: Logger
    let isSound: (String) -> Bool

    /// One repair may bring the next to light: a cache that goes has its subject encoded again, which needs references.
    private static let rounds = 8

    private var time: String { Timestamp(clock.wall()).text }

    /// - Throws: `.locked` when a daemon runs; whatever makes the whole spool unusable.
    func run() throws(SpoolError) -> Repair {
        let before = try verify()
        let lock = try Recovery.open(store, jobs, logger)
        defer { withExtendedLifetime(lock) {} }
        _ = try ClaimShelf(store, logger: logger)
        _ = try Recovery(store: store, jobs: jobs, logger: logger, time: time).run()
        var seen = before
        var left = try verify()
        var refusals: [String] = []
        for _ in 0..<Self.rounds where left.contains(where: { $0.remedy != nil }) {
            refusals = []
            for finding in left {
                guard let remedy = finding.remedy else { continue }
                do throws(SpoolError) {
                    try perform(remedy)
                } catch  where !error.isFinal {
                    refusals.append(Finding.printable("\(finding.path): \(error)"))
                }
            }
            seen += left.filter { !seen.contains($0) }
            let next = try verify()
            guard next != left else { break }
            left = next
        }
        return Repair(repaired: seen.filter { !left.contains($0) }, left: left, refusals: refusals)
    }

    private func verify() throws(SpoolError) -> [Finding] {
        try Verification.run(store, isDaemonRunning: false, time: time, isSound: isSound)
    }

    private func perform(_ remedy: Remedy) throws(SpoolError) {
        switch remedy {
        case .remove(let path): try store.removeTree(path)
        case .setAside(let path, let name):
            guard try store.system.statusIfAny(path) != nil else { return }
            try store.setAside(path, as: name)
        case .rebuild(let id): try jobs.rebuild(id)
        case .end(let id, let from, let to, let reason):
            try jobs.end(id, from: from, to: to, reason: reason, time: time)
        case .mend(let id, let state):
            var job = try jobs.load(id, state)
            try jobs.mend(&job, state)
        case .writeReason(let id, let state, let reason):
            try jobs.write(reason: reason, of: id, in: state, ending: state, time: time)
        case .writeList(let set):
            let path = SpoolLayout.referenceSet(set.digest).appending(ReferenceSet.listFile)
            try store.publish(set.json, at: path, replacing: true)
        case .encodeAgain(let subject):
            try change(subject) { record in
                guard let index = record.generations.lastIndex(where: { !$0.isRejected }) else { return }
                record.generations[index].state = .pending
                record.generations[index].attempts = 0
            }
        case .reject(let subject, let number, let reason):
            try change(subject) { record in
                guard let index = record.generations.firstIndex(where: { $0.number == number }) else { return }
                record.generations[index].state = .rejected(reason: reason)
            }
        case .link(let subject, let key): try store.link(subject, toCache: key)
        case .writeKey(let path, let id): try store.publish(Array(id.text.utf8), at: path, replacing: true)
        case .writeReceipts(let receipts):
            try store.publish(
                receipts.map { (Array($0.json.text().utf8), SpoolLayout.receipt($0.drop)) }, in: SpoolLayout.receipts)
        }
    }

    private func change(_ subject: String, _ body: (inout SubjectRecord) -> Void) throws(SpoolError) {
        let path = SpoolLayout.subject(subject)
        guard var record = SubjectRecord(try store.readJSON(path)) else { return }
        body(&record)
        try store.publish(record.json, at: path, replacing: true)
    }
}

extension SpoolClient {
    /// Checks that the spool is what it should be; see `Verification`. It needs no daemon, and disturbs none.
    ///
    /// - Parameter isSound: whether a `.dcache`, by its absolute path, is what was written.
    public func verify(isSound: @escaping (String) -> Bool) throws(SpoolError) -> [Finding] {
        // Where that cannot be told, nothing is taken for left over.
        let isRunning = (try? isDaemonRunning()) ?? true
        return try Verification.run(
            store, isDaemonRunning: isRunning, time: Timestamp(clock.wall()).text, isSound: isSound)
    }

    /// Repairs what can be; a second time there is nothing to do.
    ///
    /// - Parameters:
    ///   - isSound: whether a `.dcache`, by its absolute path, is what was written.
    ///   - logger: told of what a start-up would log.
    /// - Throws: `.locked` when a daemon runs.
    public func repair(
        isSound: @escaping (String) -> Bool, logger: Logger = Logger(label: "verify")
    ) throws(SpoolError) -> Repair {
        try Repairer(store: store, jobs: jobs, clock: clock, logger: logger, isSound: isSound).run()
    }
}
