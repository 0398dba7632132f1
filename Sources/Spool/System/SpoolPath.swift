import Glibc

/// A path below the spool's root: names joined by `/`. It cannot be absolute and cannot hold `.` or `..`, and its names
/// may be any bytes a file system allows, UTF-8 or not.
public struct SpoolPath: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
    private var bytes: [UInt8]

    /// One name in a folder.
    public struct Name: Sendable, Hashable {
        /// The name's bytes.
        public let bytes: [UInt8]

        /// A name, or nil for what names nothing in a folder.
        public init?(bytes: [UInt8]) {
            guard !bytes.isEmpty, bytes != [SpoolPath.dot], bytes != [SpoolPath.dot, SpoolPath.dot],
                !bytes.contains(SpoolPath.slash), !bytes.contains(0)
            else { return nil }
            self.bytes = bytes
        }

        /// A name from text.
        public init?(_ text: String) { self.init(bytes: Array(text.utf8)) }

        /// The name as text; bytes that are not UTF-8 show as U+FFFD.
        public var string: String { String(decoding: bytes, as: UTF8.self) }
    }

    private static let slash = UInt8(ascii: "/")
    private static let dot = UInt8(ascii: ".")

    /// The root itself.
    public init() { bytes = [] }

    /// A path from text; parts that name nothing are left out, so that `../x` is `x`.
    public init(_ text: String) {
        self.init()
        for part in text.utf8.split(separator: Self.slash) {
            if let name = Name(bytes: Array(part)) { self = appending(name) }
        }
    }

    /// A path from text.
    public init(stringLiteral text: String) { self.init(text) }

    /// The path as text; bytes that are not UTF-8 show as U+FFFD.
    public var string: String { String(decoding: bytes, as: UTF8.self) }

    /// The path as text.
    public var description: String { string }

    /// Whether it is the root.
    public var isEmpty: Bool { bytes.isEmpty }

    /// The path of a name in this folder.
    public func appending(_ name: Name) -> SpoolPath {
        var path = self
        if !path.bytes.isEmpty { path.bytes.append(Self.slash) }
        path.bytes += name.bytes
        return path
    }

    /// The path of a name, or of several joined by `/`, in this folder.
    public func appending(_ text: String) -> SpoolPath {
        let further = SpoolPath(text)
        if isEmpty || further.isEmpty { return isEmpty ? further : self }
        return SpoolPath(unchecked: bytes + [Self.slash] + further.bytes)
    }

    private init(unchecked bytes: [UInt8]) { self.bytes = bytes }

    /// The last name, or nil for the root.
    public var lastName: Name? {
        Name(bytes: Array(bytes[(bytes.lastIndex(of: Self.slash).map { $0 + 1 } ?? 0)...]))
    }

    /// The folder it is in.
    public var parent: SpoolPath { SpoolPath(unchecked: Array(bytes[..<(bytes.lastIndex(of: Self.slash) ?? 0)])) }

    /// Calls with the path as the system takes it, the root being `.`.
    func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
        SpoolPath.withCString(isEmpty ? [Self.dot] : bytes, body)
    }

    fileprivate static func withCString<Result>(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>) -> Result) -> Result {
        let terminated = bytes.map { CChar(bitPattern: $0) } + [0]
        // An array's buffer pointer has a base address as long as it is not empty, and this one ends in a NUL.
        return terminated.withUnsafeBufferPointer { buffer in
            buffer.baseAddress.map(body) ?? body("")
        }
    }
}

extension SpoolPath.Name: Comparable {
    /// By bytes, as memcmp(3) compares.
    public static func < (a: SpoolPath.Name, b: SpoolPath.Name) -> Bool {
        a.bytes.withUnsafeBytes { mine in
            b.bytes.withUnsafeBytes { theirs in
                guard let left = mine.baseAddress, let right = theirs.baseAddress else {
                    return mine.count < theirs.count
                }
                let order = memcmp(left, right, min(mine.count, theirs.count))
                return order != 0 ? order < 0 : mine.count < theirs.count
            }
        }
    }
}

extension SpoolPath.Name {
    /// Calls with the name as the system takes it.
    func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result { SpoolPath.withCString(bytes, body) }
}
