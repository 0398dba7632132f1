/// A JSON value (RFC 8259) that keeps the order of an object's members and, when it was read, the place it was read at.
///
/// Two values are equal when their contents are; the place does not count.
public struct JSON: Sendable, Equatable {
    /// The seven kinds of value, numbers told apart by whether they are written as an integer that fits `Int`.
    public indirect enum Content: Sendable, Equatable {
        case null
        case bool(Bool)
        case integer(Int)
        case number(Double)
        case string(String)
        case array([JSON])
        case object([Member])
    }

    /// One `"name": value` of an object.
    public struct Member: Sendable, Equatable {
        /// The member's name, unescaped.
        public let name: String
        /// The member's value.
        public let value: JSON

        /// A member.
        public init(_ name: String, _ value: JSON) {
            self.name = name
            self.value = value
        }
    }

    /// What the value is.
    public let content: Content

    /// Byte offset of the value's first character in the text it was read from; 0 for a value made in memory.
    public let offset: Int

    /// A value, by default one made in memory.
    public init(_ content: Content, offset: Int = 0) {
        self.content = content
        self.offset = offset
    }

    /// Equality of contents.
    public static func == (a: JSON, b: JSON) -> Bool { a.content == b.content }

    /// An object from pairs, leaving out those whose value is nil.
    public static func object(_ pairs: KeyValuePairs<String, JSON?>) -> JSON {
        JSON(.object(pairs.compactMap { name, value in value.map { Member(name, $0) } }))
    }

    /// A string.
    public static func string(_ value: String) -> JSON { JSON(.string(value)) }

    /// An integer.
    public static func integer(_ value: Int) -> JSON { JSON(.integer(value)) }

    /// A number; one that is not finite, which JSON cannot say, becomes null.
    public static func number(_ value: Double) -> JSON { value.isFinite ? JSON(.number(value)) : JSON(.null) }

    /// A truth value.
    public static func bool(_ value: Bool) -> JSON { JSON(.bool(value)) }

    /// An array.
    public static func array(_ values: [JSON]) -> JSON { JSON(.array(values)) }

    /// The member of that name, or nil when this is no object or has none.
    public subscript(name: String) -> JSON? {
        guard case .object(let members) = content else { return nil }
        return members.first { $0.name == name }?.value
    }

    /// The string, or nil when this is none.
    public var string: String? { if case .string(let value) = content { value } else { nil } }

    /// The integer, or nil when this is none.
    public var integer: Int? { if case .integer(let value) = content { value } else { nil } }

    /// The number, integers included, or nil when this is none.
    public var number: Double? {
        switch content {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }

    /// The truth value, or nil when this is none.
    public var bool: Bool? { if case .bool(let value) = content { value } else { nil } }

    /// The elements, or nil when this is no array.
    public var array: [JSON]? { if case .array(let values) = content { values } else { nil } }

    /// The members, or nil when this is no object.
    public var members: [Member]? { if case .object(let members) = content { members } else { nil } }

    /// What this is, in words for an error: `the string "dog"`, `an array of 3`.
    public var summary: String {
        switch content {
        case .null: return "null"
        case .bool(let value): return value ? "true" : "false"
        case .integer(let value): return String(value)
        case .number(let value): return "\(value)"
        case .string(let value):
            let shown = value.count > 60 ? value.prefix(57) + "..." : value[...]
            return "the string " + JSON.string(String(shown)).text(pretty: false)
        case .array(let values): return "an array of \(values.count)"
        case .object(let members): return members.isEmpty ? "an empty object" : "an object"
        }
    }
}

extension Unicode.Scalar {
    /// Whether it acts upon a terminal or a log: a control character, an end of a line, or one that turns the direction of text.
    fileprivate var isControl: Bool {
        switch value {
        case ..<0x20, 0x7F...0x9F, 0x061C, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069: true
        default: false
        }
    }
}

extension JSON {
    /// The value as JSON text in UTF-8: the same value always gives the same bytes.
    ///
    /// - Parameter pretty: two spaces per level and a final newline, for files people read; otherwise one line.
    public func text(pretty: Bool = true) -> String {
        var out = ""
        write(to: &out, indentation: pretty ? 0 : nil)
        if pretty { out += "\n" }
        return out
    }

    private func write(to out: inout String, indentation: Int?) {
        switch content {
        case .null: out += "null"
        case .bool(let value): out += value ? "true" : "false"
        case .integer(let value): out += String(value)
        case .number(let value): out += value == value.rounded() && abs(value) < 1e15 ? "\(Int(value)).0" : "\(value)"
        case .string(let value): JSON.quote(value, to: &out)
        case .array(let values):
            JSON.write(values, between: ("[", "]"), to: &out, indentation: indentation) { value, out, inner in
                value.write(to: &out, indentation: inner)
            }
        case .object(let members):
            JSON.write(members, between: ("{", "}"), to: &out, indentation: indentation) { member, out, inner in
                JSON.quote(member.name, to: &out)
                out += inner == nil ? ":" : ": "
                member.value.write(to: &out, indentation: inner)
            }
        }
    }

    private static func write<Element>(
        _ elements: [Element], between brackets: (String, String), to out: inout String, indentation: Int?,
        each: (Element, inout String, Int?) -> Void
    ) {
        out += brackets.0
        let inner = indentation.map { $0 + 1 }
        for (index, element) in elements.enumerated() {
            if index > 0 { out += "," }
            if let inner { out += "\n" + String(repeating: "  ", count: inner) }
            each(element, &out, inner)
        }
        if let indentation, !elements.isEmpty { out += "\n" + String(repeating: "  ", count: indentation) }
        out += brackets.1
    }

    private static func quote(_ string: String, to out: inout String) {
        out += "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            case _ where scalar.isControl:
                let hex = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: out.unicodeScalars.append(scalar)
            }
        }
        out += "\""
    }
}
