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
    init(yaml text: String, source: String) throws(TrainingError) {
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
            guard let field = SettingField.all.first(where: { $0.name == key.string }) else {
                faults.append(
                    "\(place): found an unknown name, expected one of "
                        + SettingField.all.map(\.name).joined(separator: ", "))
                continue
            }
            guard case .scalar(let scalar) = value else {
                faults.append("\(place): found a list or a section, expected \(field.expected)")
                continue
            }
            if !field.set(&self, scalar.string) {
                faults.append("\(place): found '\(scalar.string)', expected \(field.expected)")
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
            guard parts.count == 2, let field = SettingField.all.first(where: { $0.name == parts[0] }) else {
                faults.append(
                    "\(assignment): found no setting, expected NAME=VALUE of one of "
                        + SettingField.all.map(\.name).joined(separator: ", "))
                continue
            }
            if !field.set(&self, parts[1]) {
                faults.append("\(field.name): found '\(parts[1])', expected \(field.expected)")
            }
        }
        faults += contradictions
        if !faults.isEmpty { throw .settings(faults) }
    }

    /// Fields that do not fit one another.
    var contradictions: [String] {
        leastErasure > greatestErasure
            ? ["least_erasure: found \(leastErasure), expected at most greatest_erasure, \(greatestErasure)"] : []
    }

    /// All settings as a YAML file that this reads again, each with its meaning.
    public var yaml: String {
        SettingField.all.map { field in
            "# \(field.meaning) (\(field.expected))\n\(field.name): \(field.scalar(self))\n"
        }.joined()
    }

    /// All settings as one JSON object on one line, which this reads again: for metadata and states.
    public var json: String {
        "{" + SettingField.all.map { "\"\($0.name)\": \($0.scalar(self))" }.joined(separator: ", ") + "}"
    }

    /// A JSON Schema (2020-12) of the files that are read.
    public static var schema: String {
        let defaults = TrainingSettings()
        let properties = SettingField.all.map { field in
            "    \"\(field.name)\": {\(field.schemaType), \"default\": \(field.scalar(defaults)), "
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
        SettingField.all.filter { field in
            field.decides && field.text(self) != field.text(other)
                && !(field.name == "steps" && decay == .constant && other.decay == .constant)
        }.map { "\($0.name): found \($0.text(self)), expected \($0.text(other))" }
    }
}

extension SettingField {
    /// The value as JSON has it, which is YAML too.
    func scalar(_ settings: TrainingSettings) -> String {
        switch kind {
        case .integer, .number: text(settings)
        case .text, .choice: quoted(text(settings))
        }
    }

    fileprivate var schemaType: String {
        switch kind {
        case .integer(_, let range):
            "\"type\": \"integer\", \"minimum\": \(range.lowerBound)"
                + (range.upperBound == .max ? "" : ", \"maximum\": \(range.upperBound)")
        case .number(_, let range):
            "\"type\": \"number\", \"minimum\": \(range.lowerBound), \"maximum\": \(range.upperBound)"
        case .text: "\"type\": \"string\", \"minLength\": 1"
        case .choice(let values, _, _): "\"enum\": [\(values.map(quoted).joined(separator: ", "))]"
        }
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
