/// What comes next.
///
/// Owners take turns by the time they have had. Of one owner, references that want encoding come first, then the most
/// urgent job, the one at hand on a tie. While the machine seems in trouble, what had least of it comes before everything else:
/// if that succeeds, the trouble was not the machine's.
extension QueueMachine {
    private struct Candidate {
        var subject: String?
        var job: (entry: Entry, urgency: Double)?

        /// Whether another owner's candidate is more pressing, given that both owners have had the same time.
        func isBehind(_ other: Candidate) -> Bool {
            guard (subject != nil) == (other.subject != nil) else { return subject == nil }
            guard let mine = job, let theirs = other.job else { return false }
            return (mine.urgency, -mine.entry.sequence) < (theirs.urgency, -theirs.entry.sequence)
        }
    }

    mutating func choose(_ now: Double, _ actions: inout [Action]) {
        guard work == nil, !hasExited else { return }
        if isStopping {
            if let active { release(active, now, &actions) }
            hasExited = true
            actions.append(.exit)
            return
        }
        guard mayStart, heldMachine.map({ $0.until <= now }) ?? true else { return }
        refuseExhausted(now, &actions)
        let candidates = candidates(now)
        let activeEntry = active.flatMap { jobs[$0]?.entry }
        shares.note(present: Set(candidates.keys).union(activeEntry.map { [$0.owner] } ?? []))
        if let activeEntry {
            goOn(activeEntry, candidates, now, &actions)
        } else if let owner = next(of: candidates) {
            take(owner, candidates, now, &actions)
        }
    }

    /// Who is next: the owner who has had least.
    private func next(of candidates: [UInt32: Candidate]) -> UInt32? {
        candidates.min { a, b in
            let (mine, theirs) = (shares.used(by: a.key), shares.used(by: b.key))
            return mine != theirs ? mine < theirs : b.value.isBehind(a.value)
        }?.key
    }

    /// The job at hand goes on, unless another owner has waited for a turn, or its own author has something more
    /// urgent. Age alone never interrupts a job; otherwise two old jobs would take turns for ever.
    private mutating func goOn(
        _ entry: Entry, _ candidates: [UInt32: Candidate], _ now: Double, _ actions: inout [Action]
    ) {
        let others = candidates.filter { owner, _ in
            owner != entry.owner && shares.used(by: entry.owner) - shares.used(by: owner) >= limits.turnInterval
        }
        if let other = next(of: others) {
            if others[other]?.subject == nil { release(entry.id, now, &actions) }
            return take(other, candidates, now, &actions)
        }
        if candidates[entry.owner]?.subject != nil { return take(entry.owner, candidates, now, &actions) }
        guard let better = candidates[entry.owner]?.job?.entry, better.priority > entry.priority else {
            return proceed(entry.id, now, &actions)
        }
        release(entry.id, now, &actions)
        take(entry.owner, candidates, now, &actions)
    }

    /// A training goes on for hours. It is put aside between two steps for what would have come first, had it been an image that
    /// is done now.
    mutating func yieldIfDue(_ now: Double, _ actions: inout [Action]) {
        guard case .job(let id, .image) = work, let entry = jobs[id]?.entry, entry.yields, !isYielding, !isStopping,
            mayStart, heldMachine.map({ $0.until <= now }) ?? true
        else { return }
        let candidates = candidates(now)
        shares.note(present: Set(candidates.keys).union([entry.owner]))
        let used = shares.used(by: entry.owner) + max(0, now - workBegan.moment)
        let isAnothersTurn = candidates.keys.contains { owner in
            owner != entry.owner && used - shares.used(by: owner) >= limits.turnInterval
        }
        // Not only the one that has waited longest: an older training must not hide a render.
        let isUrgent =
            candidates[entry.owner]?.subject != nil
            || jobs.values.contains { other, standing in
                other.owner == entry.owner && other.priority > entry.priority && since(other, standing, now) != nil
            }
        guard isAnothersTurn || isUrgent else { return }
        isYielding = true
        actions.append(.yield)
    }

    private mutating func take(
        _ owner: UInt32, _ candidates: [UInt32: Candidate], _ now: Double, _ actions: inout [Action]
    ) {
        if let subject = candidates[owner]?.subject, let attempts = subjects[subject]?.order?.attempts {
            subjects[subject] = .pending(notBefore: now, owner: owner, attempts: attempts + 1)
            actions.append(.beginEncoding(subject, attempts: attempts + 1))
            start(.encode(subject), of: owner, now, &actions)
        } else if let chosen = candidates[owner]?.job?.entry {
            begin(chosen, &actions)
            choose(now, &actions)
        }
    }

    /// References whose encoding was begun too often without coming to an end are refused: they are what ends the
    /// daemon.
    private mutating func refuseExhausted(_ now: Double, _ actions: inout [Action]) {
        for (name, subject) in subjects {
            guard let (moment, _, attempts) = subject.order, moment <= now, attempts >= limits.maximumAttempts else {
                continue
            }
            reject(
                name, "its encoding was begun \(attempts) times, and the last of them ended the daemon", &actions)
        }
    }

    /// For each owner what there is to do now: the first subject by name, and the most urgent job.
    private func candidates(_ now: Double) -> [UInt32: Candidate] {
        var found: [UInt32: Candidate] = [:]
        let limit = row.count > 0 ? leastTroubles(now) : .max
        for (name, subject) in subjects {
            guard let (moment, owner, _) = subject.order, moment <= now, troubles(of: name) <= limit else { continue }
            if let other = found[owner]?.subject, other < name { continue }
            found[owner, default: Candidate()].subject = name
        }
        for (entry, standing) in jobs.values {
            guard let since = since(entry, standing, now), troubles[entry.id, default: 0] <= limit else { continue }
            let urgency = urgency(entry, since: since, now: now)
            if let best = found[entry.owner]?.job,
                (best.urgency, -best.entry.sequence) >= (urgency, -entry.sequence)
            {
                continue
            }
            found[entry.owner, default: Candidate()].job = (entry, urgency)
        }
        return found
    }

    /// Since when a job waits for its turn; nil when it may not begin.
    private func since(_ entry: Entry, _ standing: Standing, _ now: Double) -> Double? {
        guard case .queued(let since) = standing, waiting(for: entry) == nil, !isHeld(entry.model, now) else {
            return nil
        }
        return since
    }

    private func troubles(of subject: String) -> Int { encodingTroubles[subject]?.count ?? 0 }

    /// How much trouble what had least of it has had, of all that may be done now and the job at hand.
    private func leastTroubles(_ now: Double) -> Int {
        let ofSubjects = subjects.filter { ($0.value.order?.moment ?? .infinity) <= now }.keys.map(troubles(of:))
        let ofJobs = jobs.values.filter { $0.entry.id == active || since($0.entry, $0.standing, now) != nil }
            .map { troubles[$0.entry.id, default: 0] }
        return (ofSubjects + ofJobs).min() ?? .max
    }

    private func urgency(_ entry: Entry, since: Double, now: Double) -> Double {
        Double(entry.priority)
            + (limits.agingInterval > 0 ? (max(0, now - since) / limits.agingInterval).rounded(.down) : 0)
    }

    private func isHeld(_ model: String, _ now: Double) -> Bool { heldModels[model].map { $0.until > now } ?? false }

    // MARK: - What is waited for

    /// Those of a job's subjects that nobody has dropped.
    func missingSubjects(of entry: Entry) -> [String] { entry.subjects.filter { subjects[$0] == nil } }

    private func lacks(_ entry: Entry) -> Bool {
        entry.subjects.contains { subjects[$0] == nil } || entry.dataset.map { !datasets.contains($0) } ?? false
    }

    /// What a job needs that nobody has dropped, and how much that is; nil when all is there.
    func missing(for entry: Entry) -> (what: String, count: Int)? {
        if let dataset = entry.dataset, !datasets.contains(dataset) { return ("data set '\(dataset)'", 1) }
        let missing = missingSubjects(of: entry)
        return missing.isEmpty ? nil : (Self.named(missing), missing.count)
    }

    static func named(_ subjects: [String]) -> String {
        (subjects.count == 1 ? "subject " : "subjects ") + subjects.map { "'\($0)'" }.joined(separator: ", ")
    }

    /// Which subject or data set a queued job waits for, or nil when all are there.
    public func waiting(for entry: Entry) -> String? {
        if let dataset = entry.dataset, !datasets.contains(dataset) { return "waiting for the data set '\(dataset)'" }
        let missing = missingSubjects(of: entry)
        if !missing.isEmpty { return "waiting for references of \(Self.named(missing))" }
        for name in entry.subjects {
            if case .pending = subjects[name] { return "waiting for the references of subject '\(name)' to be encoded" }
        }
        return nil
    }

    /// Why a job in `queued` does not begin, or nil when it only waits for its turn.
    public func obstacle(to entry: Entry, _ standing: Standing? = nil) -> String? {
        if case .held(_, _, let reason) = standing { return "held: \(reason)" }
        if let reason = waiting(for: entry) { return reason }
        return (heldModels[entry.model] ?? heldMachine).map { "held: \($0.reason)" }
    }

    /// The moment at which `tick` next has something to do, or nil.
    public var nextDeadline: Double? { nextDeadline(after: -.infinity) }

    /// The same, leaving out what is due already and only waits for the work at hand.
    func nextDeadline(after now: Double) -> Double? {
        var deadlines: [Double] = jobs.values.compactMap { entry, standing in
            switch standing {
            case .retrying(let until), .unsettled(let until), .held(let until, _, _): until
            case .queued(let since): lacks(entry) ? since + limits.subjectLimit : nil
            case .active: nil
            }
        }
        deadlines += subjects.values.compactMap { $0.order?.moment }
        deadlines += heldModels.values.map(\.until)
        if let heldMachine { deadlines.append(heldMachine.until) }
        return deadlines.filter { $0 > now }.min()
    }
}
