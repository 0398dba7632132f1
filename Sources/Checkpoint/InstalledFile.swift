import Glibc

/// A data file that ships with a module of this program.
///
/// SwiftPM's generated `Bundle.module` ends the process when the bundle is missing, which is what happens to a daemon
/// copied out of its build folder. Here the places are listed, for an error that names them all.
package struct InstalledFile {
    /// Where it may be, in order: the bundle SwiftPM puts beside the executable (also for tests), then an installed prefix.
    package let candidates: [String]

    /// The file `name` among the resources of `module`.
    package init(_ name: String, of module: String) {
        var path = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink("/proc/self/exe", &path, path.count)
        let executable =
            count > 0
            ? String(decoding: path[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self) : CommandLine.arguments[0]
        let folder = Self.parent(executable)
        candidates = [
            "\(folder)/dreamcache_\(module).resources/Resources/\(name)",
            "\(Self.parent(folder))/share/dreamcache/\(name)",
        ]
    }

    /// The first place at which there is something to read.
    package var path: String? { candidates.first { access($0, R_OK) == 0 } }

    private static func parent(_ path: String) -> Substring {
        path.lastIndex(of: "/").map { path[..<$0] } ?? "."
    }
    private static func parent(_ path: Substring) -> Substring { parent(String(path)) }
}
