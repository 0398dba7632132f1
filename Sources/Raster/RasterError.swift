/// Why an image could not be read or written: the file, the place in it, what was found and what was expected.
public struct RasterError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The family an error belongs to.
    public enum Cause: Sendable, Equatable {
        /// A system call failed with this errno.
        case system(code: Int32)
        /// The file ends before the image does.
        case truncated
        /// The file breaks its format's rules.
        case corrupt
        /// The file may be sound, but is of a kind that is not read here.
        case unsupported
        /// Beyond the limits; nothing was decoded.
        case tooLarge
        /// Text that the format cannot carry.
        case metadata
    }

    /// The file, as it was named by the caller.
    public let path: String
    /// The family of the error.
    public let cause: Cause
    /// The part of the file: "PNG", "JPEG", "size", "text parameters".
    public let place: String
    /// What was found there.
    public let found: String
    /// What was expected; empty for a failed system call.
    public let expected: String

    /// An error at `place` of `path`.
    public init(path: String, cause: Cause, place: String, found: String, expected: String = "") {
        self.path = path
        self.cause = cause
        self.place = place
        self.found = found
        self.expected = expected
    }

    /// One line.
    public var description: String {
        let kind =
            switch cause {
            case .truncated: "truncated: "
            case .corrupt: "corrupt: "
            default: ""
            }
        return "\(path): \(kind)\(place): found \(found)" + (expected.isEmpty ? "" : ", expected \(expected)")
    }
}
