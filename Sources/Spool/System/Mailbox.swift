import CLinux
import Glibc
import Synchronization

/// A queue of messages that any thread may post to and one thread waits at.
final class Mailbox<Message: Sendable>: Sendable {
    private let messages = Mutex<[Message]>([])
    private let event = clinux_event_descriptor()

    deinit { close(event) }

    func post(_ message: Message) {
        messages.withLock { $0.append(message) }
        var one: UInt64 = 1
        _ = write(event, &one, MemoryLayout<UInt64>.size)
    }

    /// Whether a message like that waits to be received.
    func isWaiting(_ isIt: (Message) -> Bool) -> Bool { messages.withLock { $0.contains(where: isIt) } }

    /// The messages posted since the last call; waits for one up to a time in seconds, or for ever.
    func receive(timeout: Double?) -> [Message] {
        let waiting = take()
        guard waiting.isEmpty else { return waiting }
        var descriptor = pollfd(fd: event, events: Int16(POLLIN), revents: 0)
        let milliseconds = timeout.map { Int32(min(max($0 * 1000, 0).rounded(.up), 3_600_000)) } ?? -1
        poll(&descriptor, 1, milliseconds)
        return take()
    }

    private func take() -> [Message] {
        var count: UInt64 = 0
        _ = read(event, &count, MemoryLayout<UInt64>.size)
        return messages.withLock { messages in
            defer { messages = [] }
            return messages
        }
    }
}
