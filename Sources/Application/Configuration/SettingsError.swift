/// A configuration that cannot be used: where the value stands, what was found, what was expected.
public struct SettingsError: Error, Sendable, CustomStringConvertible {
    /// File and line, the name of an environment variable, or the option of the command line.
    public let source: String
    /// The key, such as `cache.mode`.
    public let key: String
    /// What was found.
    public let found: String
    /// What was expected.
    public let expected: String

    /// One line.
    public var description: String { "\(source): \(key): found \(found), expected \(expected)" }
}
