/// Why a checkpoint could not be read or written, or does not fit the model: the file, the place in it,
/// what was found there and what was expected.
public struct CheckpointError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The family an error belongs to.
    public enum Cause: Sendable, Equatable {
        /// A system call failed with this errno.
        case system(code: Int32)
        /// The file ends before what it announces.
        case truncated
        /// The file breaks its format's rules.
        case malformed
        /// The file may be sound, but is of a kind that is not read here.
        case unsupported
        /// A pickle asks for an object that is not on the allow-list.
        case refused
        /// The tensors are not the ones the model asks for.
        case keys(KeyMismatch)
        /// A tensor holds NaN or infinity.
        case notFinite
        /// No memory for what has to be kept.
        case outOfMemory
        /// The caller wanted it to end.
        case stopped
    }

    /// The file, as it was named by the caller.
    public let path: String
    /// The family of the error.
    public let cause: Cause
    /// The part of the file: "header", "data.pkl at byte 12", "tensor x".
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

    /// One line, or for a key mismatch the full list.
    public var description: String {
        if case .keys(let mismatch) = cause { return "\(path): \(mismatch)" }
        let kind = cause == .truncated ? "truncated: " : ""
        return "\(path): \(kind)\(place): found \(found)" + (expected.isEmpty ? "" : ", expected \(expected)")
    }
}

/// All differences between the tensors of a checkpoint and the ones a model asked for.
public struct KeyMismatch: Sendable, Equatable, CustomStringConvertible {
    /// A tensor by name and shape.
    public struct Entry: Sendable, Equatable, CustomStringConvertible {
        /// The key, as the file has it or would have it.
        public let name: String
        /// The shape: expected for a missing tensor, found for an unused one.
        public let shape: [Int]
        /// The file of a model that has several.
        public let file: String?

        init(name: String, shape: [Int], file: String? = nil) {
            self.name = name
            self.shape = shape
            self.file = file
        }

        /// File, key and shape.
        public var description: String { "\(KeyMismatch.place(name, file)) \(shape)" }
    }

    private static func place(_ name: String, _ file: String?) -> String { (file.map { "\($0): " } ?? "") + name }

    /// A tensor that is there in another shape.
    public struct Misshapen: Sendable, Equatable {
        /// The key.
        public let name: String
        /// The shape in the file.
        public let found: [Int]
        /// The shapes any of which would have done.
        public let expected: [[Int]]
        /// The file of a model that has several.
        public let file: String?
    }

    /// Asked for and not there, by name.
    public let missing: [Entry]
    /// There in another shape, by name.
    public let misshapen: [Misshapen]
    /// There and neither asked for nor ignored, by name.
    public let unused: [Entry]

    /// The counts on the first line, then every key, grouped.
    public var description: String {
        var lines = [
            "the tensors do not fit the model: \(missing.count) missing, \(misshapen.count) misshapen, "
                + "\(unused.count) unused"
        ]
        if !missing.isEmpty { lines.append("  missing (expected shape):") }
        lines += missing.map { "    \($0)" }
        if !misshapen.isEmpty { lines.append("  misshapen:") }
        lines += misshapen.map {
            "    \(Self.place($0.name, $0.file)) found \($0.found), expected "
                + $0.expected.map { "\($0)" }.joined(separator: " or ")
        }
        if !unused.isEmpty { lines.append("  unused (found shape):") }
        lines += unused.map { "    \($0)" }
        return lines.joined(separator: "\n")
    }
}
