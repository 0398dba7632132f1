import CLinux
import Glibc
import SystemPackage

/// Where the renderer runs, as a value: a thread of its own in the daemon, the caller's in tests that count system calls.
public struct Worker: Sendable {
    let submit: @Sendable (@escaping @Sendable () -> Void) -> Void

    /// Has a piece of work done.
    package func run(_ work: @escaping @Sendable () -> Void) { submit(work) }

    /// Runs each piece of work at once, where it is submitted.
    public static let inline = Worker { work in work() }

    /// One thread for the life of the process, since pools of OpenMP threads belong to the thread that made them. Its
    /// stack is 16 MiB.
    public static func thread(name: String) -> Worker {
        let mailbox = Mailbox<@Sendable () -> Void>()
        startThread(stackSize: 16 << 20) {
            clinux_name_thread(String(name.prefix(15)))
            while true { for work in mailbox.receive(timeout: nil) { work() } }
        }
        return Worker { mailbox.post($0) }
    }
}

/// Starts a detached thread.
func startThread(stackSize: Int, _ body: @escaping @Sendable () -> Void) {
    final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, stackSize)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    defer { pthread_attr_destroy(&attributes) }
    let argument = Unmanaged.passRetained(Body(body)).toOpaque()
    var thread = pthread_t()
    let result = pthread_create(
        &thread, &attributes,
        { argument in
            if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
            return nil
        }, argument)
    // Only a machine out of memory or threads comes here, at start-up; there is no daemon without its threads.
    guard result == 0 else { fatalError("pthread_create: \(Errno(rawValue: result))") }
}
