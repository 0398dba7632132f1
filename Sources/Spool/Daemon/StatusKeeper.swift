import Glibc
import Pages

/// Writes `status.json` and the `progress.json` of the job at work, and tells the supervisor that the daemon lives.
struct StatusKeeper {
    private var nextWrite = 0.0
    private var nextAlive = 0.0
    private var lastTicks = -1
    private var lastLine = ""
    private var remaining = RemainingTime()
    private let store: DurableStore
    private let hooks: DaemonHooks

    init(store: DurableStore, hooks: DaemonHooks) {
        self.store = store
        self.hooks = hooks
    }

    mutating func jobBegan() {
        remaining.jobBegan()
        nextWrite = 0
    }

    mutating func imageBegan(holding share: Double, now: Double) { remaining.imageBegan(holding: share, now: now) }

    mutating func imageEnded(now: Double) { remaining.imageEnded(now: now) }

    /// A job has come to its end: its progress says so at once.
    mutating func jobEnded(_ job: Job, _ state: JobState, stamp: String) {
        write(progress(job, state, step: nil, eta: nil, stamp), to: SpoolLayout.job(job.id, state))
        nextWrite = 0
    }

    /// Called at each turn.
    mutating func update(_ snapshot: DaemonSnapshot) {
        let now = snapshot.now
        if now >= nextAlive, snapshot.machine.work == nil || snapshot.ticks != lastTicks {
            nextAlive = now + min(1, snapshot.aliveInterval / 2)
            lastTicks = snapshot.ticks
            hooks.alive()
        }
        guard now >= nextWrite || snapshot.hasExited else { return }
        nextWrite = now + snapshot.statusInterval
        var active: JSON?
        if let job = snapshot.current {
            let step = snapshot.progress
            let progress = progress(job, .active, step: step, eta: eta(job, step, now), snapshot.time.text)
            active = progress
            write(progress, to: SpoolLayout.job(job.id, .active))
        }
        let (document, line) = document(snapshot, active)
        try? store.replaceUnsynced(document, at: SpoolLayout.statusFile)
        if line != lastLine {
            lastLine = line
            hooks.status(line)
        }
    }

    /// These files only inform; one that cannot be written now is written at the next occasion.
    private func write(_ progress: JSON, to folder: SpoolPath) {
        try? store.replaceUnsynced(progress, at: folder.appending(JobStore.progressFile))
    }

    /// Seconds left for a job.
    func eta(_ job: Job, _ step: RenderProgress?, _ now: Double) -> Double? {
        if let seconds = step?.secondsLeft { return seconds }
        return remaining.seconds(
            forImages: job.manifest.imageCount - job.record.images.count, share: step?.share, now: now)
    }

    private func progress(
        _ job: Job, _ state: JobState, step: RenderProgress?, eta: Double?, _ stamp: String
    ) -> JSON {
        .object([
            "job": .string(job.id.text), "drop": .string(job.record.drop), "state": .string(state.rawValue),
            "phase": step.map { .string($0.phase) }, "step": step.map { .integer($0.step) },
            "steps": step.map { .integer($0.steps) },
            "loss": step?.loss.map { .number($0) },
            "candidate": step?.candidate.map { .integer($0) }, "candidates": step?.candidates.map { .integer($0) },
            "image": .integer(job.record.images.count), "images": .integer(job.manifest.imageCount),
            "preview": step?.preview.map { .string(Base64.text($0)) }, "eta": eta.map { .number($0.rounded()) },
            "time": .string(stamp),
        ])
    }

    /// How many waiting jobs are named one by one.
    private static let namedWaiting = 20

    private func document(_ snapshot: DaemonSnapshot, _ active: JSON?) -> (JSON, line: String) {
        var counts: [String: Int] = ["queued": 0, "active": 0, "retry": 0]
        var waiting: [(QueueMachine.Entry, String)] = []
        for (entry, standing) in snapshot.machine.jobs.values {
            switch standing {
            case .queued, .held:
                counts["queued", default: 0] += 1
                if let reason = snapshot.machine.obstacle(to: entry, standing) { waiting.append((entry, reason)) }
            case .retrying: counts["retry", default: 0] += 1
            case .active, .unsettled: counts["active", default: 0] += 1
            }
        }
        waiting.sort { $0.0.sequence < $1.0.sequence }
        let trouble = snapshot.trouble
        let names = ["queued", "active", "retry"]
        let document = JSON.object([
            "state": .string(snapshot.state), "message": trouble.map { .string($0) }, "pid": .integer(Int(getpid())),
            "watching": .string(snapshot.pollingReason == nil ? "inotify" : "polling"),
            "watching_reason": snapshot.pollingReason.map { .string($0) },
            "jobs": JSON(.object(names.map { .init($0, .integer(counts[$0] ?? 0)) })), "active": active,
            "waiting": .array(
                waiting.prefix(Self.namedWaiting).map { entry, reason in
                    .object(["job": .string(entry.id.text), "reason": .string(reason)])
                }),
            "time": .string(snapshot.time.text),
        ])
        let work = snapshot.current.map { ", \($0.id) \(Self.place(of: $0, snapshot.progress))" } ?? ""
        return (document, "\(trouble ?? snapshot.state): \(counts["queued"] ?? 0) queued\(work)")
    }

    /// How far a job is, in a few words.
    private static func place(of job: Job, _ step: RenderProgress?) -> String {
        guard job.manifest.training != nil else {
            return "image \(job.record.images.count)/\(job.manifest.imageCount)"
        }
        return step.map { "\($0.phase) \($0.step)/\($0.steps)" } ?? "training"
    }

    /// The JSON Schema's source of `progress.json`.
    static let progressSchema = Schema.object([
        .init("job", .string(pattern: .name), required: true, "The job."),
        .init("drop", .string(), required: true, "The name it was dropped under."),
        .init("state", .choice(JobState.allCases.map(\.rawValue)), required: true, "The job's state."),
        .init("phase", .string(), "What is being done to the image."),
        .init("step", .integer(0...Int.max), "Steps done of it."),
        .init("steps", .integer(0...Int.max), "Steps of it in all."),
        .init("loss", .number(-1e300...1e300), "Mean loss of the last steps of a training."),
        .init("candidate", .integer(1...Selection.maximumCandidates), "Which of the image's candidates is being made."),
        .init("candidates", .integer(1...Selection.maximumCandidates), "Candidates of the image."),
        .init("image", .integer(0...JobManifest.maximumImages), required: true, "Images done."),
        .init("images", .integer(1...JobManifest.maximumImages), required: true, "Images in all."),
        .init("preview", .string(), "The picture as it is now: a small PNG, in base64."),
        .init("eta", .number(0...1e12), "Seconds left."),
        .init("time", .string(), required: true, "When this was written, UTC."),
    ])

    /// The JSON Schema's source of `status.json`.
    static let statusSchema = Schema.object([
        .init("state", .choice(["idle", "working", "paused", "stopped"]), required: true, "What the daemon does."),
        .init("message", .string(), "Why it is paused."),
        .init("pid", .integer(1...Int.max), required: true, "The daemon's process."),
        .init("watching", .choice(["inotify", "polling"]), required: true, "How drops are noticed."),
        .init("watching_reason", .string(), "Why by polling."),
        .init(
            "jobs",
            .object(
                ["queued", "active", "retry"].map {
                    .init($0, .integer(0...Int.max), required: true, "Jobs in \($0).")
                }), required: true, "Numbers of unfinished jobs."),
        .init("active", progressSchema, "The job at work."),
        .init(
            "waiting",
            .array(
                of: .object([
                    .init("job", .string(pattern: .name), required: true, "The job."),
                    .init("reason", .string(), required: true, "What it waits for."),
                ]), count: 0...namedWaiting), required: true,
            "The first of the jobs that wait for a subject or for the machine."),
        .init("time", .string(), required: true, "When this was written, UTC."),
    ])
}
