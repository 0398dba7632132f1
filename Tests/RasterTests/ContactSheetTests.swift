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

    @Test func referencesStandOnTheLeftAndPicturesInOrder() throws {
        let sheet = try #require(
            ContactSheet(
                references: [.init(plain(10, width: 200, height: 100), caption: "dog")],
                pictures: [20, 21, 22, 23].map { .init(plain($0), caption: "a dog") })
        ).rendered(columns: 2)
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
        func sheet(_ caption: String) throws -> Raster {
            try #require(ContactSheet(references: [], pictures: [.init(plain(200), caption: caption)])).rendered()
        }
        let (empty, short, long) = (try sheet(""), try sheet("Hi"), try sheet("one two three four five six seven"))
        #expect(place(of: 51, in: empty) == nil)
        let ink = try #require(place(of: 51, in: short))
        let picture = try #require(place(of: 200, in: short))
        #expect(ink.rows.lowerBound > picture.rows.upperBound)
        // Two letters of 6 pixels; 13 rows a line.
        #expect(ink.columns.count <= 12 && ink.rows.count <= 13)
        #expect(short.height == empty.height + 13 && long.height == empty.height + 3 * 13)
        #expect(try sheet(String(repeating: "word ", count: 100)).height == long.height)
        #expect(try sheet("Æ \u{1F600} e\u{301}").height == short.height)
    }

    @Test func aSheetOfNothingIsNone() {
        #expect(ContactSheet(references: [.init(plain(1), caption: "")], pictures: []) == nil)
    }
}
