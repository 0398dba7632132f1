import Foundation
import Testing

@testable import Raster

@Suite struct ContactSheetTests {
    private func plain(_ value: UInt8, width: Int = 64, height: Int = 64) -> Raster {
        Raster(width: width, height: height, color: (value, value, value))
    }

    /// Where in the sheet `value` is found, as the columns and rows it covers.
    private func place(of value: UInt8, in sheet: Raster) -> (columns: ClosedRange<Int>, rows: ClosedRange<Int>)? {
        let found = (0..<sheet.width * sheet.height).filter { sheet.pixels[3 * $0] == value }
        let (columns, rows) = (found.map { $0 % sheet.width }, found.map { $0 / sheet.width })
        guard let left = columns.min(), let right = columns.max(), let top = rows.min(), let bottom = rows.max() else {
            return nil
        }
        return (left...right, top...bottom)
    }

    /// A sheet with its pictures drawn; `reference` and pictures of plain colours.
    private func sheet(
        references: [(Raster, String)] = [], pictures: [(Raster, String)], columns: Int? = nil
    ) throws -> Raster {
        let first = try #require(pictures.first).0
        var sheet = try #require(
            ContactSheet(
                references: references.map(\.1), pictures: pictures.map(\.1), size: (first.width, first.height),
                columns: columns))
        for (index, reference) in references.enumerated() { sheet.draw(reference: reference.0, at: index) }
        for (index, picture) in pictures.enumerated() { sheet.draw(picture: picture.0, at: index) }
        return sheet.raster
    }

    @Test func referencesStandOnTheLeftAndPicturesInOrder() throws {
        let sheet = try sheet(
            references: [(plain(10, width: 200, height: 100), "dog")],
            pictures: [20, 21, 22, 23].map { (plain($0), "a dog") }, columns: 2)
        let reference = try #require(place(of: 10, in: sheet))
        let pictures = try [20, 21, 22, 23].map { try #require(place(of: $0, in: sheet)) }
        // Scaled into a cell, in its middle.
        #expect(reference.columns.count == 64 && reference.rows.count == 32)
        #expect(reference.rows.lowerBound == pictures[0].rows.lowerBound + 16)
        #expect(pictures.allSatisfy { $0.columns.count == 64 && $0.rows.count == 64 })
        #expect(reference.columns.upperBound < pictures[0].columns.lowerBound)
        #expect(pictures[0].columns.upperBound < pictures[1].columns.lowerBound)
        #expect(pictures[0].rows == pictures[1].rows && pictures[2].columns == pictures[0].columns)
        #expect(pictures[0].rows.upperBound < pictures[2].rows.lowerBound)
    }

    @Test func captionsAreWrittenUnderTheirPictures() throws {
        func sheet(_ caption: String) throws -> Raster { try self.sheet(pictures: [(plain(200), caption)]) }
        let (empty, short, long) = (try sheet(""), try sheet("Hi"), try sheet("one two three four five six seven"))
        #expect(place(of: 51, in: empty) == nil)
        let ink = try #require(place(of: 51, in: short))
        let picture = try #require(place(of: 200, in: short))
        #expect(ink.rows.lowerBound > picture.rows.upperBound)
        // Two letters of 6 pixels; 13 rows per line.
        #expect(ink.columns.count <= 12 && ink.rows.count <= 13)
        #expect(short.height == empty.height + 13 && long.height == empty.height + 3 * 13)
        #expect(try sheet(String(repeating: "word ", count: 100)).height == long.height)
        #expect(try sheet("Æ \u{1F600} e\u{301}").height == short.height)
    }

    /// Every letter of these alphabets, composed or not, and what typographers put between them.
    @Test(arguments: [
        "Zażółć gęślą jaźń ÅåØøßſ ấ ǆ", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία ᾧ",
        "Съешь ещё этих мягких булок Ђђ Її Ґґ Ўў",
        "„Ja“ — ‚nein‘ … 5 €, № 3 ™ →",
    ]) func captionsHaveTheirLetters(_ text: String) {
        for character in text {
            #expect(Fixed6x13.has(character), "\(character)")
            let decomposed = Character(String(character).decomposedStringWithCanonicalMapping)
            #expect(Fixed6x13.rows(of: decomposed) == Fixed6x13.rows(of: character))
        }
        #expect(!Fixed6x13.has("\u{1F600}") && Fixed6x13.rows(of: "\u{1F600}") == Fixed6x13.rows(of: "?"))
    }

    @Test func aSheetOfNothingIsNone() {
        #expect(ContactSheet(references: [""], pictures: [], size: (64, 64)) == nil)
    }

    struct Amount: Sendable, CustomStringConvertible {
        let references: Int, pictures: Int, side: Int, isWhole: Bool
        var description: String { "\(references) references, \(pictures) pictures of \(side)" }
    }

    /// Whatever a set holds, its sheet can be written, and captions keep a width that can be read.
    @Test(arguments: [
        Amount(references: 170, pictures: 1, side: 384, isWhole: true),
        Amount(references: 200, pictures: 1, side: 768, isWhole: true),
        Amount(references: 0, pictures: 500, side: 512, isWhole: true),
        Amount(references: 1000, pictures: 3, side: 4096, isWhole: true),
        Amount(references: 12, pictures: 10_000, side: 512, isWhole: false),
        Amount(references: 10_000, pictures: 10_000, side: 128, isWhole: false),
        Amount(references: 0, pictures: 10_000, side: 8, isWhole: true),
    ])
    func aSheetIsNeverTooLarge(_ amount: Amount) {
        let prompt = "a backpack on the beach in the evening light, photo"
        let layout = ContactSheet.layout(
            Array(repeating: "backpack", count: amount.references), Array(repeating: prompt, count: amount.pictures),
            (amount.side, amount.side), nil)
        let (width, height) = layout.size
        #expect(max(width, height) <= ContactSheet.maximalSide)
        #expect(width * height <= ContactSheet.maximalPixels)
        // No strip.
        #expect(width < 6 * height)
        #expect(layout.cell.width >= min(amount.side, ContactSheet.minimalCellWidth))
        let isWhole = (layout.references.count, layout.pictures.count) == (amount.references, amount.pictures)
        #expect(isWhole == amount.isWhole)
        #expect(layout.pictures.count >= min(amount.pictures, 500))
        #expect((layout.remark == nil) == amount.isWhole)
    }

    /// What is left out is said below the pictures.
    @Test func whatIsLeftOutIsSaid() throws {
        let sheet = try #require(
            ContactSheet(
                references: [], pictures: Array(repeating: "", count: 30), size: (128, 128), maximalPixels: 100_000))
        #expect(sheet.shown.pictures < 30 && sheet.shown.pictures > 3)
        let raster = sheet.raster
        let ink = try #require(place(of: 51, in: raster))
        #expect(ink.rows.lowerBound > raster.height - 30)
    }

    @Test func aPictureLargerThanItsCellIsMadeSmaller() throws {
        var sheet = try #require(
            ContactSheet(
                references: ["", "", ""], pictures: ["", ""], size: (256, 128), maximalPixels: 100_000))
        #expect(sheet.cell.width < 256 && sheet.shown == (3, 2))
        sheet.draw(picture: plain(20, width: 256, height: 128), at: 1)
        sheet.draw(reference: plain(30, width: 1000, height: 500), at: 2)
        let drawn = sheet.raster
        for value: UInt8 in [20, 30] {
            let place = try #require(self.place(of: value, in: drawn))
            #expect(
                abs(place.columns.count - sheet.cell.width) <= 2,
                "\(place) \(sheet.cell) \(drawn.width)x\(drawn.height)")
            #expect(abs(place.rows.count - sheet.cell.height) <= 1)
        }
    }
}
