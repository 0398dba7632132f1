import Bytes
import Foundation

/// Any JSON value.
package enum JSONValue: Decodable, CustomStringConvertible {
    case null
    case bool(Bool)
    case number(Double)
    case text(String)
    case list([JSONValue])
    case object([String: JSONValue])

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let bool = try? container.decode(Bool.self) {
            self = .bool(bool)
        } else if let number = try? container.decode(Double.self) {
            self = .number(number)
        } else if let text = try? container.decode(String.self) {
            self = .text(text)
        } else if let list = try? container.decode([JSONValue].self) {
            self = .list(list)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    /// The number, where it is a whole one.
    package var integer: Int? {
        guard case .number(let number) = self else { return nil }
        return Int(exactly: number)
    }

    /// JSON as Python writes it, with `Infinity`, `-Infinity` and `NaN`, made JSON by quotation marks around those.
    static func quotingInfinities(in data: Data) -> Data {
        let words = ["-Infinity", "Infinity", "NaN"].map { Array($0.utf8) }
        var result: [UInt8] = []
        let bytes = [UInt8](data)
        var isText = false
        var index = 0
        while index < bytes.count {
            if !isText, let word = words.first(where: { bytes[index...].starts(with: $0) }) {
                result += [UInt8(ascii: "\"")] + word + [UInt8(ascii: "\"")]
                index += word.count
                continue
            }
            if bytes[index] == UInt8(ascii: "\"") { isText.toggle() }
            result.append(bytes[index])
            if isText, bytes[index] == UInt8(ascii: "\\"), index + 1 < bytes.count {
                index += 1
                result.append(bytes[index])
            }
            index += 1
        }
        return Data(result)
    }

    /// As a message shows it.
    package var description: String {
        switch self {
        case .null: "null"
        case .bool(let bool): "\(bool)"
        case .number(let number): integer.map { "\($0)" } ?? "\(number)"
        case .text(let text): "'\(text)'"
        case .list(let list): list.count > 8 ? "a list of \(list.count)" : "\(list)"
        case .object: "an object"
        }
    }
}

/// A JSON file that holds one object, read field by field; every error names the file, the field, what was found and what
/// was expected. A field that is null counts as absent.
package struct JSONDocument {
    package let path: String
    let values: [String: JSONValue]

    /// A configuration is a page of text; an index of shards has a line for each tensor.
    private static let maximumSize = 64 << 20

    package init(path: String) throws(DiffusionError) {
        self.path = path
        let data = try Self.data(ofFile: path)
        do { values = try JSONDecoder().decode([String: JSONValue].self, from: data) } catch {
            throw .configuration(path: path, field: "file", found: "no JSON object", expected: "one")
        }
    }

    private init(path: String, values: [String: JSONValue]) {
        self.path = path
        self.values = values
    }

    /// A field that holds an object; errors in it name the field too.
    package func object(_ key: String) throws(DiffusionError) -> JSONDocument? {
        guard let value = self[key] else { return nil }
        guard case .object(let inner) = value else { throw wrong(key, "an object") }
        return JSONDocument(path: "\(path): \(key)", values: inner)
    }

    /// The bytes of a regular file of moderate size.
    static func data(ofFile path: String) throws(DiffusionError) -> Data {
        func wrong(_ found: String, _ expected: String = "a file that can be read") -> DiffusionError {
            .configuration(path: path, field: "file", found: found, expected: expected)
        }
        let file = try RegularFile.open(path).mapError { wrong($0.found) }.get()
        defer { file.close() }
        guard file.size <= maximumSize else {
            throw wrong("\(file.size) bytes", "a file of at most \(maximumSize) bytes")
        }
        return Data(try file.bytes().mapError { wrong($0.found) }.get())
    }

    package func wrong(_ key: String, _ expected: String) -> DiffusionError {
        .configuration(path: path, field: key, found: values[key].map { "\($0)" } ?? "nothing", expected: expected)
    }

    package subscript(key: String) -> JSONValue? {
        if case .null? = values[key] { return nil }
        return values[key]
    }

    package func int(_ key: String, in range: ClosedRange<Int>) throws(DiffusionError) -> Int? {
        guard let value = self[key] else { return nil }
        guard let number = value.integer, range.contains(number) else {
            throw wrong(key, "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// A field without which nothing can be said.
    package func requiredInt(_ key: String, in range: ClosedRange<Int>) throws(DiffusionError) -> Int {
        guard let number = try int(key, in: range) else {
            throw wrong(key, "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// A list of whole numbers, or one number that stands for `count` equal ones.
    func ints(_ key: String, in range: ClosedRange<Int>, count: Int? = nil) throws(DiffusionError) -> [Int]? {
        guard let value = self[key] else { return nil }
        var numbers = [value.integer]
        if case .list(let list) = value {
            numbers = list.map(\.integer)
        } else if let count {
            numbers = Array(repeating: value.integer, count: count)
        }
        let valid = numbers.compactMap { $0 }.filter(range.contains)
        guard valid.count == numbers.count, !valid.isEmpty, count.map({ $0 == valid.count }) ?? true else {
            throw wrong(
                key,
                "\(count.map { "\($0) " } ?? "")whole numbers from \(range.lowerBound) to \(range.upperBound)")
        }
        return valid
    }

    package func number(_ key: String) throws(DiffusionError) -> Double? {
        guard let value = self[key] else { return nil }
        guard case .number(let number) = value else { throw wrong(key, "a number") }
        return number
    }

    package func text(_ key: String) throws(DiffusionError) -> String? {
        guard let value = self[key] else { return nil }
        guard case .text(let text) = value else { throw wrong(key, "a text") }
        return text
    }

    func texts(_ key: String) throws(DiffusionError) -> [String]? {
        guard let value = self[key] else { return nil }
        guard case .list(let list) = value else { throw wrong(key, "a list of texts") }
        var texts: [String] = []
        for element in list {
            guard case .text(let text) = element else { throw wrong(key, "a list of texts") }
            texts.append(text)
        }
        return texts
    }

    /// Refuses options that stand for a network we do not have: each may be absent or have one of the values that leave it
    /// off.
    func requireOff(_ options: [(key: String, off: [String])]) throws(DiffusionError) {
        for (key, off) in options {
            guard let value = self[key], !off.contains(value.description) else { continue }
            throw wrong(key, (["null"] + off).joined(separator: " or "))
        }
    }
}
