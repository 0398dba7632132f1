import Checkpoint
import Foundation

/// The data files that ship with this module: CLIP's merges and HTML's character references.
enum ModuleResource {
    /// The bytes of the resource `name`, or the paths at which it was looked for.
    static func bytes(of name: String) throws(TokenizerError) -> [UInt8] {
        let file = InstalledFile(name, of: "Diffusion")
        for candidate in file.candidates {
            if let data = try? Data(contentsOf: URL(fileURLWithPath: candidate)) { return [UInt8](data) }
        }
        throw TokenizerError(
            path: name,
            problem: "this file of the installation is missing; looked for "
                + file.candidates.joined(separator: " and "))
    }
}
