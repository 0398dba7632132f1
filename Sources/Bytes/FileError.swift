import Glibc

/// A failed system call on a file: the call, the path, and the errno.
public struct FileError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The call's name, or what was being done.
    public let operation: String
    /// The file, as the caller named it.
    public let path: String
    /// The errno.
    public let code: Int32
    /// What was expected, where the errno alone does not say it.
    public let expected: String?

    /// A failure with this errno.
    public init(operation: String, path: String, code: Int32, expected: String? = nil) {
        self.operation = operation
        self.path = path
        self.code = code
        self.expected = expected
    }

    /// The failure of the call that was just made, read from errno.
    public static func current(_ operation: String, _ path: String) -> FileError {
        FileError(operation: operation, path: path, code: errno)
    }

    /// What the system says of the errno.
    public var reason: String { String(cString: strerror(code)) }

    /// One line for people.
    public var description: String {
        "\(path): \(operation): found \(reason) (errno \(code))" + (expected.map { ", expected \($0)" } ?? "")
    }
}
