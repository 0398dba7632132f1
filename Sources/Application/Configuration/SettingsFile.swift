import Foundation
import Yams

/// A YAML configuration file as flat keys, each with the line it stands on. Keys are checked here, values where they are
/// read: a value may be overridden from elsewhere, an unknown key is always a mistake.
struct SettingsFile {
    struct Value {
        let text: String
        let line: Int
    }

    let path: String
    private(set) var values: [String: Value] = [:]

    init(path: String) throws(SettingsError) {
        self.path = path
        let text: String
        do { text = try String(contentsOfFile: path, encoding: .utf8) } catch {
            throw SettingsError(
                source: path, key: "file", found: (error as NSError).localizedDescription,
                expected: "a readable YAML file")
        }
        let document: Node?
        do { document = try Yams.compose(yaml: text) } catch {
            throw SettingsError(source: path, key: "file", found: "\(error)", expected: "YAML")
        }
        guard let document, document != Node("") else { return }
        try flatten(document, prefix: "")
    }

    private mutating func flatten(_ node: Node, prefix: String) throws(SettingsError) {
        let line = node.mark?.line ?? 1
        switch node {
        case .mapping(let mapping):
            for (key, value) in mapping {
                guard let name = key.string else {
                    throw SettingsError(
                        source: "\(path):\(line)", key: prefix, found: "a key that is no text", expected: "a name")
                }
                try flatten(value, prefix: prefix.isEmpty ? name : "\(prefix).\(name)")
            }
        case .scalar(let scalar):
            guard SettingKey.matching(prefix) != nil else {
                throw SettingsError(
                    source: "\(path):\(line)", key: prefix.isEmpty ? "file" : prefix, found: "an unknown key",
                    expected: "one of \(SettingKey.all.map(\.name).joined(separator: ", "))")
            }
            // `key:` with nothing behind it leaves the default.
            if !(scalar.string.isEmpty && scalar.style == .plain) {
                values[prefix] = Value(text: scalar.string, line: line)
            }
        case .sequence(let sequence):
            // A list is a section whose names are numbers, in their order.
            for (index, value) in sequence.enumerated() {
                let number = String(index)
                try flatten(
                    value, prefix: "\(prefix).\(String(repeating: "0", count: max(0, 4 - number.count)))\(number)")
            }
        case .alias:
            throw SettingsError(
                source: "\(path):\(line)", key: prefix, found: "an alias", expected: "a value or a section")
        }
    }

    /// Names directly under a section.
    func names(under section: String) -> [String] {
        Set(
            values.keys.compactMap { key in
                key.hasPrefix(section + ".")
                    ? key.dropFirst(section.count + 1).split(separator: ".").first.map(String.init) : nil
            }
        ).sorted()
    }
}
