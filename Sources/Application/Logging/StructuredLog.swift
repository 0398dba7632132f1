import Foundation
import Logging
import Spool
import Synchronization

/// Makes log lines: `level=info msg="set published" job=2026...`, one event per line, values quoted where needed, control
/// characters escaped. Under systemd each line begins with its priority, `<6>`, which journald takes off (sd-daemon(3)), and
/// carries no time, which journald adds.
public struct StructuredLog: LogHandler {
    /// Metadata of every line.
    public var metadata: Logger.Metadata = [:]
    /// What is written; nil follows ``level``.
    private var ownLevel: Logger.Level?
    private let label: String
    private let isJournal: Bool
    private let sink: LogSink

    /// What all handlers write that have no level of their own; may be changed at any time.
    public static var level: Logger.Level {
        get { levels.withLock { $0 } }
        set { levels.withLock { $0 = newValue } }
    }
    private static let levels = Mutex(Logger.Level.info)

    /// A handler for one label.
    public init(label: String, sink: LogSink = .standardError) {
        self.label = label
        self.sink = sink
        isJournal = ProcessInfo.processInfo.environment["JOURNAL_STREAM"] != nil
    }

    /// What is written.
    public var logLevel: Logger.Level {
        get { ownLevel ?? Self.level }
        set { ownLevel = newValue }
    }

    /// Metadata by key.
    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Hands one line to the sink.
    public func log(event: LogEvent) {
        let fields = metadata.merging(event.metadata ?? [:]) { $1 }
        sink.write(line("\(event.message)", event.level, fields)) { dropped in
            line("the log could not be written for a while", .warning, ["dropped_lines": "\(dropped)"])
        }
    }

    private func line(_ message: String, _ level: Logger.Level, _ fields: Logger.Metadata) -> String {
        let start = isJournal ? "<\(level.priority)>" : "time=\(Timestamp(Date().timeIntervalSince1970).text) "
        var line = start + "level=\(level.rawValue) module=\(label) msg=\(Self.quoted(message))"
        for (key, value) in fields.sorted(by: { $0.key < $1.key }) { line += " \(key)=\(Self.quoted("\(value)"))" }
        return line + "\n"
    }

    static func quoted(_ text: String) -> String {
        let isPlain =
            !text.isEmpty && text.unicodeScalars.allSatisfy { $0 > " " && $0 < "\u{7F}" && $0 != "\"" && $0 != "=" }
        return isPlain ? text : JSON.string(text).text(pretty: false)
    }
}

extension Logger.Level {
    /// syslog(3)'s number.
    fileprivate var priority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
