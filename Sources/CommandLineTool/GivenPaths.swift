import CLinux
import Glibc
import Spool

/// The arguments of the command line. They are bytes, and a path need not be UTF-8.
///
/// Where one is not, the file is opened, and `/proc/self/fd/N` stands for its path. Messages show what was given.
enum GivenPaths {
    // Set once, before anything else runs.
    private nonisolated(unsafe) static var names: [(alias: String, name: SpoolPath.Name?)] = []

    /// The arguments behind the program's name, each as valid UTF-8.
    /// - Throws: `Failure` for one that is not UTF-8 and names nothing that is there.
    static func arguments() throws -> [String] {
        try (1..<max(1, Int(CommandLine.argc))).compactMap { index in
            guard let raw = CommandLine.unsafeArgv[index] else { return nil }
            if let text = String(validatingCString: raw) { return text }
            return try replacement(of: (0..<strlen(raw)).map { UInt8(bitPattern: raw[$0]) }, at: index)
        }
    }

    /// `--option=PATH` or `PATH`.
    private static func replacement(of bytes: [UInt8], at index: Int) throws -> String {
        var path = 0
        if bytes.starts(with: Array("--".utf8)), let sign = bytes.firstIndex(of: UInt8(ascii: "=")) { path = sign + 1 }
        let descriptor = (bytes[path...].map { CChar(bitPattern: $0) } + [0]).withUnsafeBufferPointer { buffer in
            buffer.baseAddress.map { open($0, clinux_o_path | O_CLOEXEC) } ?? -1
        }
        guard descriptor >= 0, let option = String(validating: bytes[..<path], as: UTF8.self) else {
            let shown = SpoolPath.Name(bytes: bytes.map { $0 == UInt8(ascii: "/") ? 0x20 : $0 })?.printable ?? ""
            throw Failure(
                code: .usage,
                message: "argument \(index): found '\(shown)', which is not UTF-8, "
                    + "expected UTF-8 or a file that is there")
        }
        let alias = "/proc/self/fd/\(descriptor)"
        let last = bytes[path...].split(separator: UInt8(ascii: "/")).last.map(Array.init) ?? []
        names.append((alias, SpoolPath.Name(bytes: last)))
        return option + alias
    }

    /// The last part of a path as it was given.
    static func name(of path: String) -> SpoolPath.Name? {
        if let given = names.first(where: { $0.alias == path }) { return given.name }
        return path.utf8.split(separator: UInt8(ascii: "/")).last.flatMap { SpoolPath.Name(bytes: Array($0)) }
    }

    /// A text in which the names that were given replace the paths that stand for them.
    static func shown(_ text: String) -> String {
        names.reversed().reduce(text) { text, given in
            text.replacing(given.alias, with: given.name?.printable ?? "")
        }
    }
}
