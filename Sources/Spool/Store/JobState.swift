/// The states of a job; its state is the folder it is in.
public enum JobState: String, Sendable, CaseIterable {
    /// Accepted, waiting for its turn or for its subject.
    case queued
    /// Being worked on.
    case active
    /// Failed for now; tried again after a pause.
    case retry
    /// Its set is in `out/`.
    case done
    /// It cannot be done, or was cancelled.
    case failed
    /// It failed too often, or its folder is damaged.
    case quarantine

    /// All states, those further on first.
    static let furthestFirst: [JobState] = [.done, .failed, .quarantine, .active, .retry, .queued]

    var folder: SpoolPath { SpoolPath("lib/jobs").appending(rawValue) }

    /// Whether nothing more happens by itself.
    public var isFinal: Bool { self == .done || self == .failed || self == .quarantine }
}
