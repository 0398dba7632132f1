import Foundation
import Glibc

/// Takes SIGTERM, SIGINT and SIGHUP one at a time on a thread of its own, where anything may be done; in a signal handler
/// almost nothing may.
struct SignalThread {
    private let set: sigset_t

    /// Blocks the signals in the calling thread and in every thread it starts from now on. Call it first.
    static func blockSignals() -> SignalThread {
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&set, number) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        // A reader of our log that goes away must not end the daemon.
        signal(SIGPIPE, SIG_IGN)
        return SignalThread(set: set)
    }

    /// Calls `stop` at the first SIGTERM or SIGINT and ends the process at the second; calls `reload` at SIGHUP.
    func start(stop: @escaping @Sendable () -> Void, reload: @escaping @Sendable () -> Void) {
        let set = set
        let thread = Thread {
            var set = set
            var isStopping = false
            while true {
                var number: Int32 = 0
                guard sigwait(&set, &number) == 0 else { continue }
                switch number {
                case SIGHUP: if !isStopping { reload() }
                case _ where isStopping: _exit(128 + number)
                default:
                    isStopping = true
                    stop()
                }
            }
        }
        thread.name = "signals"
        thread.start()
    }
}
