import Foundation
import Raster
import Testing

/// What is said of a picture without decoding it.
@Suite struct DescriptionTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let file: String, format: String, size: (Int, Int), depth: Int, samples: String, colours: String, turn: Int
        init(
            _ file: String, _ format: String, _ size: (Int, Int), depth: Int = 8, _ samples: String = "RGB",
            colours: String = "sRGB", turn: Int = 1
        ) {
            (self.file, self.format, self.size, self.depth, self.samples) = (file, format, size, depth, samples)
            (self.colours, self.turn) = (colours, turn)
        }
        var testDescription: String { file }
    }

    static let cases = [
        Case("size-29x21.heic", "HEIC", (29, 21)),
        Case("depth-10.heic", "HEIC", (30, 22), depth: 10),
        Case("alpha.heic", "HEIC", (29, 21), "RGB and alpha"),
        Case("orientation-6.heic", "HEIC", (30, 40), turn: 6),
        Case("orientation-5.heic", "HEIC", (30, 40), turn: 5),
        Case("nclx-p3.heic", "HEIC", (30, 22), colours: "primaries of Display P3, the curve of sRGB"),
        Case("depth-12.avif", "AVIF", (29, 21), depth: 12),
        Case("orientation-8.avif", "AVIF", (30, 40), turn: 8),
        Case("clap-turned.avif", "AVIF", (30, 40), turn: 8),
        Case("brand-mif1-alone.avif", "AVIF", (64, 48)),
        Case("alpha.webp", "WebP", (29, 21), "RGB and alpha"),
        Case("orientation-6.webp", "WebP", (21, 29), turn: 6),
        Case("profile-cmyk.jpg", "JPEG", (29, 21), "CMYK", colours: "ICC profile 'test'"),
        Case("exif-r03.jpg", "JPEG", (29, 21), colours: "Adobe RGB (1998)"),
        Case("profile-p3-16.png", "PNG", (29, 21), depth: 16, colours: "ICC profile 'test'"),
        Case("gama-grey.png", "PNG", (29, 21), "grey", colours: "primaries of sRGB, gamma 1.0"),
    ]

    @Test(arguments: cases) func everyFormatIsDescribed(_ one: Case) throws {
        let found = try PictureDescription(PhotoTests.bytes(one.file), path: one.file)
        #expect(
            found
                == PictureDescription(
                    format: one.format, width: one.size.0, height: one.size.1, depth: one.depth, samples: one.samples,
                    colours: one.colours, orientation: one.turn))
    }

    @Test func theSizeIsThatOfThePicture() throws {
        for photo in PhotoTests.all {
            let found = try PictureDescription(PhotoTests.bytes(photo.file), path: photo.file)
            #expect(found.width == photo.width && found.height == photo.height, "\(photo.file): \(found)")
            #expect(found.samples.hasSuffix("alpha") == (photo.channels == 4), "\(photo.file): \(found)")
        }
    }

    @Test func whatIsNoPictureIsRefusedByName() throws {
        let error = try #require(throws: RasterError.self) {
            try PictureDescription(Array("\0\0\0\u{18}ftypmp42".utf8), path: "x.mp4")
        }
        #expect(error.description.contains("an MP4 video"))
    }
}
