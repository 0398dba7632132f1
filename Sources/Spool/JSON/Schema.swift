/// A description of a JSON document, from which its checker, its defaults and its JSON Schema all follow.
public indirect enum Schema: Sendable {
    /// A string of so many characters, of a pattern where one is given.
    case string(length: ClosedRange<Int> = 0...Int.max, pattern: StringPattern? = nil)
    /// One of a list of strings; `aliases` are accepted too and become the listed one.
    case choice([String], aliases: [String: String] = [:])
    /// An integer in a range, a multiple of something; `advice` is added to what is expected.
    case integer(ClosedRange<Int>, multipleOf: Int = 1, advice: String? = nil)
    /// A number in a range.
    case number(ClosedRange<Double>)
    /// true or false.
    case boolean
    /// So many values of one kind.
    case array(of: Schema, count: ClosedRange<Int>)
    /// An object of these members and no others; of each group in `oneOf` exactly one member is there.
    case object([Field], oneOf: [[String]] = [])
    /// An object of whatever members.
    case anyObject
    /// One of several: the first that takes this kind of value.
    case either(Schema, Schema)

    /// A pattern strings follow, in the two notations needed.
    public enum StringPattern: Sendable {
        /// A name of a subject or file: `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`.
        case name

        /// The regular expression (ECMA-262) for the JSON Schema.
        public var regularExpression: String {
            switch self {
            case .name: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
            }
        }

        /// What is expected, in words.
        var expectation: String {
            switch self {
            case .name: "a name of 1 to 64 letters, digits, '.', '_' or '-' that begins with a letter or digit"
            }
        }

        func matches(_ string: String) -> Bool {
            switch self {
            case .name: DropName.isPlain(string)
            }
        }
    }

    /// A member of an object.
    public struct Field: Sendable {
        /// Its name.
        public let name: String
        /// Other names it may have.
        public let aliases: [String]
        /// Its value.
        public let schema: Schema
        /// Whether it must be there.
        public let isRequired: Bool
        /// Another member without which this one makes no sense.
        public let needs: String?
        /// Its value when absent.
        public let defaultValue: JSON?
        /// What it means, in a sentence.
        public let summary: String

        /// A member.
        public init(
            _ name: String, aliases: [String] = [], _ schema: Schema, required: Bool = false, needs: String? = nil,
            default value: JSON? = nil,
            _ summary: String
        ) {
            self.name = name
            self.aliases = aliases
            self.schema = schema
            self.isRequired = required
            self.needs = needs
            self.defaultValue = value
            self.summary = summary
        }
    }
}

/// One way in which a document is not what its schema asks for.
public struct SchemaFault: Sendable, Equatable {
    /// Where, as a JSON path.
    public let path: String
    /// Byte offset of the value at fault.
    public let byte: Int
    /// What stands there.
    public let found: String
    /// What should.
    public let expected: String
}

extension Schema {
    /// Checks a value and gives it back with aliases resolved and defaults filled in.
    ///
    /// All faults are collected, so that their author can mend them at one go.
    public func check(_ value: JSON, path: String = "$", faults: inout [SchemaFault]) -> JSON {
        func fault(_ expected: String) -> JSON {
            faults.append(SchemaFault(path: path, byte: value.offset, found: value.summary, expected: expected))
            return value
        }
        switch self {
        case .string(let length, let pattern):
            guard let string = value.string else { return fault(expectation) }
            if let pattern, !pattern.matches(string) { return fault(expectation) }
            // Characters that the metadata of an image cannot carry are refused before the image is made.
            if let control = string.unicodeScalars.first(where: Self.isForbidden) {
                faults.append(
                    SchemaFault(
                        path: path, byte: value.offset, found: "the control character '\(String(control).printable)'",
                        expected: "text without control characters but line ends and tabs"))
                return value
            }
            return length.contains(string.unicodeScalars.count) ? value : fault(expectation)
        case .choice(let choices, let aliases):
            guard let string = value.string else { return fault(expectation) }
            if choices.contains(string) { return value }
            // Where a choice has names in several programs, these do not agree in capitals either.
            let isAlike = { (name: String) in !aliases.isEmpty && name.lowercased() == string.lowercased() }
            guard
                let meant = aliases[string] ?? choices.first(where: isAlike)
                    ?? aliases.first(where: { isAlike($0.key) })?.value
            else { return fault(expectation) }
            return JSON(.string(meant), offset: value.offset)
        case .integer(let range, let factor, _):
            // 2.0 is an integer to JSON Schema, so it is one here.
            let integer = value.integer ?? value.number.flatMap { Int(exactly: $0) }
            guard let integer, range.contains(integer), integer % factor == 0 else { return fault(expectation) }
            return JSON(.integer(integer), offset: value.offset)
        case .number(let range):
            guard let number = value.number, range.contains(number) else { return fault(expectation) }
            return value
        case .boolean:
            return value.bool == nil ? fault(expectation) : value
        case .array(let element, let count):
            guard let values = value.array, count.contains(values.count) else { return fault(expectation) }
            let checked = values.enumerated().map { index, value in
                element.check(value, path: "\(path)[\(index)]", faults: &faults)
            }
            return JSON(.array(checked), offset: value.offset)
        case .object(let fields, let groups):
            guard let members = value.members else { return fault(expectation) }
            let checked = Self.check(
                members, of: value, against: fields, oneOf: groups, path: path, faults: &faults)
            return JSON(.object(checked), offset: value.offset)
        case .anyObject: return value.members == nil ? fault(expectation) : value
        case .either(let first, let second):
            if first.isKind(of: value) { return first.check(value, path: path, faults: &faults) }
            if second.isKind(of: value) { return second.check(value, path: path, faults: &faults) }
            return fault(expectation)
        }
    }

    private static func check(
        _ members: [JSON.Member], of value: JSON, against fields: [Field], oneOf groups: [[String]], path: String,
        faults: inout [SchemaFault]
    ) -> [JSON.Member] {
        var given: [String: JSON] = [:]
        var spelling: [String: String] = [:]
        for member in members {
            let place = path + JSONPath.member(member.name)
            guard let field = fields.first(where: { $0.name == member.name || $0.aliases.contains(member.name) }) else {
                let names = fields.map(\.name).joined(separator: ", ")
                faults.append(
                    SchemaFault(
                        path: place, byte: member.value.offset, found: "an unknown member", expected: "one of \(names)")
                )
                continue
            }
            if let other = spelling[field.name] {
                faults.append(
                    SchemaFault(
                        path: place, byte: member.value.offset, found: "a second spelling of \(other)",
                        expected: "\(field.name) once"))
                continue
            }
            spelling[field.name] = member.name
            given[field.name] = field.schema.check(member.value, path: place, faults: &faults)
        }
        for group in groups {
            let there = group.filter { given[$0] != nil }
            if there.count != 1 {
                faults.append(
                    SchemaFault(
                        path: path, byte: value.offset,
                        found: there.isEmpty ? "none of them" : there.joined(separator: " and "),
                        expected: "exactly one of " + group.joined(separator: ", ")))
            }
        }
        return fields.compactMap { field in
            if let value = given[field.name] {
                if let needed = field.needs, given[needed] == nil {
                    let spelled = spelling[field.name] ?? field.name
                    faults.append(
                        SchemaFault(
                            path: path + JSONPath.member(spelled), byte: value.offset,
                            found: "\(spelled) without \(needed)", expected: "both or neither"))
                }
                return JSON.Member(field.name, value)
            }
            if field.isRequired {
                faults.append(
                    SchemaFault(
                        path: path + JSONPath.member(field.name), byte: value.offset, found: "nothing",
                        expected: field.schema.expectation))
            }
            return field.defaultValue.map { JSON.Member(field.name, $0) }
        }
    }

    private func isKind(of value: JSON) -> Bool {
        switch (self, value.content) {
        case (.string, .string), (.choice, .string), (.integer, .integer), (.integer, .number), (.number, .integer),
            (.number, .number), (.boolean, .bool), (.array, .array), (.object, .object), (.anyObject, .object):
            true
        case (.either(let first, let second), _): first.isKind(of: value) || second.isKind(of: value)
        default: false
        }
    }

    /// The same as a regular expression (ECMA-262).
    private static let textExpression = #"^[^\u0000-\u0008\u000B\u000C\u000E-\u001F]*$"#

    /// C0, but for tabs and line ends.
    private static func isForbidden(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 && scalar != "\t" && scalar != "\n" && scalar != "\r"
    }

    /// What is expected, in words.
    var expectation: String {
        switch self {
        case .string(_, .some(let pattern)): return pattern.expectation
        case .string(let length, nil):
            if length.upperBound == Int.max { return length.lowerBound > 0 ? "a string that is not empty" : "a string" }
            return "a string of \(length.lowerBound) to \(length.upperBound) characters"
        case .choice(let choices, let aliases):
            let short = aliases.keys.sorted { ($0.count, $0) < ($1.count, $1) }
            return "one of " + (choices + short).joined(separator: ", ")
        case .integer(let range, let factor, let advice):
            let kind = factor == 1 ? "an integer" : "a multiple of \(factor)"
            return "\(kind) from \(range.lowerBound) to \(range.upperBound)" + (advice.map { ", " + $0 } ?? "")
        case .number(let range): return "a number from \(range.lowerBound) to \(range.upperBound)"
        case .boolean: return "true or false"
        case .array(let element, let count):
            return "an array of \(count.lowerBound) to \(count.upperBound), each \(element.expectation)"
        case .object, .anyObject: return "an object"
        case .either(let first, let second): return "\(first.expectation), or \(second.expectation)"
        }
    }

    /// The same as a JSON Schema (draft 2020-12), without the `$schema` line.
    public var jsonSchema: JSON {
        switch self {
        case .string(let length, let pattern):
            return .object([
                "type": .string("string"),
                "minLength": length.lowerBound > 0 ? .integer(length.lowerBound) : nil,
                "maxLength": length.upperBound < Int.max ? .integer(length.upperBound) : nil,
                "pattern": .string(pattern?.regularExpression ?? Self.textExpression),
            ])
        case .choice(let choices, let aliases):
            return .object(["enum": .array((choices + aliases.keys.sorted()).map { .string($0) })])
        case .integer(let range, let factor, _):
            return .object([
                "type": .string("integer"), "minimum": .integer(range.lowerBound),
                "maximum": .integer(range.upperBound),
                "multipleOf": factor == 1 ? nil : .integer(factor),
            ])
        case .number(let range):
            return .object([
                "type": .string("number"), "minimum": .number(range.lowerBound), "maximum": .number(range.upperBound),
            ])
        case .boolean: return .object(["type": .string("boolean")])
        case .array(let element, let count):
            return .object([
                "type": .string("array"), "items": element.jsonSchema, "minItems": .integer(count.lowerBound),
                "maxItems": .integer(count.upperBound),
            ])
        case .anyObject: return .object(["type": .string("object")])
        case .object(let fields, let groups): return Self.jsonSchema(of: fields, oneOf: groups)
        case .either(let first, let second): return .object(["anyOf": .array([first.jsonSchema, second.jsonSchema])])
        }
    }

    /// The same as a document of its own.
    public func document(titled title: String) -> JSON {
        let head: [JSON.Member] = [
            .init("$schema", .string("https://json-schema.org/draft/2020-12/schema")), .init("title", .string(title)),
        ]
        return JSON(.object(head + (jsonSchema.members ?? [])))
    }

    private static func jsonSchema(of fields: [Field], oneOf groups: [[String]]) -> JSON {
        var properties: [JSON.Member] = []
        var conditions: [JSON] = []
        for field in fields {
            let described: [JSON.Member] =
                [JSON.Member("description", .string(field.summary))]
                + (field.defaultValue.map { [JSON.Member("default", $0)] } ?? [])
                + (field.schema.jsonSchema.members ?? [])
            properties.append(JSON.Member(field.name, JSON(.object(described))))
            for alias in field.aliases {
                let same = JSON.Member("description", .string("Another name of \(field.name)."))
                properties.append(JSON.Member(alias, JSON(.object([same] + (field.schema.jsonSchema.members ?? [])))))
            }
            let spellings = [field.name] + field.aliases
            if field.isRequired {
                conditions.append(.object(["oneOf": .array(spellings.map { requiring([$0]) })]))
            } else {
                for (index, first) in spellings.enumerated() {
                    for second in spellings[(index + 1)...] {
                        conditions.append(.object(["not": requiring([first, second])]))
                    }
                }
            }
        }
        for group in groups { conditions.append(.object(["oneOf": .array(group.map { requiring([$0]) })])) }
        let dependent = fields.flatMap { field in
            field.needs.map { needed in
                ([field.name] + field.aliases).map { JSON.Member($0, .array([.string(needed)])) }
            } ?? []
        }
        return .object([
            "type": .string("object"), "properties": JSON(.object(properties)), "additionalProperties": .bool(false),
            "allOf": conditions.isEmpty ? nil : .array(conditions),
            "dependentRequired": dependent.isEmpty ? nil : JSON(.object(dependent)),
        ])
    }

    private static func requiring(_ names: [String]) -> JSON {
        .object(["required": .array(names.map { .string($0) })])
    }
}
