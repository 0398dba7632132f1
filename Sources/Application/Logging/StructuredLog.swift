import Foundation
import Logging
import Spool

/// Writes log lines to standard error: `level=info msg="set published" job=2026...`, one event a line, values quoted where
/// needed, control characters escaped. Under systemd each line begins with its priority, `<6>`, which journald takes off
/// (sd-daemon(3)), and carries no time, which journald adds.
public struct StructuredLog: LogHandler {
    /// Metadata of every line.
    public var metadata: Logger.Metadata = [:]
    /// What is written.
    public var logLevel: Logger.Level
    private let label: String
    private let isJournal: Bool

    /// A handler for one label.
    public init(label: String, level: Logger.Level) {
        self.label = label
        logLevel = level
        isJournal = ProcessInfo.processInfo.environment["JOURNAL_STREAM"] != nil
    }

    /// Metadata by key.
    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Writes one line.
    public func log(event: LogEvent) {
        let time = isJournal ? "<\(event.level.priority)>" : "time=\(Timestamp(Date().timeIntervalSince1970).text) "
        var line = time + "level=\(event.level.rawValue) module=\(label) msg=\(Self.quoted("\(event.message)"))"
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        for (key, value) in all.sorted(by: { $0.key < $1.key }) { line += " \(key)=\(Self.quoted("\(value)"))" }
        FileHandle.standardError.write(Data((line + "\n").utf8))
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
