import Application
import Foundation
import Raster
import Testing

/// Pictures in terminals, by what their documentations ask for.
@Suite struct TerminalPictureTests {
    /// Red on the left, blue on the right.
    private func picture(side: Int = 32) throws -> [UInt8] {
        let pixels = (0..<side * side).flatMap { $0 % side < side / 2 ? [255, 0, 0] : [0, 0, 255] as [UInt8] }
        return try Raster(width: side, height: side, channels: 3, pixels: pixels).encodedPNG()
    }

    @Test(arguments: [
        (["TERM": "xterm-kitty"], TerminalPicture.Way.kitty), (["TERM": "xterm-256color"], .blocks),
        (["TERM": "xterm", "TERM_PROGRAM": "iTerm.app"], .iterm2), (["TERM": "foot"], .sixel),
        (["TERM": "dumb"], .none),
        ([:], .none),
    ]) func theTerminalIsKnown(_ environment: [String: String], _ way: TerminalPicture.Way) {
        #expect(TerminalPicture.Way.known(environment) == way)
    }

    @Test func everyWayTakesAsManyLines() throws {
        let png = try picture()
        let picture = try #require(TerminalPicture(png: png))
        let blocks = picture.text(.blocks).split(separator: "\n")
        #expect(blocks.count == TerminalPicture.rows)
        #expect(blocks.allSatisfy { $0.hasPrefix("\u{1B}[38;2;255;0;0;48;2;255;0;0m\u{2580}") })
        let data = Data(png).base64EncodedString()
        #expect(picture.text(.iterm2).contains(":\(data)\u{7}"))
        let kitty = picture.text(.kitty)
        #expect(kitty.contains("a=T,f=100") && kitty.filter { $0 == "\n" }.count == TerminalPicture.rows)
        let sixel = picture.text(.sixel)
        #expect(sixel.hasPrefix("\u{1B}Pq\"1;1;128;126") && sixel.hasSuffix("\u{1B}\\\n"))
        // Red is the colour 5 5 5 of base 6 in its first place alone, blue in its last.
        #expect(sixel.contains("#180;2;100;0;0") && sixel.contains("#5;2;0;0;100"))
        #expect(sixel.filter { $0 == "-" }.count == 21)
        #expect(picture.text(.none) == "")
    }

    /// What is no small picture is not shown, whatever else it is.
    @Test func whatIsNoPictureIsNotShown() throws {
        #expect(TerminalPicture(png: []) == nil)
        #expect(TerminalPicture(png: Array("\u{1B}]0;title\u{7}".utf8)) == nil)
        #expect(TerminalPicture(png: Array(try picture().prefix(60))) == nil)
        #expect(try TerminalPicture(png: picture(side: 1200)) == nil)
    }

    @Test func linesAreBrokenAtSpaces() {
        #expect(TerminalLine.wrapped("a job, 5 of 6", columns: 13) == ["a job, 5 of 6"])
        #expect(TerminalLine.wrapped("a job, 5 of 6", columns: 12) == ["a job, 5 of", "  6"])
        #expect(TerminalLine.wrapped("20261128-162954 active", columns: 8) == ["20261128-162954", "  active"])
        #expect(TerminalLine.wrapped("", columns: 8) == [""])
    }
}
