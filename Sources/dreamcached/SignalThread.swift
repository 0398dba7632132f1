import Glibc
import Spool
import SystemPackage

/// Brings SIGTERM, SIGINT and SIGHUP to a thread of its own, where anything may be done; in a signal handler almost
/// nothing may be done. The handler writes the signal's number into a pipe. (Blocking the signals and sigwait(3) would
/// not do: libraries start threads before `main`, whose masks stay open.)
enum SignalThread {
    private nonisolated(unsafe) static var pipe: (read: Int32, write: Int32) = (-1, -1)

    /// Calls `stop` at the first SIGTERM or SIGINT and ends the process at the second; calls `reload` at SIGHUP. Call once.
    /// - Throws: `SpoolError` where there is no pipe or no thread to be had. A daemon that hears no signal must not run.
    static func start(
        stop: @escaping @Sendable () -> Void, reload: @escaping @Sendable () -> Void
    ) throws(SpoolError) {
        var ends: [Int32] = [-1, -1]
        guard Glibc.pipe(&ends) == 0 else {
            throw SpoolError(.system(Errno(rawValue: errno)), operation: "pipe")
        }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        pipe = (ends[0], ends[1])
        for number in [SIGTERM, SIGINT, SIGHUP] {
            signal(number) { number in
                let saved = errno
                var byte = UInt8(truncatingIfNeeded: number)
                write(SignalThread.pipe.write, &byte, 1)
                errno = saved
            }
        }
        // A parent may have started us with these signals blocked, as programs that use libdispatch do.
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&set, number) }
        pthread_sigmask(SIG_UNBLOCK, &set, nil)

        try startThread(stackSize: 1 << 20) {
            var isStopping = false
            while true {
                var byte: UInt8 = 0
                guard read(pipe.read, &byte, 1) == 1 else { continue }
                switch Int32(byte) {
                case SIGHUP: if !isStopping { reload() }
                case let number where isStopping: _exit(128 + number)
                default:
                    isStopping = true
                    stop()
                }
            }
        }
    }
}
