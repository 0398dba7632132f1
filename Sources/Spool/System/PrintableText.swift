extension String {
    /// The text with everything escaped that makes a terminal act or a reader see something else than is there: control
    /// characters, line ends, and the invisible marks that change the direction of text. `\n`, `\t`, `\r`, else `\u{1B}`.
    ///
    /// The joiners that emoji and several scripts are written with stay.
    public var printable: String {
        guard unicodeScalars.contains(where: \.isHarmful) else { return self }
        var result = ""
        for scalar in unicodeScalars {
            if scalar.isHarmful {
                result += scalar.escaped
            } else {
                result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// As `printable`, but lines stay lines.
    public var printableLines: String {
        split(separator: "\n", omittingEmptySubsequences: false).map { String($0).printable }.joined(separator: "\n")
    }
}

extension Unicode.Scalar {
    fileprivate var isHarmful: Bool {
        switch properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        // Zero-width joiner and non-joiner.
        case .format: value != 0x200C && value != 0x200D
        default: false
        }
    }

    fileprivate var escaped: String {
        switch self {
        case "\n": "\\n"
        case "\t": "\\t"
        case "\r": "\\r"
        default: "\\u{" + String(value, radix: 16, uppercase: true) + "}"
        }
    }
}

extension SpoolPath.Name {
    /// The name as its author wrote it, harmless to show: bytes that are not UTF-8 as `\xE9`, the rest as
    /// `String.printable`.
    public var printable: String { text.printable }

    /// The name as text: bytes that are not UTF-8 as `\xE9`.
    var text: String {
        if let whole = String(validating: bytes, as: UTF8.self) { return whole }
        var text = ""
        var rest = bytes[...]
        while let first = rest.first {
            // A character has one to four bytes.
            let length = (1...4).first { $0 <= rest.count && String(validating: rest.prefix($0), as: UTF8.self) != nil }
            if let length {
                text += String(decoding: rest.prefix(length), as: UTF8.self)
                rest = rest.dropFirst(length)
            } else {
                text += "\\x" + (first < 16 ? "0" : "") + String(first, radix: 16, uppercase: true)
                rest = rest.dropFirst()
            }
        }
        return text
    }
}
