/// Why a text is not the JSON that was expected, with the place.
public struct JSONError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Offset in bytes, from 0.
    public let byte: Int
    /// Line, from 1.
    public let line: Int
    /// Column in bytes, from 1.
    public let column: Int
    /// Where in the document, as a JSON path: `$.subjects[1].name`.
    public let path: String
    /// What stands there.
    public let found: String
    /// What should.
    public let expected: String
    /// The text merely stops too early: more bytes could still make it whole. It stops at its end, or at a zero byte:
    /// copying programs that reserve the space first leave zeros where the rest will be.
    public let isTruncation: Bool

    /// One line for people.
    public var description: String {
        "line \(line), column \(column) (byte \(byte)), at \(path): found \(found), expected \(expected)"
    }
}

/// A strict reader of RFC 8259 for text from strangers: no duplicate names, no trailing bytes, bounded size and depth.
///
/// It reads every byte once and never recurses deeper than `maximumDepth`.
public struct JSONReader {
    /// Largest accepted text, in bytes.
    public static let maximumSize = 1 << 20
    /// Deepest accepted nesting.
    public static let maximumDepth = 32

    private let bytes: [UInt8]
    private var position = 0
    private var path: [Step] = []

    private enum Step {
        case name(String)
        case index(Int)
    }

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Reads one whole document of at most `maximumSize` bytes.
    ///
    /// - Throws: `JSONError` with byte, line, column and path of the first fault.
    public static func read(_ bytes: [UInt8], maximumSize: Int = JSONReader.maximumSize) throws(JSONError) -> JSON {
        var reader = JSONReader(bytes)
        guard bytes.count <= maximumSize else {
            reader.position = maximumSize
            throw reader.fault(found: "a text of \(bytes.count) bytes", expected: "at most \(maximumSize)")
        }
        if let encoding = foreignEncoding(bytes) {
            throw reader.fault(found: "a text in \(encoding)", expected: "UTF-8 (PowerShell: Out-File -Encoding utf8)")
        }
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { reader.position = 3 }
        reader.skipSpace()
        let value = try reader.value(depth: 0)
        reader.skipSpace()
        guard reader.position == bytes.count else {
            throw reader.fault(expected: "nothing after the document's end")
        }
        return value
    }

    /// UTF-16 or UTF-32, told by the byte order mark, or by the zeros around the first character, which is ASCII in JSON.
    private static func foreignEncoding(_ bytes: [UInt8]) -> String? {
        let start = Array(bytes.prefix(4))
        // A first character and nothing but zeros is the beginning of a text whose rest is still to come.
        let isBegun = bytes.dropFirst(4).first == 0
        switch start {
        case [0xFF, 0xFE, 0, 0], [0, 0, 0xFE, 0xFF]: return "UTF-32"
        case _ where start.starts(with: [0xFF, 0xFE]) || start.starts(with: [0xFE, 0xFF]): return "UTF-16"
        case _ where start.count < 4: return nil
        case _
        where start[0] != 0 && start[1...] == [0, 0, 0] && !isBegun || start[..<3] == [0, 0, 0] && start[3] != 0:
            return "UTF-32"
        case _
        where start[0] != 0 && start[1] == 0 && start[2] != 0 && start[3] == 0
            || start[0] == 0 && start[1] != 0 && start[2] == 0:
            return "UTF-16"
        default: return nil
        }
    }

    /// The line and column, both from 1, of a byte.
    public static func place(of byte: Int, in bytes: [UInt8]) -> (line: Int, column: Int) {
        var line = 1
        var start = 0
        for index in 0..<min(byte, bytes.count) where bytes[index] == UInt8(ascii: "\n") {
            line += 1
            start = index + 1
        }
        return (line, byte - start + 1)
    }

    // MARK: - Grammar

    private mutating func value(depth: Int) throws(JSONError) -> JSON {
        let start = position
        guard let byte = peek else { throw fault(expected: "a JSON value") }
        switch byte {
        case UInt8(ascii: "{"):
            try enter(depth)
            return JSON(.object(try object(depth: depth + 1)), offset: start)
        case UInt8(ascii: "["):
            try enter(depth)
            return JSON(.array(try array(depth: depth + 1)), offset: start)
        case UInt8(ascii: "\""): return JSON(.string(try string()), offset: start)
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw fault(expected: "a JSON value")
        }
    }

    private func enter(_ depth: Int) throws(JSONError) {
        guard depth < Self.maximumDepth else {
            throw fault(
                found: "nesting deeper than \(Self.maximumDepth)", expected: "at most \(Self.maximumDepth) levels")
        }
    }

    private mutating func object(depth: Int) throws(JSONError) -> [JSON.Member] {
        position += 1
        var members: [JSON.Member] = []
        var names: Set<String> = []
        skipSpace()
        if take("}") { return members }
        while true {
            guard peek == UInt8(ascii: "\"") else { throw fault(expected: "a member's name in quotes") }
            let start = position
            let name = try string()
            guard names.insert(name).inserted else {
                position = start
                throw fault(
                    found: "a second member named \(JSON.string(name).text(pretty: false))", expected: "each name once")
            }
            skipSpace()
            guard take(":") else { throw fault(expected: "':' after the name") }
            skipSpace()
            path.append(.name(name))
            members.append(JSON.Member(name, try value(depth: depth)))
            path.removeLast()
            skipSpace()
            if take("}") { return members }
            guard take(",") else { throw fault(expected: "',' or '}'") }
            skipSpace()
        }
    }

    private mutating func array(depth: Int) throws(JSONError) -> [JSON] {
        position += 1
        var values: [JSON] = []
        skipSpace()
        if take("]") { return values }
        while true {
            path.append(.index(values.count))
            values.append(try value(depth: depth))
            path.removeLast()
            skipSpace()
            if take("]") { return values }
            guard take(",") else { throw fault(expected: "',' or ']'") }
            skipSpace()
        }
    }

    private mutating func word(_ word: String, _ content: JSON.Content) throws(JSONError) -> JSON {
        let start = position
        for expected in word.utf8 {
            guard peek == expected else { throw fault(expected: word) }
            position += 1
        }
        return JSON(content, offset: start)
    }

    private mutating func number() throws(JSONError) -> JSON {
        let start = position
        _ = take("-")
        if !take("0") { try digits() }
        var isInteger = true
        if take(".") {
            isInteger = false
            try digits()
        }
        if take("e") || take("E") {
            isInteger = false
            if !take("+") { _ = take("-") }
            try digits()
        }
        let literal = String(decoding: bytes[start..<position], as: UTF8.self)
        if isInteger, let value = Int(literal) { return JSON(.integer(value), offset: start) }
        guard let value = Double(literal), value.isFinite else {
            position = start
            throw fault(
                found: literal.count > 40 ? "a number of \(literal.count) digits" : literal, expected: "a finite number"
            )
        }
        return JSON(.number(value), offset: start)
    }

    private mutating func digits() throws(JSONError) {
        let start = position
        while let byte = peek, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
        guard position > start else { throw fault(expected: "a digit") }
    }

    private mutating func string() throws(JSONError) -> String {
        position += 1
        let start = position
        // The common case, no escapes, is one slice of the text.
        while let byte = peek, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { position += 1 }
        var text = Array(bytes[start..<position])
        while true {
            guard let byte = peek else { throw fault(expected: "a closing quote") }
            switch byte {
            case UInt8(ascii: "\""):
                guard let string = String(validating: text, as: UTF8.self) else {
                    position = start
                    throw fault(found: "bytes that are not UTF-8", expected: "a string in UTF-8")
                }
                position += 1
                return string
            case UInt8(ascii: "\\"):
                position += 1
                try escape(into: &text)
            case 0..<0x20: throw fault(expected: "control characters written as escapes")
            default:
                text.append(byte)
                position += 1
            }
        }
    }

    private mutating func escape(into text: inout [UInt8]) throws(JSONError) {
        guard let byte = peek else { throw fault(expected: "the rest of an escape") }
        let plain: [UInt8: UInt8] = [
            UInt8(ascii: "\""): 0x22, UInt8(ascii: "\\"): 0x5C, UInt8(ascii: "/"): 0x2F, UInt8(ascii: "b"): 0x08,
            UInt8(ascii: "f"): 0x0C, UInt8(ascii: "n"): 0x0A, UInt8(ascii: "r"): 0x0D, UInt8(ascii: "t"): 0x09,
        ]
        if let character = plain[byte] {
            position += 1
            text.append(character)
            return
        }
        guard byte == UInt8(ascii: "u") else {
            throw fault(expected: "one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u")
        }
        position += 1
        let start = position
        var value = try fourHexDigits()
        if (0xD800..<0xDC00).contains(value) {
            guard take("\\"), take("u") else { throw fault(expected: "the second half of a surrogate pair") }
            let low = try fourHexDigits()
            guard (0xDC00..<0xE000).contains(low) else { throw fault(expected: "the second half of a surrogate pair") }
            value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
        }
        guard let scalar = Unicode.Scalar(value) else {
            position = start
            throw fault(found: "half of a surrogate pair", expected: "a Unicode character")
        }
        text.append(contentsOf: String(Character(scalar)).utf8)
    }

    private mutating func fourHexDigits() throws(JSONError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw fault(expected: "four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }

    // MARK: - Bytes

    private var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard peek == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func skipSpace() {
        while let byte = peek, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    private func fault(found: String? = nil, expected: String) -> JSONError {
        let place = Self.place(of: position, in: bytes)
        let atEnd = position >= bytes.count && found == nil
        let atZero = !atEnd && found == nil && bytes[position] == 0
        let here: String =
            if let found {
                found
            } else if atEnd {
                bytes.isEmpty ? "an empty file" : "the end of the file"
            } else if bytes[position] > 0x20, bytes[position] < 0x7F {
                "'\(Character(Unicode.Scalar(bytes[position])))'"
            } else {
                "the byte 0x\(String(bytes[position], radix: 16, uppercase: true))"
            }
        let steps = path.map { step in
            switch step {
            case .name(let name): JSONPath.member(name)
            case .index(let index): "[\(index)]"
            }
        }
        return JSONError(
            byte: position, line: place.line, column: place.column, path: "$" + steps.joined(), found: here,
            expected: expected, isTruncation: atEnd || atZero)
    }
}

/// How a place in a document is written (RFC 9535, normalised where a name is not plain).
enum JSONPath {
    /// `.name`, or `["odd name"]`.
    static func member(_ name: String) -> String {
        let plain = name.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "_")
        }
        return plain && !name.isEmpty ? "." + name : "[" + JSON.string(name).text(pretty: false) + "]"
    }
}
