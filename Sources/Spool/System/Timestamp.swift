import Glibc

/// A moment in UTC, as files and names write it (RFC 3339).
public struct Timestamp: Sendable, Equatable {
    /// `2026-11-23T09:14:07.250Z`
    public let text: String
    /// Whole seconds since 1970.
    public let seconds: Int

    /// A moment, in seconds since 1970.
    public init(_ seconds: Double) {
        // A clock set to nonsense must give a nonsensical date, not a trap.
        let bounded = min(max(seconds.isFinite ? seconds : 0, 0), 253_402_300_799)
        var whole = time_t(bounded)
        self.seconds = whole
        var fields = tm()
        gmtime_r(&whole, &fields)
        let milliseconds = Int((bounded - bounded.rounded(.down)) * 1000)
        func pad(_ value: Int32, _ width: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        text =
            "\(pad(fields.tm_year + 1900, 4))-\(pad(fields.tm_mon + 1, 2))-\(pad(fields.tm_mday, 2))"
            + "T\(pad(fields.tm_hour, 2)):\(pad(fields.tm_min, 2)):\(pad(fields.tm_sec, 2)).\(pad(Int32(milliseconds), 3))Z"
    }

    /// `20261123-091407`, for names.
    public var compact: String {
        let digits = text.prefix(19).filter { $0 != "-" && $0 != ":" }
        return digits.replacing("T", with: "-")
    }
}
