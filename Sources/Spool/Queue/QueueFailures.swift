/// What becomes of work that failed: who is to blame decides whether it ends, waits, or counts as an attempt.
extension QueueMachine {
    mutating func failed(_ error: RendererError, _ now: Double, _ actions: inout [Action]) {
        guard let failed = takeWork(now) else { return }
        if case .environment(let message) = error { noteTrouble(of: failed, message, now) }
        switch failed {
        case .encode(let subject): encodeFailed(subject, error, now, &actions)
        case .job(let id, let step): jobFailed(id, step, error, now, &actions)
        }
    }

    /// Three different things in trouble and no success between: the machine is the cause, and everything waits for it. What is
    /// in trouble alone waits alone: a picture can make its decoder run out of memory on any machine.
    private mutating func noteTrouble(of work: Work, _ reason: String, _ now: Double) {
        row.add(work)
        guard row.jobs.count + row.subjects.count >= 3 else { return }
        heldMachine = Hold(failures: row.count, until: now + troublePause(after: row.count - 2), reason: reason)
    }

    /// So often the machine may be in trouble with the encoding of one subject while it does other work. Then the subject is
    /// the cause.
    private static let mostTroublesAlone = 8

    private mutating func encodeFailed(
        _ subject: String, _ error: RendererError, _ now: Double, _ actions: inout [Action]
    ) {
        guard let (_, owner, attempts) = subjects[subject]?.order else { return }
        let before = max(0, attempts - 1)
        func restore(_ next: Subject) {
            subjects[subject] = next
            actions.append(.restoreEncoding(subject, attempts: before))
        }
        var troubles = encodingTroubles[subject] ?? EncodingTroubles()
        func noteTrouble() {
            troubles.count += 1
            troubles.successes = successes
            encodingTroubles[subject] = troubles
        }
        switch error {
        case .rejected: reject(subject, error.description, &actions)
        case .unavailable(let message):
            noteTrouble()
            restore(.held(until: now + pause(after: troubles.count), owner: owner, attempts: before))
            actions.append(.holdSubject(subject, reason: message))
        case .environment(let message):
            if troubles.count > 0, successes > troubles.successes { troubles.alone += 1 }
            guard troubles.alone < Self.mostTroublesAlone else {
                return reject(
                    subject,
                    "its encoding failed \(troubles.count + 1) times while other work went on; the last: \(message)",
                    &actions)
            }
            noteTrouble()
            restore(.pending(notBefore: now + troublePause(after: troubles.count), owner: owner, attempts: before))
            actions.append(.holdSubject(subject, reason: message))
        case .stopped: restore(.pending(notBefore: now, owner: owner, attempts: before))
        case .transient(let message), .changed(let message):
            guard attempts < limits.maximumAttempts else {
                return reject(subject, "\(attempts) attempts to encode it failed; the last: \(message)", &actions)
            }
            subjects[subject] = .pending(notBefore: now + pause(after: attempts), owner: owner, attempts: attempts)
            actions.append(.holdSubject(subject, reason: message))
        }
    }

    mutating func reject(_ subject: String, _ reason: String, _ actions: inout [Action]) {
        subjects[subject] = nil
        encodingTroubles[subject] = nil
        actions.append(.rejectSubject(subject, reason: reason))
    }

    private mutating func jobFailed(
        _ id: JobID, _ step: Step, _ error: RendererError, _ now: Double, _ actions: inout [Action]
    ) {
        guard let (entry, standing) = jobs[id], case .active(_, let before) = standing else { return }
        if cancelled.remove(id) != nil {
            return end(id, .fail(id, reason: Self.cancelReason), &actions)
        }
        if step == .grid, error != .stopped { return gridFailed(entry, before, error, now, &actions) }
        switch error {
        case .rejected: end(id, .fail(id, reason: error.description), &actions)
        case .unavailable(let message): holdModel(of: entry, message, now, &actions)
        case .transient(let message):
            // An attempt that got further counts as the first without progress.
            let fruitless = entry.point > entry.attempts.mark ? 1 : entry.attempts.fruitless
            if fruitless >= limits.maximumAttempts {
                return end(
                    id, .quarantine(id, reason: "\(fruitless) attempts without progress; the last: \(message)"),
                    &actions)
            }
            active = nil
            jobs[id] = (entry, .retrying(until: now + pause(after: fruitless)))
            actions.append(.postpone(id, reason: message))
        case .environment(let message): hold(id, message, now, &actions)
        case .changed(let message): changed(id, message, now, &actions)
        case .stopped: release(id, now, &actions)
        }
    }

    /// A contact sheet is a convenience and never costs a set: what the machine refuses is tried again, twice; then, and
    /// after any other failure, the set goes without.
    private mutating func gridFailed(
        _ entry: Entry, _ before: JobRecord.Attempts, _ error: RendererError, _ now: Double,
        _ actions: inout [Action]
    ) {
        switch error {
        case .environment(let reason) where troubles[entry.id, default: 0] < 2:
            return hold(entry.id, reason, now, &actions)
        case .environment, .rejected, .unavailable, .transient, .changed: break
        case .stopped: return
        }
        var entry = entry
        entry.isGridDone = true
        jobs[entry.id] = (entry, .active(next: .publish, before: before))
        actions.append(.skipGrid(entry.id, reason: error.description))
    }

    /// Something that the images of a set depend on has changed before the set was done. The set begins anew, or waits
    /// for its owner, as configured.
    mutating func changed(_ id: JobID, _ reason: String, _ now: Double, _ actions: inout [Action]) {
        guard var (entry, standing) = jobs[id], case .active(_, let before) = standing else { return }
        switch limits.onModelChange {
        case .restart:
            entry.point = JobRecord.Mark()
            entry.attempts.mark = JobRecord.Mark()
            entry.isGridDone = false
            standing = .active(next: first(entry), before: before)
            jobs[id] = (entry, standing)
            actions.append(.restart(id, reason: reason))
        case .hold:
            troubles[id] = .max >> 1
            hold(id, reason, now, &actions)
        }
    }

    func troublePause(after troubles: Int) -> Double {
        min(limits.environmentPause * Double(1 << min(max(troubles - 1, 0), 20)), limits.maximumBackoff)
    }
}
