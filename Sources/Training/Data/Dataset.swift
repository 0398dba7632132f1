import Bytes
import Foundation
import Raster

/// A picture of an object with its caption.
public struct DatasetView: Sendable, Equatable {
    /// `OBJECT/NAME`, of the object's folder and of the files' names up to `_generation`.
    public let name: String
    /// Path of the picture.
    public let picture: String
    /// What it shows, in words.
    public let caption: String
    /// Path of a picture of equal size, white where the object is; nil where the segmenter is to find it.
    public let mask: String?
}

/// An object with its views: the pictures that show this very object.
public struct DatasetObject: Sendable, Equatable {
    /// Name of its folder.
    public let name: String
    /// One at least, by name.
    public let views: [DatasetView]
}

/// Objects to train on, in the layout of DreamCache's authors: a folder per object, in it `NAME_generation.png`,
/// `NAME_caption.txt` and `NAME_mask.png` for each view. A picture may have any readable format, and a mask may be missing.
public struct Dataset: Sendable {
    /// Where it lies.
    public let folder: String
    /// By name.
    public let objects: [DatasetObject]

    /// All views of all objects.
    public var views: [DatasetView] { objects.flatMap(\.views) }

    private static let picture = "_generation", caption = "_caption.txt", mask = "_mask"
    /// A caption is a sentence; the tokenizer cuts what is too long.
    private static let longestCaption = 1 << 16

    /// Reads names and captions; no picture is opened.
    ///
    /// - Throws: `TrainingError.data` with all that is wrong: captions that are missing, empty or no text, files that belong to no
    ///   picture, folders without a picture.
    public init(folder: String) throws(TrainingError) {
        self.folder = folder
        let names: [String]
        do { names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted() } catch {
            throw .data(["\(folder): found \((error as NSError).localizedDescription), expected a folder of objects"])
        }
        var (objects, faults) = ([DatasetObject](), [String]())
        for name in names where !name.hasPrefix(".") {
            let path = "\(folder)/\(name)"
            guard try onFiles({ () throws(FileError) in try FilePresence.of(path) }) == .folder else { continue }
            let views = Self.views(in: path, object: name, &faults)
            if !views.isEmpty { objects.append(DatasetObject(name: name, views: views)) }
        }
        if objects.isEmpty, faults.isEmpty {
            faults.append("\(folder): found no folder, expected one for each object")
        }
        if !faults.isEmpty { throw .data(faults) }
        self.objects = objects
    }

    private static func views(in folder: String, object: String, _ faults: inout [String]) -> [DatasetView] {
        let names: [String]
        do throws(FileError) { names = try FilePresence.names(in: folder).sorted() } catch {
            faults.append("\(error)")
            return []
        }
        var (pictures, masks, captions) = ([String: String](), [String: String](), [String: String]())
        for name in names where !name.hasPrefix(".") {
            let stem = URL(fileURLWithPath: name).deletingPathExtension().lastPathComponent
            if name.hasSuffix(caption) {
                captions[String(name.dropLast(caption.count))] = name
            } else if stem.hasSuffix(picture) {
                let view = String(stem.dropLast(picture.count))
                if let other = pictures.updateValue(name, forKey: view) {
                    faults.append("\(folder): found \(other) and \(name), expected one picture of each name")
                }
            } else if stem.hasSuffix(mask) {
                masks[String(stem.dropLast(mask.count))] = name
            }
        }
        for (view, name) in masks.merging(captions, uniquingKeysWith: { $1 }).sorted(by: { $0.value < $1.value })
        where pictures[view] == nil {
            faults.append("\(folder)/\(name): found no picture of it, expected \(view)\(picture).png")
        }
        if pictures.isEmpty, masks.isEmpty, captions.isEmpty {
            faults.append("\(folder): found no picture, expected NAME\(picture).png")
        }
        return pictures.sorted { $0.key < $1.key }.compactMap { view, name in
            guard let text = captionText("\(folder)/\(view)\(caption)", &faults) else { return nil }
            return DatasetView(
                name: "\(object)/\(view)", picture: "\(folder)/\(name)", caption: text,
                mask: masks[view].map { "\(folder)/\($0)" })
        }
    }

    private static func captionText(_ path: String, _ faults: inout [String]) -> String? {
        guard let data = FileManager.default.contents(atPath: path) else {
            faults.append("\(path): found no readable caption, expected a text that says what the picture shows")
            return nil
        }
        guard data.count <= longestCaption, let text = String(validating: data, as: UTF8.self) else {
            faults.append("\(path): found \(data.count) bytes, expected at most \(longestCaption) of UTF-8")
            return nil
        }
        let trimmed = text.trimmingCharacters(in: .whitespacesAndNewlines)
        if trimmed.isEmpty {
            faults.append("\(path): found an empty caption, expected a text that says what the picture shows")
            return nil
        }
        return trimmed
    }
}
