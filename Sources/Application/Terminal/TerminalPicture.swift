import Foundation
import Raster

/// A small picture in a terminal: as the terminal takes pictures, or in coloured half blocks.
public struct TerminalPicture {
    /// How a terminal takes pictures.
    public enum Way: String, CaseIterable, Sendable {
        /// kitty's graphics protocol.
        case kitty
        /// iTerm2's inline images.
        case iterm2
        /// DEC's sixels.
        case sixel
        /// Two pixels a character, with 24-bit colours.
        case blocks
        /// Not at all.
        case none

        /// What the terminal is known to take, by what it says of itself.
        public static func known(_ environment: [String: String] = ProcessInfo.processInfo.environment) -> Way {
            let (term, program) = (environment["TERM"] ?? "", environment["TERM_PROGRAM"] ?? "")
            if environment["KITTY_WINDOW_ID"] != nil || term.contains("kitty") || term.contains("ghostty") {
                return .kitty
            }
            if ["iTerm.app", "WezTerm", "mintty"].contains(program) { return .iterm2 }
            if term.contains("sixel") || term.hasPrefix("mlterm") || term.hasPrefix("foot") { return .sixel }
            if term == "dumb" || term.isEmpty { return .none }
            return .blocks
        }
    }

    private let png: [UInt8]
    private let picture: Raster
    /// Lines of the terminal that it takes.
    public static let rows = 16

    /// A picture from a PNG file's bytes; nil where they are none.
    public init?(png: [UInt8]) {
        var limits = Raster.Limits()
        limits.side = 1024
        guard let picture = try? Raster.decode(png, path: "preview", limits: limits) else { return nil }
        self.png = png
        self.picture = picture.compositedOnWhite()
    }

    /// What makes the terminal show it, from the cursor on; the cursor is below it afterwards.
    public func text(_ way: Way) -> String {
        switch way {
        case .kitty: kitty
        case .iterm2:
            "\u{1B}]1337;File=inline=1;height=\(Self.rows);preserveAspectRatio=1:\(Data(png).base64EncodedString())\u{7}\n"
        case .sixel: sixel
        case .blocks: blocks
        case .none: ""
        }
    }

    /// Pieces of 4096 characters, as its documentation asks; the picture before it goes.
    private var kitty: String {
        let data = Array(Data(png).base64EncodedString())
        var text = "\u{1B}_Ga=d\u{1B}\\"
        for start in stride(from: 0, to: data.count, by: 4096) {
            let end = min(start + 4096, data.count)
            let first = start == 0 ? "a=T,f=100,q=2,C=1,r=\(Self.rows)," : ""
            text += "\u{1B}_G\(first)m=\(end < data.count ? 1 : 0);\(String(data[start..<end]))\u{1B}\\"
        }
        return text + String(repeating: "\n", count: Self.rows)
    }

    /// Two pixels a character: the upper one as the colour of a half block, the lower one as the ground's.
    private var blocks: String {
        let height = 2 * Self.rows
        let width = max(1, picture.width * height / max(1, picture.height))
        let small = picture.resized(width: width, height: height)
        func color(_ x: Int, _ y: Int) -> String {
            small.pixels[((y * width + x) * 3)..<((y * width + x) * 3 + 3)].map(String.init).joined(separator: ";")
        }
        return (0..<Self.rows).map { row in
            (0..<width).map { "\u{1B}[38;2;\(color($0, 2 * row));48;2;\(color($0, 2 * row + 1))m\u{2580}" }.joined()
                + "\u{1B}[0m\u{1B}[K\n"
        }.joined()
    }

    /// Six levels of each colour; bands of six rows, one colour of a band after another.
    private var sixel: String {
        let (width, height) = (picture.width * 4, picture.height * 4 / 6 * 6)
        let large = picture.resized(width: width, height: max(6, height))
        func level(_ index: Int) -> Int { (Int(large.pixels[index]) * 5 + 127) / 255 }
        let colors = (0..<(large.width * large.height)).map { i in
            level(3 * i) * 36 + level(3 * i + 1) * 6 + level(3 * i + 2)
        }
        var text = "\u{1B}Pq\"1;1;\(large.width);\(large.height)"
        for color in 0..<216 { text += "#\(color);2;\(color / 36 * 20);\(color / 6 % 6 * 20);\(color % 6 * 20)" }
        for band in stride(from: 0, to: large.height, by: 6) {
            let place = band * large.width
            for color in Set(colors[place..<(place + 6 * large.width)]).sorted() {
                text += "#\(color)"
                for x in 0..<large.width {
                    var bits: UInt8 = 0
                    for row in 0..<6 where colors[place + row * large.width + x] == color { bits |= 1 << row }
                    text.unicodeScalars.append(Unicode.Scalar(63 + bits))
                }
                text += "$"
            }
            text += "-"
        }
        return text + "\u{1B}\\\n"
    }
}
