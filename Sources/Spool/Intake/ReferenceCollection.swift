import Raster

/// Decides, file by file, what becomes of a folder of references, or of a single picture. The daemon and the command line
/// use it alike: nothing is left out in silence.
package struct ReferenceCollection {
    /// What becomes of one file.
    package enum Verdict: Sendable, Equatable {
        /// It is stored under this plain name.
        case store(String)
        /// It is no reference, and is listed in `unused`.
        case leave
        /// The whole drop is refused.
        case reject(String)
        /// It is still being written.
        case later
    }

    /// A stored file.
    package struct Stored: Sendable, Equatable {
        package let name: String
        package let original: SpoolPath.Name
        package let maskOf: String?
    }

    /// The files to look at, in this order.
    package let entries: [ReferenceNames.Entry]
    /// What was stored so far.
    package private(set) var stored: [Stored] = []
    /// What was left, by the names the person gave.
    package private(set) var unused: [String] = []
    private let isFolder: Bool

    /// - Parameters:
    ///   - names: what is in the folder, or the name of the single picture.
    ///   - isFolder: whether it is a folder: a single file must be a picture.
    package init(_ names: [SpoolPath.Name], isFolder: Bool) {
        entries = ReferenceNames(names).entries
        self.isFolder = isFolder
    }

    /// Notes a folder in the folder.
    package mutating func leaveFolder(_ name: SpoolPath.Name) { unused.append(name.printable) }

    /// Decides about a file that was looked into.
    package mutating func judge(
        _ entry: ReferenceNames.Entry, _ content: Result<ImageFile, ImageFile.Fault>
    ) -> Verdict {
        func refusal(_ found: String, _ expected: String) -> Verdict {
            .reject("\(entry.original.printable): found \(found), expected \(expected)")
        }
        switch content {
        case .success:
            switch entry.role {
            case .picture: stored.append(Stored(name: entry.stored, original: entry.original, maskOf: nil))
            case .mask(let picture):
                stored.append(Stored(name: entry.stored, original: entry.original, maskOf: picture))
            case .misfit(let found, let expected): return refusal(found, expected)
            }
            return .store(entry.stored)
        case .failure(.notAnImage(let found)):
            guard isFolder, !ImageFormat.isPictureName(entry.original.string) else {
                return refusal(found, ImageFormat.supported)
            }
            unused.append(entry.original.printable)
            return .leave
        case .failure(.changing): return .later
        case .failure(.incomplete(let found)):
            // A few bytes may be the beginning of a picture, or a short note.
            guard isFolder, !ImageFormat.isPictureName(entry.original.string) else {
                return refusal(found, "a whole image")
            }
            unused.append(entry.original.printable)
            return .leave
        case .failure(.refused(let found, let expected)): return refusal(found, expected)
        }
    }

    /// Why what was collected will not do as a whole, or nil; `place` is what was dropped, for the message.
    package func refusal(_ place: String) -> String? {
        let pictures = Set(stored.filter { $0.maskOf == nil }.map(\.name))
        if let mask = stored.first(where: { file in file.maskOf.map { !pictures.contains($0) } ?? false }) {
            return ReferenceNames.refusalWithoutPicture(mask.original)
        }
        return pictures.isEmpty
            ? "found no picture in '\(place)', expected at least one (\(ImageFormat.supported))" : nil
    }
}
