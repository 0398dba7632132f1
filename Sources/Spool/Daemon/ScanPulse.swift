/// Keeps scans of the drop folders short. A scan takes turns with the queue, looks for a stop between two drops, and
/// tells the supervisor meanwhile that the daemon lives.
final class ScanPulse {
    private let clock: SpoolClock
    private let mailbox: Mailbox<SpoolLoop.Message>
    private let hooks: DaemonHooks
    private var end = 0.0
    private var nextSign = 0.0

    /// How long a scan may take before the loop looks after everything else, in seconds.
    private static let length = 2.0

    init(clock: SpoolClock, mailbox: Mailbox<SpoolLoop.Message>, hooks: DaemonHooks) {
        self.clock = clock
        self.mailbox = mailbox
        self.hooks = hooks
    }

    /// A scan begins.
    func begin() { end = clock.monotonic() + Self.length }

    /// Whether the scan has had its time.
    var isOver: Bool { clock.monotonic() >= end }

    /// Between two drops: says that the daemon lives, and whether the scan may go on.
    func beat() -> Bool {
        let now = clock.monotonic()
        if now >= nextSign {
            nextSign = now + 1
            hooks.alive()
        }
        return now < end && !mailbox.isWaiting { if case .stop = $0 { true } else { false } }
    }
}
