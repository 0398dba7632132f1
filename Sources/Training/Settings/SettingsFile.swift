import Diffusion
import Foundation
import Yams

extension TrainingSettings {
    /// Reads a file of settings, YAML or JSON: one mapping of names to values; what it does not name keeps its default.
    ///
    /// - Throws: `TrainingError.settings` with all that is wrong, each with its line.
    public init(file path: String) throws(TrainingError) {
        let text: String
        do { text = try String(contentsOfFile: path, encoding: .utf8) } catch {
            throw .settings(["\(path): found \((error as NSError).localizedDescription), expected a YAML or JSON file"])
        }
        try self.init(yaml: text, source: path)
    }

    /// The same of a text; `source` is named in messages.
    public init(yaml text: String, source: String) throws(TrainingError) {
        self.init()
        let document: Node?
        do { document = try Yams.compose(yaml: text) } catch {
            throw .settings(["\(source): found \(error), expected YAML or JSON"])
        }
        guard let document, document != Node("") else { return }
        guard case .mapping(let mapping) = document else {
            throw .settings(["\(source): found no mapping, expected lines of the form `name: value`"])
        }
        var faults: [String] = []
        for (key, value) in mapping {
            let place = "\(source):\(key.mark?.line ?? 1): \(key.string ?? "key")"
            guard let field = SettingFields.all.first(where: { $0.name == key.string }) else {
                faults.append(
                    "\(place): found an unknown name, expected one of "
                        + SettingFields.all.map(\.name).joined(separator: ", "))
                continue
            }
            guard case .scalar(let scalar) = value else {
                faults.append("\(place): found a list or a section, expected \(field.range.expected)")
                continue
            }
            if let value = field.read(scalar.string) {
                self[field] = value
            } else {
                faults.append("\(place): found '\(scalar.string)', expected \(field.range.expected)")
            }
        }
        faults += contradictions.map { "\(source): \($0)" }
        if !faults.isEmpty { throw .settings(faults) }
    }

    /// Sets fields, each given as `name=value`.
    /// - Throws: `TrainingError.settings` with all that is wrong.
    public mutating func set(_ assignments: [String]) throws(TrainingError) {
        var faults: [String] = []
        for assignment in assignments {
            let parts = assignment.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(
                String.init)
            guard parts.count == 2, let field = SettingFields.all.first(where: { $0.name == parts[0] }) else {
                faults.append(
                    "\(assignment): found no setting, expected NAME=VALUE of one of "
                        + SettingFields.all.map(\.name).joined(separator: ", "))
                continue
            }
            if let value = field.read(parts[1]) {
                self[field] = value
            } else {
                faults.append("\(field.name): found '\(parts[1])', expected \(field.range.expected)")
            }
        }
        faults += contradictions
        if !faults.isEmpty { throw .settings(faults) }
    }

    /// Makes the path of an adapter to start from absolute.
    public mutating func resolveStart() {
        guard self.start != "self", self.start != "random" else { return }
        self.start = URL(fileURLWithPath: self.start).path
    }

    /// Fields that do not fit one another.
    var contradictions: [String] {
        self.leastErasure > self.greatestErasure
            ? ["least_erasure: found \(self.leastErasure), expected at most greatest_erasure, \(self.greatestErasure)"]
            : []
    }

    /// All settings as a YAML file that this reads again, each with its meaning.
    public var yaml: String {
        SettingFields.all.map { field in
            "# \(field.meaning) (\(field.range.expected))\n\(field.name): \(self[field].scalar)\n"
        }.joined()
    }

    /// All settings as one JSON object on one line, which this reads again: for metadata and states.
    public var json: String {
        "{" + SettingFields.all.map { "\"\($0.name)\": \(self[$0].scalar)" }.joined(separator: ", ") + "}"
    }

    /// All parameters, in the order in which they are printed.
    public static var descriptions: [SettingDescription] {
        SettingFields.all.map {
            SettingDescription(name: $0.name, meaning: $0.meaning, range: $0.range, initial: $0.initial.scalar)
        }
    }

    /// A JSON Schema (2020-12) of the files that are read.
    public static var schema: String {
        let properties = SettingFields.all.map { field in
            "    \"\(field.name)\": {\(field.range.schemaType), \"default\": \(field.initial.scalar), "
                + "\"description\": \(quoted(field.meaning))}"
        }
        return """
            {
              "$schema": "https://json-schema.org/draft/2020-12/schema",
              "title": "Settings of dreamcache train",
              "type": "object",
              "additionalProperties": false,
              "properties": {
            \(properties.joined(separator: ",\n"))
              }
            }

            """
    }

    /// The settings on which the adapter depends and that differ from `other`'s, as `name: found a, expected b`. With a constant
    /// learning rate a longer run begins as a shorter one.
    func differences(from other: TrainingSettings) -> [String] {
        SettingFields.all.filter { field in
            field.decides && self[field] != other[field]
                && !(field.name == "steps" && self.decay == .constant && other.decay == .constant)
        }.map { "\($0.name): found \(self[$0].text), expected \(other[$0].text)" }
    }
}

/// A text as a JSON string.
func quoted(_ text: String) -> String {
    let data = try? JSONSerialization.data(withJSONObject: text, options: [.fragmentsAllowed, .withoutEscapingSlashes])
    return data.map { String(decoding: $0, as: UTF8.self) } ?? "\"\""
}

/// (1 + cos(pi x)) / 2: from 1 at 0 to 0 at 1.
func halfCosine(_ x: Double) -> Double { (1 + cos(.pi * x)) / 2 }

/// `base` to the power of `exponent`.
func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }
