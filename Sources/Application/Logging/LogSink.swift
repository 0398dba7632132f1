import Dispatch
import Glibc
import Synchronization

/// Where log lines go. Whoever logs never waits and never fails: a thread of the sink's own writes, and where that takes too
/// long (a reader that does not read, a disk that hangs) or is impossible (a closed pipe, a full disk), lines are dropped and
/// counted. The next line that can be written is preceded by one that says how many were.
public final class LogSink: Sendable {
    private struct State {
        /// Bytes that wait to be written.
        var waiting = 0
        /// Lines that were dropped and are not yet reported.
        var dropped = 0
        /// Whether the last write ended in the middle of a line.
        var isMidLine = false
    }

    /// Standard error.
    public static let standardError = LogSink(descriptor: STDERR_FILENO)

    private let descriptor: Int32
    private let queue = DispatchQueue(label: "log")
    private let state = Mutex(State())
    /// Bytes that may wait: some thousand lines.
    private let capacity: Int

    /// - Parameter descriptor: stays the caller's, and open.
    public init(descriptor: Int32, capacity: Int = 1 << 19) {
        self.descriptor = descriptor
        self.capacity = capacity
    }

    /// Takes a line, newline included; `report` makes the line that says how many were dropped before it.
    func write(_ line: String, report: @escaping @Sendable (_ dropped: Int) -> String) {
        let size = line.utf8.count
        let isTaken = state.withLock { state in
            guard state.waiting + size <= capacity else {
                state.dropped += 1
                return false
            }
            state.waiting += size
            return true
        }
        guard isTaken else { return }
        queue.async { [self] in
            defer { state.withLock { $0.waiting -= size } }
            let dropped = state.withLock { $0.dropped }
            if dropped > 0 {
                guard put(report(dropped)) else {
                    state.withLock { $0.dropped += 1 }
                    return
                }
                state.withLock { $0.dropped -= dropped }
            }
            if !put(line) { state.withLock { $0.dropped += 1 } }
        }
    }

    /// Waits until all lines that were taken are written, `seconds` at most: to be called before the process ends.
    public func flush(within seconds: Double = 1) {
        let done = DispatchSemaphore(value: 0)
        queue.async { done.signal() }
        _ = done.wait(timeout: .now() + seconds)
    }

    /// Writes a line; whether all of it was written.
    private func put(_ line: String) -> Bool {
        let isMidLine = state.withLock { $0.isMidLine }
        var rest = Array(((isMidLine ? "\n" : "") + line).utf8)[...]
        var isBegun = false
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN {
                // Somebody made the descriptor non-blocking; this thread may wait.
                var event = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = poll(&event, 1, 100)
                continue
            }
            guard count > 0 else {
                if isBegun { state.withLock { $0.isMidLine = true } }
                return false
            }
            isBegun = true
            rest = rest.dropFirst(count)
        }
        state.withLock { $0.isMidLine = false }
        return true
    }
}
