import Application
import Foundation
import Spool

/// The file that names many subjects with their photos and sets.
enum EvaluationList {
    static func subjects(ofFile path: String) throws -> [Evaluator.Subject] {
        func wrong(_ place: String, _ found: String, _ expected: String) -> Failure {
            Failure(code: .rejected, message: "\(path): \(place): found \(found), expected \(expected)")
        }
        let json: JSON
        do { json = try JSONReader.read([UInt8](Data(contentsOf: URL(fileURLWithPath: path)))) } catch let error
            as JSONError
        {
            throw Failure(code: .rejected, message: "\(path): \(error)")
        } catch { throw Failure(code: .rejected, message: "\(path): \(error.localizedDescription)") }
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
        func absolute(_ text: String) -> String { URL(fileURLWithPath: text, relativeTo: folder).path }
        func text(_ json: JSON, _ key: String, _ place: String) throws -> String {
            guard let value = json[key]?.string, !value.isEmpty else {
                throw wrong("\(place).\(key)", json[key]?.summary ?? "nothing", "a text")
            }
            return value
        }
        guard let entries = json["subjects"]?.array, !entries.isEmpty else {
            throw wrong("$.subjects", json["subjects"]?.summary ?? "nothing", "a list of subjects")
        }
        return try entries.enumerated().map { index, entry in
            let place = "$.subjects[\(index)]"
            guard let sets = entry["sets"]?.array else {
                throw wrong("\(place).sets", entry["sets"]?.summary ?? "nothing", "a list of sets")
            }
            return Evaluator.Subject(
                name: try text(entry, "name", place), references: absolute(try text(entry, "references", place)),
                source: entry["source"]?.string,
                sets: try sets.enumerated().map { number, set -> (label: String, folder: String) in
                    let place = "\(place).sets[\(number)]"
                    return (try text(set, "label", place), absolute(try text(set, "folder", place)))
                })
        }
    }
}

/// A benchmark as manifests: every subject in every prompt, several times.
struct EvaluationPlan {
    private let prompts: [String]
    private let subjects: [URL]
    private let each: Int

    /// - Parameters:
    ///   - prompts: path of a file with a prompt a line, `{}` standing for the subject.
    ///   - subjects: path of a folder with a folder of photos for each subject.
    ///   - each: pictures of a prompt.
    init(prompts path: String, subjects folder: String, each: Int) throws {
        do {
            let text = try String(contentsOfFile: path, encoding: .utf8)
            prompts = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }.filter {
                !$0.isEmpty
            }
            let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter { !$0.hasPrefix(".") }
                .sorted()
            subjects = names.map { URL(fileURLWithPath: folder).appendingPathComponent($0) }.filter {
                var isFolder: ObjCBool = false
                return FileManager.default.fileExists(atPath: $0.path, isDirectory: &isFolder) && isFolder.boolValue
            }
        } catch { throw Failure(code: .rejected, message: "\(path), \(folder): \(error.localizedDescription)") }
        guard !prompts.isEmpty else {
            throw Failure(code: .rejected, message: "\(path): found no prompts, expected a line each")
        }
        guard !subjects.isEmpty else {
            throw Failure(
                code: .rejected, message: "\(folder): found no folders, expected one of photos for each subject")
        }
        self.each = each
    }

    /// Writes `SUBJECT.json` for the spool, and `evaluate.json`, which collects what `dreamcache submit` and a copy of the sets
    /// into `sets/SUBJECT` beside it make.
    ///
    /// - Returns: the paths of what was written, the list last.
    func write(to folder: String) throws -> [String] {
        let place = URL(fileURLWithPath: folder)
        var written: [String] = []
        func write(_ json: JSON, _ name: String) throws {
            let file = place.appendingPathComponent(name)
            do {
                try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
                try Data((json.text() + "\n").utf8).write(to: file, options: .atomic)
            } catch { throw Failure(code: .failed, message: "\(file.path): \(error.localizedDescription)") }
            written.append(file.path)
        }
        for subject in subjects {
            let name = subject.lastPathComponent
            // What a folder is called stands for the thing: `red_backpack` is a red backpack.
            let word = name.replacingOccurrences(of: "_", with: " ")
            let texts = prompts.map { JSON.string($0.replacingOccurrences(of: "{}", with: word)) }
            try write(
                .object([
                    "subject": .string(name), "prompts": .array(texts), "num_images_per_prompt": .integer(each),
                    "seed": .integer(0),
                ]), "\(name).json")
        }
        let entries = subjects.map { subject in
            let name = subject.lastPathComponent
            return JSON.object([
                "name": .string(name), "references": .string(subject.standardizedFileURL.path),
                "sets": .array([.object(["label": .string("benchmark"), "folder": .string("sets/\(name)")])]),
            ])
        }
        try write(.object(["subjects": .array(entries)]), "evaluate.json")
        return written
    }
}
