import Foundation
import Golden
import Raster
import Testing

/// Photos with backgrounds, through the programs.
@Suite(.serialized) struct CutOutTests {
    private static let photo = Golden.fixtures.appendingPathComponent("u2netp/wide.png")

    private func inspect(_ arguments: String...) throws -> Workplace.Result {
        try Workplace.run(Workplace.programs.appendingPathComponent("dreamcache").path, ["inspect"] + arguments)
    }

    @Test func photosAreCutOut() throws {
        let place = try Workplace()
        let grey = place.path("grey.png")
        try Data(try Raster(width: 60, height: 40, color: (90, 90, 90)).encodedPNG()).write(
            to: URL(fileURLWithPath: grey))
        let result = try place.dreamcache("cutout", Self.photo.path, grey, "--out", place.path("cut"), "--json")
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.errors.contains("grey.png: kept whole: no subject stands out"))
        #expect(result.output.contains(#""file": "wide.png""#))
        let names = try FileManager.default.contentsOfDirectory(atPath: place.path("cut")).sorted()
        #expect(names == ["grey_white.png", "wide.png", "wide_white.png"])
        let (cut, white) = (
            try Raster.decode(path: place.path("cut/wide.png")),
            try Raster.decode(path: place.path("cut/wide_white.png"))
        )
        #expect(cut.channels == 4 && cut.width == cut.height && cut.compositedOnWhite() == white)
        #expect(try place.dreamcache("cutout", place.path("none.png"), "--out", place.path("cut")).status != 0)
        #expect(
            try place.dreamcache("cutout", Self.photo.path, "--out", place.path("cut"), "--background", "keep").status
                == 64)
    }

    /// Neither another photo's cut-out nor a file that was given is written over, and masks are found as in a drop.
    @Test func noCutOutTakesThePlaceOfAnother() throws {
        let place = try Workplace()
        let folder = place.folder.appendingPathComponent("photos")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        func write(_ name: String, _ bytes: [UInt8]) throws {
            try Data(bytes).write(to: folder.appendingPathComponent(name))
        }
        let grey = Raster(width: 60, height: 40, color: (90, 90, 90))
        try write("a.png", try grey.encodedPNG())
        try write("a.jpg", try grey.encodedJPEG())
        try write("a_white.jpg", try grey.encodedJPEG())
        let before = try Data(contentsOf: folder.appendingPathComponent("a.png"))
        let all = ["a.png", "a.jpg", "a_white.jpg"].map { folder.appendingPathComponent($0).path }
        let made = try place.dreamcache("cutout", all[0], all[1], all[2], "--out", folder.path)
        #expect(made.status == 0, "\(made.errors)")
        #expect(try Data(contentsOf: folder.appendingPathComponent("a.png")) == before)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == [
                "a-jpg_white.png", "a-png_white.png", "a.jpg", "a.png", "a_white.jpg", "a_white_white.png",
            ])
        // A folder, with a mask of another case, and a note that is no picture.
        let masked = place.folder.appendingPathComponent("masked")
        try FileManager.default.createDirectory(at: masked, withIntermediateDirectories: false)
        try Data(grey.encodedJPEG()).write(to: masked.appendingPathComponent("Фото 1.JPG"))
        let mask = Raster(
            width: 60, height: 40, channels: 3,
            pixels: (0..<2400).flatMap { [UInt8](repeating: 10..<40 ~= $0 % 60 ? 255 : 0, count: 3) })
        try Data(mask.encodedPNG()).write(to: masked.appendingPathComponent("Фото 1_MASK.PNG"))
        try Data("text".utf8).write(to: masked.appendingPathComponent("note.txt"))
        let photo = masked.appendingPathComponent("Фото 1.JPG").path
        for (number, given) in [masked.path, photo].enumerated() {
            let out = place.path("cut\(number)")
            let cut = try place.dreamcache("cutout", given, "--out", out, "--json")
            #expect(cut.status == 0, "\(cut.errors)")
            #expect(cut.errors.contains("not used: note.txt") == (given == masked.path))
            #expect(cut.output.contains(#""file": "Фото 1.png""#) && !cut.errors.contains("kept whole"))
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: out).sorted() == ["Фото 1.png", "Фото 1_white.png"])
        }
    }

    /// A mask that keeps all of a photo is the person's word, too.
    @Test func aMaskThatKeepsAllKeepsAll() throws {
        let place = try Workplace()
        let folder = place.folder.appendingPathComponent("photos")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        let photo = try Raster.decode(path: Self.photo.path)
        try Data(photo.encodedPNG()).write(to: folder.appendingPathComponent("a.png"))
        let mask = Raster(width: photo.width, height: photo.height, color: (255, 255, 255))
        try Data(mask.encodedPNG()).write(to: folder.appendingPathComponent("a_mask.png"))
        let kept = try place.dreamcache("cutout", folder.path, "--out", place.path("auto"), "--background", "auto")
        #expect(kept.status == 0, "\(kept.errors)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("auto")) == ["a_white.png"])
        #expect(try Raster.decode(path: place.path("auto/a_white.png")).width == photo.width)
        let removed = try place.dreamcache("cutout", folder.path, "--out", place.path("cut"), "--json")
        #expect(removed.status == 0 && !removed.output.contains("confidence"), "\(removed.output)\(removed.errors)")
        let cut = try Raster.decode(path: place.path("cut/a.png"))
        #expect(
            stride(from: 3, to: cut.pixels.count, by: 4).count { cut.pixels[$0] == 255 } == photo.width * photo.height)
    }

    @Test(arguments: [
        ("orientation-6.heic", "image: 30x40, turned upright (EXIF orientation 6)\n  HEIC, 8 bits, RGB, sRGB"),
        ("depth-12.avif", "image: 29x21\n  AVIF, 12 bits, RGB, sRGB"),
        ("profile-p3.webp", "image: 29x21\n  WebP, 8 bits, RGB, ICC profile"),
    ])
    func inspectDescribesAPhoto(_ name: String, _ text: String) throws {
        let path = Golden.fixtures.appendingPathComponent("Photos/\(name)").path
        let found = try inspect(path)
        #expect(found.status == 0 && found.output.hasPrefix(text), "\(found.output)\(found.errors)")
        #expect(try inspect(path, "--json").output.contains(#""kind": "image""#))
    }

    @Test func inspectNamesWhatItCannotRead() throws {
        let place = try Workplace()
        let video = place.folder.appendingPathComponent("x.mp4")
        try Data("\0\0\0\u{18}ftypmp42\0\0\0\0mp42isom".utf8).write(to: video)
        let found = try inspect(video.path)
        #expect(found.status != 0 && found.errors.contains("an MP4 video"), "\(found.errors)")
        // A pipe is not waited for.
        #expect(mkfifo(place.path("pipe"), 0o600) == 0)
        for (path, reason) in [("pipe", "a pipe"), ("", "a folder"), ("none", "No such file")] {
            let found = try inspect(place.path(path))
            #expect(found.status != 0 && found.errors.contains(reason), "\(found.errors)")
        }
    }

    @Test func aCacheKeepsItsCutOuts() throws {
        let place = try Workplace()
        let cache = place.path("wide.dcache")
        let made = try place.dreamcache("cache", Self.photo.path, "--out", cache, "--background", "auto", "--json")
        #expect(made.status == 0, "\(made.errors)")
        #expect(made.output.contains(#""dreamcache.background": "auto, "#))
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: place.path("wide.cutouts")).sorted()
                == ["0000.png", "cutouts.json"])
        let inspected = try inspect(cache)
        #expect(inspected.output.contains("wide.png: cut out as \(place.path("wide.cutouts"))/0000.png"))
        // Kept, it is another cache, and has none.
        let kept = place.path("kept.dcache")
        #expect(try place.dreamcache("cache", Self.photo.path, "--out", kept, "--background", "keep").status == 0)
        #expect(!FileManager.default.fileExists(atPath: place.path("kept.cutouts")))
        #expect(FileManager.default.contents(atPath: kept) != FileManager.default.contents(atPath: cache))
        // Dropped again, the cut-out gives the same features.
        let again = place.path("again.dcache")
        let cut = place.path("wide.cutouts/0000.png")
        #expect(try place.dreamcache("cache", cut, "--out", again, "--background", "auto").status == 0)
        func hash(_ path: String) throws -> String? {
            try inspect(path).output.split(separator: "\n")
                .first { $0.contains("dreamcache.reference_sha256s") }.map(String.init)
        }
        #expect(try hash(cache) != nil)
        #expect(try hash(again) == hash(cache))
    }

    @Test func theDaemonTellsWhatIsDoubtful() throws {
        let place = try Workplace()
        let daemon = try place.startDaemon(environment: ["DREAMCACHE_CACHE_BACKGROUND": "auto"])
        let folder = place.folder.appendingPathComponent("photos")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        try FileManager.default.copyItem(at: Self.photo, to: folder.appendingPathComponent("a.png"))
        let grey = try Raster(width: 60, height: 40, color: (90, 90, 90)).encodedPNG()
        try Data(grey).write(to: folder.appendingPathComponent("b.png"))
        try FileManager.default.moveItem(
            at: folder, to: place.folder.appendingPathComponent("spool/drop/references/toy"))
        try place.eventually("a receipt of toy") { place.receipt("toy").contains("encoded as") }
        #expect(place.receipt("toy").contains("b.png: kept whole: no subject stands out"))
        let cache = place.path("spool/cache/toy.dcache")
        let inspected = try inspect(cache, "--json")
        #expect(inspected.output.contains(#""file": "0000.png""#))
        let manifest =
            #"{"subject": "toy", "prompt": "x", "seed": 1, "num_inference_steps": 1, "output": {"grid": true}}"#
        try place.drop(Data(manifest.utf8), as: "jobs/sheet.json")
        let done = try place.dreamcache("wait", "sheet", "--timeout", "60")
        #expect(done.status == 0, "\(done.errors)")
        #expect(daemon.stop() == 0)
        #expect(try place.dreamcache("verify").status == 0)
    }
}
