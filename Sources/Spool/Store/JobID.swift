/// A job's name, also the name of its set under `out/`: the time of acceptance and sixteen random digits.
public struct JobID: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The id as written.
    public let text: String

    /// An id from its text, or nil when the text is no plain name.
    public init?(_ text: String) {
        guard DropName.isPlain(text) else { return nil }
        self.text = text
    }

    init(wall: Double, random: UInt64) {
        // 64 bits: of fifty thousand drops in one second no two may get the same, or one would be taken for the other.
        let hex = String(random, radix: 16)
        text = Timestamp(wall).compact + "-" + String(repeating: "0", count: 16 - hex.count) + hex
    }

    /// The id as written.
    public var description: String { text }

    /// The second of acceptance, as the id begins.
    var second: Substring { text.prefix(15) }

    /// By text, hence roughly by time.
    public static func < (a: JobID, b: JobID) -> Bool { a.text < b.text }
}
