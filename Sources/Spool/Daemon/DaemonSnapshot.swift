/// The daemon as it stands at the end of a turn: what its status is made of.
struct DaemonSnapshot {
    /// The monotonic clock, in seconds.
    let now: Double
    /// The wall clock.
    let time: Timestamp
    let machine: QueueMachine
    /// The job in `active`.
    let current: Job?
    /// How often the worker has reported.
    let ticks: Int
    /// What it reported last.
    let progress: RenderProgress?
    /// Why nothing is accepted, or not everything; nil when all is well.
    let trouble: String?
    /// Why drops are noticed by polling; nil when they are watched.
    let pollingReason: String?
    let isStopping: Bool
    let hasExited: Bool
    /// Whether pages are kept.
    let wantsPages: Bool
    /// Intervals of the configuration, in seconds.
    let aliveInterval: Double, statusInterval: Double

    /// In one word, as `status.json` has it.
    var state: String {
        if hasExited { return "stopped" }
        if trouble != nil { return "paused" }
        return machine.work == nil ? "idle" : "working"
    }
}
