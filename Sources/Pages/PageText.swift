import Mustache

/// Text of users, as it stands in a page: nothing in it is markup, and nothing in it changes what is around it.
///
/// Mustache's own escaping goes by characters, so that a quotation mark with a combining accent, which is one character to
/// Swift and two to a browser, would end an attribute. This one goes by scalars.
public struct PageText: MustacheContentType {
    /// The name that templates ask for it by.
    static let name = "PAGE"

    /// As `escaped(_:)`.
    public func escapeText(_ text: String) -> String { Self.escaped(text) }

    /// The text with markup escaped, control characters as their pictures (U+2400 and on), and marks that change the direction
    /// of what follows written out. Line ends and tabs stay.
    public static func escaped(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar {
            case "<": result.append(contentsOf: "&lt;".unicodeScalars)
            case ">": result.append(contentsOf: "&gt;".unicodeScalars)
            case "&": result.append(contentsOf: "&amp;".unicodeScalars)
            case "\"": result.append(contentsOf: "&quot;".unicodeScalars)
            case "'": result.append(contentsOf: "&#39;".unicodeScalars)
            case "\n", "\t": result.append(scalar)
            default: append(scalar, to: &result)
            }
        }
        return String(result)
    }

    private static func append(_ scalar: Unicode.Scalar, to result: inout String.UnicodeScalarView) {
        switch scalar.value {
        case 0..<0x20: result.append(Unicode.Scalar(0x2400 + scalar.value) ?? "\u{FFFD}")
        case 0x7F: result.append("\u{2421}")
        // C1 controls, the marks of direction, and what HTML calls no character.
        case 0x80...0x9F, 0x061C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069, 0xFDD0...0xFDEF,
            _ where scalar.value & 0xFFFE == 0xFFFE:
            result.append(
                contentsOf: "\u{27E8}U+\(String(scalar.value, radix: 16, uppercase: true))\u{27E9}".unicodeScalars)
        default: result.append(scalar)
        }
    }

    /// A path of names as an address relative to the page, each name percent-encoded.
    static func address(_ names: [String]) -> String {
        let plain = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~".utf8)
        return names.map { name in
            name.utf8.map { byte in
                if plain.contains(byte) { return String(Unicode.Scalar(byte)) }
                return "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }.joined()
        }.joined(separator: "/")
    }
}
