import Logging
import Pages
import SystemPackage

/// Keeps the spool's page, `index.html`, and the pages of older sets. They only inform: one that cannot be written harms
/// nothing, and is tried again later.
struct PageKeeper {
    private let store: DurableStore
    private let jobs: JobStore
    private let refusals: Refusals
    private let logger: Logger
    private var finished: FinishedSets?
    /// Jobs that failed; nil when they are to be read.
    private var failed: [SpoolPage.Refusal]?
    private var nextWrite = 0.0
    private var written: (page: SpoolPage, moment: Double)?
    private var isInTrouble = false

    /// How long a page may stand although nothing has changed: it says when it was made.
    private static let renewal = 60.0
    private static let shownWaiting = 20
    private static let shownFailed = 10

    init(_ store: DurableStore, _ jobs: JobStore, _ refusals: Refusals, _ logger: Logger) {
        (self.store, self.jobs, self.refusals, self.logger) = (store, jobs, refusals, logger)
    }

    /// A job is done.
    mutating func finished(_ id: JobID) { finished?.add(id) }

    /// A job has failed, or one that had is queued again.
    mutating func failuresChanged() { failed = nil }

    /// Finished jobs may have been removed.
    mutating func retentionRan() {
        if (try? finished?.isOutdated()) != false { finished = nil }
        failed = nil
    }

    /// Whether the next turn of the loop should come soon.
    var hasMore: Bool { !isInTrouble && (finished?.hasMore == true || refusals.hasMore) }

    /// Called at each turn.
    ///
    /// - Parameter eta: seconds left for the job at work.
    mutating func update(_ snapshot: DaemonSnapshot, eta: Double?) {
        guard snapshot.wantsPages else { return }
        if isInTrouble, snapshot.now < nextWrite { return }
        do throws(SpoolError) {
            try refresh(snapshot, eta)
            isInTrouble = false
        } catch {
            if !isInTrouble { logger.warning("the spool's page is not up to date", metadata: ["error": "\(error)"]) }
            isInTrouble = true
            nextWrite = snapshot.now + Self.renewal
        }
    }

    private mutating func refresh(_ snapshot: DaemonSnapshot, _ eta: Double?) throws(SpoolError) {
        // Who waits for the daemon's end does not wait for its pages; the next start makes them.
        if !snapshot.isStopping {
            if refusals.hasMore { try refusals.readMore() }
            if finished == nil { finished = try FinishedSets(store, jobs) }
            if finished?.hasMore == true { try finished?.writePage() }
        }
        guard snapshot.now >= nextWrite || snapshot.hasExited else { return }
        nextWrite = snapshot.now + snapshot.statusInterval
        let page = try content(snapshot, eta)
        if let written, written.page == page, snapshot.now - written.moment < Self.renewal { return }
        let html: String
        do throws(PageError) {
            html = try page.html(time: Timestamp.forPeople(snapshot.time.text), seconds: snapshot.time.seconds)
        } catch {
            throw SpoolError(.damaged, operation: "make", path: SpoolLayout.page.string, detail: "\(error)")
        }
        try store.replaceUnsynced(Array(html.utf8), at: SpoolLayout.page)
        written = (page, snapshot.now)
    }

    // MARK: - What it says

    private mutating func content(_ snapshot: DaemonSnapshot, _ eta: Double?) throws(SpoolError) -> SpoolPage {
        var page = SpoolPage(state: snapshot.state)
        page.message = snapshot.trouble
        page.work = snapshot.current.map { work($0, snapshot.progress, eta) }
        (page.waiting, page.waitingCount) = waiting(snapshot.machine)
        page.finished = finished?.shown() ?? []
        page.finishedCount = finished?.count ?? 0
        page.archive = finished?.lastPage
        page.refused = refusals.content
        if failed == nil { failed = try failures() }
        page.failed = failed ?? []
        return page
    }

    private func work(_ job: Job, _ step: RenderProgress?, _ eta: Double?) -> SpoolPage.Work {
        let (done, all) = (job.record.images.count, job.manifest.imageCount)
        var words = job.manifest.training == nil ? ["picture \(min(done + 1, all)) of \(all)"] : []
        if let candidate = step?.candidate, let candidates = step?.candidates {
            words.append("candidate \(candidate) of \(candidates)")
        }
        if let step { words.append(step.phase + (step.steps > 1 ? " \(step.step) of \(step.steps)" : "")) }
        if let loss = step?.loss { words.append("loss \(loss.inSignificantDigits)") }
        if let eta, eta < 1e9 { words.append("about \(eta < 90 ? "\(Int(eta)) s" : "\(Int(eta / 60)) min") left") }
        return SpoolPage.Work(
            job: job.id.text, subjects: job.manifest.subjectTitle,
            prompt: job.manifest.title(image: min(done, all - 1)), words: words.joined(separator: ", "),
            share: (Double(done) + (step?.share ?? 0)) / Double(all),
            preview: step?.preview.map { EmbeddedPicture($0, type: "image/png") })
    }

    /// The first of what waits, and how much waits in all.
    private func waiting(_ machine: QueueMachine) -> ([SpoolPage.Waiting], Int) {
        var count = 0
        var first: [(entry: QueueMachine.Entry, reason: String)] = []
        for (entry, standing) in machine.jobs.values {
            var reason = ""
            switch standing {
            case .active: continue
            case .queued, .held: break
            case .retrying: reason = "another try"
            case .unsettled: reason = "its folder"
            }
            count += 1
            if first.count == Self.shownWaiting, let last = first.last, last.entry.sequence < entry.sequence {
                continue
            }
            let index = first.firstIndex { $0.entry.sequence > entry.sequence } ?? first.count
            if reason.isEmpty { reason = machine.obstacle(to: entry, standing) ?? "" }
            first.insert((entry, reason), at: index)
            if first.count > Self.shownWaiting { first.removeLast() }
        }
        let encodings = machine.subjects.filter { $0.value != .ready }.keys.sorted()
        let references = encodings.prefix(Self.shownWaiting).map {
            SpoolPage.Waiting(name: "photos of \($0)", subjects: $0, pictures: nil, reason: "to be read")
        }
        let jobs = first.map {
            SpoolPage.Waiting(
                name: $0.entry.id.text, subjects: ($0.entry.dataset ?? $0.entry.subjects.joined(separator: ", ")),
                pictures: $0.entry.yields ? nil : $0.entry.images, reason: $0.reason)
        }
        return (references + jobs, encodings.count + count)
    }

    private func failures() throws(SpoolError) -> [SpoolPage.Refusal] {
        var ids: [(id: JobID, state: JobState)] = []
        for state in [JobState.failed, .quarantine] { ids += try jobs.list(state).map { ($0, state) } }
        return ids.sorted { $0.id > $1.id }.prefix(Self.shownFailed).map { id, state in
            let folder = SpoolLayout.job(id, state)
            let reason = (try? store.readJSON(folder.appending(JobStore.reasonFile)))?["reason"]?.string
            let drop = (try? jobs.load(id, state, withImages: false))?.record.drop
            return SpoolPage.Refusal(
                name: drop ?? id.text, reason: reason ?? "no reason is recorded", faults: [],
                advice:
                    "Its job is \(id). `dreamcache retry \(id)` queues it again; so does an empty file drop/jobs/\(id).retry."
            )
        }
    }
}

extension Double {
    /// As people read a loss: 0.0832.
    fileprivate var inSignificantDigits: String {
        guard self != 0, isFinite else { return "\(self)" }
        var (value, digits) = (abs(self), 3)
        while value < 1, digits < 12 { (value, digits) = (value * 10, digits + 1) }
        let scale = (0..<digits).reduce(1.0) { scale, _ in scale * 10 }
        return "\((self * scale).rounded() / scale)"
    }
}

extension Timestamp {
    /// A moment as documents have it, for people: `2026-11-23 09:14 UTC`.
    static func forPeople(_ text: String) -> String {
        guard text.utf8.count >= 16 else { return text }
        return text.prefix(10) + " " + text.dropFirst(11).prefix(5) + " UTC"
    }
}
