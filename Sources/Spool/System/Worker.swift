import CLinux
import Glibc
import Synchronization
import SystemPackage

/// Where the renderer runs, as a value: a thread of its own in the daemon, the caller's in tests that count system calls.
public struct Worker: Sendable {
    /// Has a piece of work done.
    ///
    /// - Throws: `SpoolError` when the machine has no thread to give.
    package let run: @Sendable (@escaping @Sendable () -> Void) throws(SpoolError) -> Void

    package init(run: @escaping @Sendable (@escaping @Sendable () -> Void) throws(SpoolError) -> Void) {
        self.run = run
    }

    /// Runs each piece of work at once, where it is submitted.
    public static let inline = Worker { work in work() }

    /// One thread for the life of the process, since pools of OpenMP threads belong to the thread that made them. The first
    /// piece of work starts it.
    public static func thread(name: String, stackSize: Int = 16 << 20) -> Worker {
        let mailbox = Mailbox<@Sendable () -> Void>()
        let isStarted = Mutex(false)
        return Worker { work throws(SpoolError) in
            try isStarted.withLock { isStarted throws(SpoolError) in
                guard !isStarted else { return }
                try startThread(stackSize: stackSize) {
                    clinux_name_thread(String(name.prefix(15)))
                    while true { for work in mailbox.receive(timeout: nil) { work() } }
                }
                isStarted = true
            }
            mailbox.post(work)
        }
    }
}

/// Starts a detached thread.
///
/// - Throws: `SpoolError` with the errno when there is none to be had.
package func startThread(stackSize: Int, _ body: @escaping @Sendable () -> Void) throws(SpoolError) {
    final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, stackSize)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    defer { pthread_attr_destroy(&attributes) }
    let argument = Unmanaged.passRetained(Body(body))
    var thread = pthread_t()
    let result = pthread_create(
        &thread, &attributes,
        { argument in
            if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
            return nil
        }, argument.toOpaque())
    guard result == 0 else {
        argument.release()
        throw SpoolError(.system(Errno(rawValue: result)), operation: "pthread_create")
    }
}
