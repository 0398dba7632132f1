/// The X Window System's font `6x13` (misc-fixed: "Public domain font. Share and enjoy."): Latin, Greek and Cyrillic, and common
/// signs. It is part of the program, so that a sheet's bytes do not depend on the fonts of a machine.
enum Fixed6x13 {
    static let width = 6, height = 13

    /// Which of a character's 13 rows of 6 pixels are set, the leftmost in the highest bit; "?" for what the font lacks. However a
    /// letter and its accents are encoded, they are one character.
    static func rows(of character: Character) -> ArraySlice<UInt8> {
        let start = places[character] ?? places["?"] ?? 0
        return glyphs.rows[start..<start + height]
    }

    /// Whether the font has a character.
    static func has(_ character: Character) -> Bool { places[character] != nil }

    private static let glyphs: (characters: [Character], rows: [UInt8]) = {
        var characters: [Character] = []
        var rows: [UInt8] = []
        for line in Fixed6x13Glyphs.hexadecimal.split(separator: "\n") {
            let parts = line.split(separator: " ")
            let digits = (parts.last ?? "").compactMap(\.hexDigitValue)
            guard let scalar = parts.first.flatMap({ UInt32($0, radix: 16) }).flatMap(Unicode.Scalar.init),
                digits.count == 2 * height
            else { continue }
            characters.append(Character(scalar))
            rows += stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
        }
        return (characters, rows)
    }()

    /// Where the rows of each character begin.
    private static let places = Dictionary(
        glyphs.characters.enumerated().map { ($0.element, $0.offset * height) }, uniquingKeysWith: { first, _ in first }
    )
}
