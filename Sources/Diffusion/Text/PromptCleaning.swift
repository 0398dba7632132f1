import Foundation

/// What happens to a prompt before it is split into words.
///
/// Source: open_clip `basic_clean`, `whitespace_clean`, and ftfy 6 `fix_text` with its default configuration; transformers
/// `CLIPTokenizer`. Of ftfy one step is left out: guessing that text was decoded in a wrong encoding and undoing it
/// ("cafÃ©" stays as it is). Proved by `Tests/Fixtures/tokens`.
struct PromptCleaning: Sendable {
    private let entities: CharacterReferences

    init(entities: CharacterReferences) {
        self.entities = entities
    }

    /// open_clip's: ftfy, HTML unescaped twice, runs of white space to one space, lower case.
    func openCLIP(_ text: String) -> [Unicode.Scalar] {
        var scalars: [Unicode.Scalar] = []
        var unescapes = true
        // ftfy works line by line, and stops unescaping for good at the first line with a tag in it.
        for line in text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.contains("<") { unescapes = false }
            scalars += fixed(Array(line), unescapes: unescapes)
            scalars.append("\n")
        }
        return Self.lowercased(Self.singleSpaced(entities.unescaping(entities.unescaping(scalars))), finalSigma: true)
    }

    /// transformers': composed (NFC), runs of white space to one space, lower case.
    func transformers(_ text: String) -> [Unicode.Scalar] {
        Self.lowercased(
            Self.singleSpaced(Array(text.precomposedStringWithCanonicalMapping.unicodeScalars)), finalSigma: false)
    }

    /// ftfy's `fix_text` for one line. It repeats until nothing changes; eight rounds bound the work on text that was
    /// escaped over and over by somebody who means harm.
    private func fixed(_ line: [Unicode.Scalar], unescapes: Bool) -> [Unicode.Scalar] {
        var line = line
        for _ in 0..<8 {
            let original = line
            if unescapes { line = entities.unescapingTerminated(line) }
            line = Self.withoutTerminalEscapes(line.flatMap(Self.plainForm)).filter { !Self.isUnwantedControl($0) }
            var text = String.UnicodeScalarView()
            text.append(contentsOf: line)
            line = Array(String(text).precomposedStringWithCanonicalMapping.unicodeScalars)
            if line == original { break }
        }
        return line
    }

    /// ftfy's steps that look at one character: C1 controls as Windows-1252, Latin ligatures and digraphs taken apart,
    /// full and half width to the usual width, curly quotation marks to straight ones.
    private static func plainForm(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
        switch scalar.value {
        case 0..<0x80: [scalar]
        case 0x80...0x9F: [CharacterReferences.windows1252(scalar)]
        case 0x149: ["\u{02BC}", "n"].map(straightened)
        case 0x132...0x133, 0x1C4...0x1CC, 0x1F1...0x1F3, 0xFB00...0xFB04, 0xFB06, 0xFF01...0xFFEF:
            Array(String(scalar).precomposedStringWithCompatibilityMapping.unicodeScalars)
        case 0xFB05: ["\u{017F}", "t"]
        case 0x3000: [" "]
        default: [straightened(scalar)]
        }
    }

    private static func straightened(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
        switch scalar.value {
        case 0x2BC, 0x2018...0x201B: "'"
        case 0x201C...0x201F: "\""
        default: scalar
        }
    }

    private static func isUnwantedControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x00...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFC: true
        default: false
        }
    }

    /// Without ANSI sequences: escape, `[`, digits and semicolons, one letter.
    private static func withoutTerminalEscapes(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] {
        guard scalars.contains("\u{1B}") else { return scalars }
        var kept: [Unicode.Scalar] = []
        var index = 0
        while index < scalars.count {
            if scalars[index] == "\u{1B}", index + 1 < scalars.count, scalars[index + 1] == "[" {
                var end = index + 2
                while end < scalars.count,
                    scalars[end] == ";" || scalars[end].properties.generalCategory == .decimalNumber
                {
                    end += 1
                }
                if end < scalars.count, scalars[end].isASCII, scalars[end].properties.isAlphabetic {
                    index = end + 1
                    continue
                }
            }
            kept.append(scalars[index])
            index += 1
        }
        return kept
    }

    private static func singleSpaced(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] {
        Array(scalars.split(whereSeparator: \.properties.isWhitespace).joined(separator: [" "]))
    }

    /// Unicode's full lower case. Python's also knows the final sigma (SpecialCasing.txt, Final_Sigma), Rust's
    /// character by character does not.
    private static func lowercased(_ scalars: [Unicode.Scalar], finalSigma: Bool) -> [Unicode.Scalar] {
        var lower: [Unicode.Scalar] = []
        lower.reserveCapacity(scalars.count)
        for (index, scalar) in scalars.enumerated() {
            if finalSigma, scalar == "\u{03A3}" {
                let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
                let after = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
                let isFinal = before?.properties.isCased == true && after?.properties.isCased != true
                lower.append(isFinal ? "\u{03C2}" : "\u{03C3}")
            } else if scalar.isASCII {
                lower.append(("A"..."Z").contains(scalar) ? Unicode.Scalar(UInt8(scalar.value) + 32) : scalar)
            } else {
                lower.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
            }
        }
        return lower
    }
}

/// HTML character references, `&amp;` and `&#x26;`.
///
/// Source: the HTML standard's table of named character references and its rules for numeric ones, in the reading of
/// Python's `html.unescape`.
struct CharacterReferences: Sendable {
    private let names: [String: [Unicode.Scalar]]

    /// - Parameter table: lines of a name (with its semicolon, where it has one) and code points in hexadecimal.
    init(table: [UInt8], source: String) throws(TokenizerError) {
        var names: [String: [Unicode.Scalar]] = [:]
        for (index, line) in table.split(separator: UInt8(ascii: "\n")).enumerated() {
            let fields = String(decoding: line, as: UTF8.self).split(separator: " ")
            let scalars = fields.dropFirst().compactMap { UInt32($0, radix: 16).flatMap(Unicode.Scalar.init) }
            guard let name = fields.first, scalars.count == fields.count - 1, !scalars.isEmpty else {
                throw TokenizerError(
                    path: source, problem: "line \(index + 1) is not a name followed by code points in hexadecimal")
            }
            names[String(name)] = scalars
        }
        self.names = names
    }

    /// Python's `html.unescape`: names of up to 32 characters, the longest known prefix of a name without semicolon.
    func unescaping(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] {
        replacing(in: scalars) { start in
            if start < scalars.count, scalars[start] == "#" { return Self.numeric(scalars, from: start + 1) }
            var end = start
            while end < scalars.count, end - start < 32, !"\t\n\u{0C} <&#;".unicodeScalars.contains(scalars[end]) {
                end += 1
            }
            guard end > start else { return nil }
            if end < scalars.count, scalars[end] == ";", let value = names[Self.text(scalars[start...end])] {
                return (value, end + 1)
            }
            while end > start + 1 {
                if let value = names[Self.text(scalars[start..<end])] { return (value, end) }
                end -= 1
            }
            return nil
        }
    }

    /// ftfy's: only references that end in a semicolon, and lower-case names also in capitals for the capital.
    func unescapingTerminated(_ scalars: [Unicode.Scalar]) -> [Unicode.Scalar] {
        replacing(in: scalars) { start in
            let isNumeric = start < scalars.count && scalars[start] == "#"
            let first = isNumeric ? start + 1 : start
            var end = first
            while end < scalars.count, end - first < 24, scalars[end].isASCII,
                scalars[end].properties.isAlphabetic || scalars[end].properties.numericType != nil
            {
                end += 1
            }
            guard end > first, end < scalars.count, scalars[end] == ";" else { return nil }
            if isNumeric {
                guard let (value, after) = Self.numeric(scalars, from: first), after == end + 1 else { return nil }
                return (value, after)
            }
            let name = Self.text(scalars[start...end])
            if let value = names[name] { return (value, end + 1) }
            // Capitals only where they mean nothing by themselves, as `&AMPERE;` would through the prefix `&AMP`.
            guard name == name.uppercased(), !hasKnownPrefix(name), let value = names[name.lowercased()] else {
                return nil
            }
            return (value.flatMap { Array($0.properties.uppercaseMapping.unicodeScalars) }, end + 1)
        }
    }

    private func hasKnownPrefix(_ name: String) -> Bool {
        (2..<max(2, name.utf8.count)).contains { names[String(name.prefix($0))] != nil }
    }

    /// Replaces what `match` finds after each ampersand; it returns the replacement and the index after the reference.
    private func replacing(
        in scalars: [Unicode.Scalar], match: (Int) -> (value: [Unicode.Scalar], end: Int)?
    ) -> [Unicode.Scalar] {
        guard scalars.contains("&") else { return scalars }
        var replaced: [Unicode.Scalar] = []
        var index = 0
        while index < scalars.count {
            if scalars[index] == "&", let (value, end) = match(index + 1) {
                replaced += value
                index = end
            } else {
                replaced.append(scalars[index])
                index += 1
            }
        }
        return replaced
    }

    /// A numeric reference whose digits (or `x` and hexadecimal digits) begin at `start`.
    private static func numeric(_ scalars: [Unicode.Scalar], from start: Int) -> (value: [Unicode.Scalar], end: Int)? {
        let isHexadecimal = start < scalars.count && (scalars[start] == "x" || scalars[start] == "X")
        let radix = isHexadecimal ? 16 : 10
        var end = isHexadecimal ? start + 1 : start
        let firstDigit = end
        var number = 0
        while end < scalars.count, scalars[end].isASCII, let digit = Character(scalars[end]).hexDigitValue,
            digit < radix
        {
            number = min(number * radix + digit, 0x11_0000)
            end += 1
        }
        guard end > firstDigit else { return nil }
        if end < scalars.count, scalars[end] == ";" { end += 1 }
        return (character(number), end)
    }

    private static func character(_ number: Int) -> [Unicode.Scalar] {
        guard number != 0, let scalar = UInt32(exactly: number).flatMap(Unicode.Scalar.init) else {
            return ["\u{FFFD}"]
        }
        switch number {
        case 0x80...0x9F: return [windows1252(scalar)]
        case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0xFDD0...0xFDEF: return []
        default: return number & 0xFFFE == 0xFFFE ? [] : [scalar]
        }
    }

    /// Windows-1252's reading of a C1 control; its five unassigned places stay what they are.
    static func windows1252(_ control: Unicode.Scalar) -> Unicode.Scalar {
        let table: [Unicode.Scalar] = [
            "\u{20AC}", "\u{81}", "\u{201A}", "\u{0192}", "\u{201E}", "\u{2026}", "\u{2020}", "\u{2021}",
            "\u{02C6}", "\u{2030}", "\u{0160}", "\u{2039}", "\u{0152}", "\u{8D}", "\u{017D}", "\u{8F}",
            "\u{90}", "\u{2018}", "\u{2019}", "\u{201C}", "\u{201D}", "\u{2022}", "\u{2013}", "\u{2014}",
            "\u{02DC}", "\u{2122}", "\u{0161}", "\u{203A}", "\u{0153}", "\u{9D}", "\u{017E}", "\u{0178}",
        ]
        let index = Int(control.value) - 0x80
        return table.indices.contains(index) ? table[index] : control
    }

    private static func text(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars)
        return String(view)
    }
}
