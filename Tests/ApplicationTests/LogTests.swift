import Foundation
import Glibc
import Logging
import Testing

@testable import Application

/// A log that cannot be written costs lines, and nothing else.
@Suite struct LogTests {
    /// The two ends of a pipe.
    private func pipe() -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        #expect(Glibc.pipe(&ends) == 0)
        // As the daemon does.
        signal(SIGPIPE, SIG_IGN)
        return (ends[0], ends[1])
    }

    /// - Parameter level: nil follows the level of all, which another test changes meanwhile.
    private func logger(_ sink: LogSink, level: Logger.Level? = .info) -> Logger {
        var log = Logger(label: "test") { StructuredLog(label: $0, sink: sink) }
        if let level { log.logLevel = level }
        return log
    }

    /// All that is in a pipe whose writing end is closed.
    private func contents(_ descriptor: Int32) -> [Substring] {
        let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        return String(decoding: handle.readDataToEndOfFile(), as: UTF8.self).split(separator: "\n")
    }

    @Test func aClosedPipeDropsLinesAndTheNextWriterHearsOfThem() throws {
        let (read, write) = pipe()
        let sink = LogSink(descriptor: write)
        let log = logger(sink)
        close(read)
        for number in 0..<3 { log.info("lost \(number)") }
        sink.flush()
        // Somebody listens again, at the same descriptor.
        let next = pipe()
        #expect(dup2(next.write, write) == write)
        close(next.write)
        log.info("kept")
        sink.flush()
        close(write)
        let lines = contents(next.read)
        #expect(lines.count == 2, "\(lines)")
        #expect(lines.first?.contains("dropped_lines=3") == true)
        #expect(lines.last?.contains("msg=kept") == true)
    }

    @Test func aFullDiskDropsLines() throws {
        let full = open("/dev/full", O_WRONLY | O_CLOEXEC)
        try #require(full >= 0)
        let sink = LogSink(descriptor: full)
        logger(sink).error("no space for this")
        sink.flush()
        let (read, write) = pipe()
        #expect(dup2(write, full) == full)
        close(write)
        logger(sink).error("space")
        sink.flush()
        close(full)
        #expect(contents(read).first?.contains("dropped_lines=1") == true)
    }

    /// Nobody reads: whoever logs goes on all the same, memory stays bounded, and what was dropped is said.
    @Test func aReaderThatDoesNotReadHoldsNobodyUp() throws {
        let (read, write) = pipe()
        let sink = LogSink(descriptor: write, capacity: 100_000)
        let log = logger(sink)
        // Far more than a pipe and the sink hold; with a log that blocks this never ends.
        let count = 20_000
        for number in 0..<count { log.info("line", metadata: ["number": "\(number)"]) }
        let collected = Collected()
        let reader = Thread {
            let handle = FileHandle(fileDescriptor: read, closeOnDealloc: true)
            collected.data = handle.readDataToEndOfFile()
            collected.isDone.signal()
        }
        reader.start()
        sink.flush(within: 60)
        log.info("the last")
        sink.flush(within: 60)
        close(write)
        collected.isDone.wait()
        let lines = String(decoding: collected.data, as: UTF8.self).split(separator: "\n")
        #expect(lines.last?.contains("the last") == true)
        let kept = lines.count { $0.contains("number=") }
        let reported = lines.compactMap { line in
            line.range(of: "dropped_lines=").flatMap { Int(line[$0.upperBound...]) }
        }.reduce(0, +)
        #expect(kept < count && kept + reported == count, "\(kept) kept, \(reported) reported")
    }

    private final class Collected: @unchecked Sendable {
        // Written before the signal, read after it.
        var data = Data()
        let isDone = DispatchSemaphore(value: 0)
    }

    @Test func theLevelCanBeChangedUnderALogger() {
        let old = StructuredLog.level
        defer { StructuredLog.level = old }
        let log = logger(LogSink(descriptor: -1), level: nil)
        StructuredLog.level = .error
        #expect(log.logLevel == .error)
        StructuredLog.level = .debug
        #expect(log.logLevel == .debug)
    }
}
