import Bytes
import DreamCache
import Foundation
import Raster

/// Reads a picture: upright, RGB or RGBA. The caller decides how far it trusts the file. An error that is a `TrainingError` ends
/// the run, any other is the picture's.
public typealias PictureReader = (_ path: String) throws -> Raster

/// What is known of a view's files.
struct ViewFacts: Codable, Sendable, Equatable {
    /// SHA-256 of the files.
    let picture: String, mask: String?
    let width: Int, height: Int
    /// What is wrong with them, a sentence each.
    let faults: [String]
}

/// A view whose files were found to be sound.
struct CheckedView: Sendable {
    let view: DatasetView
    let facts: ViewFacts
}

/// Looks at all pictures and masks of a data set before anything is computed. What was found is remembered in a file for as long as
/// the files are the same.
struct DatasetCheck {
    private struct Entry: Codable {
        let files: [FileIdentity]
        let facts: ViewFacts
    }
    private struct Document: Codable {
        var version = 1
        var views: [String: Entry] = [:]
    }

    private let file: URL
    private let side: Int, minimumSide: Int
    private let read: PictureReader

    /// - Parameters:
    ///   - folder: where findings are remembered.
    ///   - side: of the model's pictures.
    init(folder: String, side: Int, settings: TrainingSettings, read: @escaping PictureReader) {
        file = URL(fileURLWithPath: folder).appendingPathComponent("checked.json")
        self.side = side
        minimumSide = settings.minimumSide > 0 ? settings.minimumSide : side / 2
        self.read = read
    }

    /// - Parameter progress: told how many views are checked, of how many.
    /// - Throws: `TrainingError.data` with the faults of all views.
    func check(
        _ dataset: Dataset, progress: (_ done: Int, _ of: Int) -> Void, shouldStop: () -> Bool,
        shouldYield: () -> Bool = { false }
    ) throws(TrainingError) -> [String: CheckedView] {
        var document = Document()
        if let data = try? Data(contentsOf: file), let known = try? JSONDecoder().decode(Document.self, from: data),
            known.version == document.version
        {
            document = known
        }
        var (checked, faults, isNew) = ([String: CheckedView](), [String](), false)
        let views = dataset.views
        func remember() {
            guard isNew, let data = try? JSONEncoder().encode(document) else { return }
            // Without it the next start looks again.
            try? AtomicFile.write([UInt8](data), to: file.path)
        }
        for (index, view) in views.enumerated() {
            if shouldStop() || isNew && shouldYield() {
                remember()
                throw .stopped
            }
            progress(index, views.count)
            let files = [view.picture, view.mask].compactMap { $0 }.compactMap(FileIdentity.init)
            var entry = document.views[view.name]
            if entry?.files != files || files.isEmpty {
                let looked = Entry(files: files, facts: try facts(view))
                entry = looked
                // A fault may be the machine's: it is looked for again.
                document.views[view.name] = looked.facts.faults.isEmpty ? looked : nil
                isNew = true
            }
            guard let facts = entry?.facts else { continue }
            var found = facts.faults
            if facts.faults.isEmpty, min(facts.width, facts.height) < minimumSide {
                found.append(
                    "\(view.picture): found \(facts.width)x\(facts.height) pixels, expected at least \(minimumSide) a side"
                )
            }
            faults += found
            if found.isEmpty { checked[view.name] = CheckedView(view: view, facts: facts) }
        }
        progress(views.count, views.count)
        remember()
        if !faults.isEmpty { throw .data(faults) }
        return checked
    }

    private func facts(_ view: DatasetView) throws(TrainingError) -> ViewFacts {
        var (width, height, faults) = (0, 0, [String]())
        do {
            let picture = try read(view.picture)
            (width, height) = (picture.width, picture.height)
            if let path = view.mask { _ = try picture.masked(by: try read(path), path: path) }
        } catch let error as TrainingError { throw error } catch { faults.append(Self.named(view, "\(error)")) }
        func hash(_ path: String) -> String {
            do { return try sha256(ofFile: path) } catch {
                if faults.isEmpty { faults.append("\(error)") }
                return ""
            }
        }
        return ViewFacts(
            picture: hash(view.picture), mask: view.mask.map(hash), width: width, height: height, faults: faults)
    }

    /// A reader's message, which need not name the folder.
    private static func named(_ view: DatasetView, _ message: String) -> String {
        message.contains(view.name.split(separator: "/").first ?? "") ? message : "\(view.name): \(message)"
    }
}
