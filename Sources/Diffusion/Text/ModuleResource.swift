import Foundation

/// The data files that ship with this module: CLIP's merges and HTML's character references.
///
/// SwiftPM's generated `Bundle.module` ends the process when the bundle is missing, which is what happens to a daemon
/// copied out of its build folder. Here a missing file is an error that lists every place looked at.
enum ModuleResource {
    /// Folders that may hold the resources, in order: the bundle SwiftPM puts beside the executable (also for tests),
    /// then an installed prefix.
    static var folders: [URL] {
        let executable =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        let directory = URL(fileURLWithPath: executable).deletingLastPathComponent()
        return [
            directory.appendingPathComponent("dreamcache_Diffusion.resources/Resources"),
            directory.deletingLastPathComponent().appendingPathComponent("share/dreamcache"),
        ]
    }

    /// The bytes of the resource `name`, or the paths at which it was looked for.
    static func bytes(of name: String) throws(TokenizerError) -> [UInt8] {
        let candidates = folders.map { $0.appendingPathComponent(name) }
        for candidate in candidates {
            if let data = try? Data(contentsOf: candidate) { return [UInt8](data) }
        }
        throw TokenizerError(
            path: name,
            problem: "this file of the installation is missing; looked for "
                + candidates.map(\.path).joined(separator: " and "))
    }
}
