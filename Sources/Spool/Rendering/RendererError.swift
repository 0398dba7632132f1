/// Why a renderer could not do what was asked. The case decides what becomes of the job.
public enum RendererError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The request itself is at fault and would fail again: a damaged image, an unknown model, settings that drive the model
    /// to results that are no numbers. `field` is a JSON path of the manifest or a file's name. The job fails, or the
    /// references are rejected.
    case rejected(field: String?, message: String)
    /// The model a request names cannot be used: a file of it is missing, unreadable, damaged or misconfigured. It is the
    /// installation's fault. Consumes no attempt: jobs and references wait, and look again after a pause.
    case unavailable(message: String)
    /// What the pictures depend on is not what `RenderRequest.identity` names. Consumes no attempt; the set begins anew, or
    /// waits, as configured.
    case changed(message: String)
    /// It may work another time, or after something is made again, such as a damaged `.dcache`. Consumes an attempt; tried
    /// again after a pause.
    case transient(message: String)
    /// The machine, not the job: no space, memory, descriptors, processes or threads, an I/O error, the memory limit.
    /// Consumes no attempt.
    case environment(message: String)
    /// `shouldStop` said so. Consumes no attempt.
    case stopped

    /// What a person reads: the message, behind the field or file where one is named.
    public var description: String {
        switch self {
        case .rejected(let field?, let message): "\(field): \(message)"
        case .rejected(nil, let message), .unavailable(let message), .changed(let message), .transient(let message),
            .environment(let message):
            message
        case .stopped: "stopped"
        }
    }

    /// The case's name, for logs.
    public var kind: String {
        switch self {
        case .rejected: "rejected"
        case .unavailable: "unavailable"
        case .changed: "changed"
        case .transient: "transient"
        case .environment: "environment"
        case .stopped: "stopped"
        }
    }
}
