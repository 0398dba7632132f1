import Foundation
import Raster
import Testing

@testable import Training

/// A folder that goes with the test.
final class TemporaryFolder {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("dreamcache-training-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(at: url) }

    func path(_ name: String) -> String { url.appendingPathComponent(name).path }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let file = url.appendingPathComponent(name)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(bytes).write(to: file)
        return file.path
    }

    @discardableResult
    func write(_ name: String, _ text: String) throws -> String { try write(name, Array(text.utf8)) }
}

/// A made-up object: a disc of its own colour before a striped background.
enum Disc {
    static func picture(_ object: Int, _ view: Int, side: Int = 128, isMask: Bool = false) -> Raster {
        let middle = (x: side / 2 + 7 * view - 5, y: side / 2 - 5 * view + 3), radius = side / 4 + object
        var pixels: [UInt8] = []
        for y in 0..<side {
            for x in 0..<side {
                let isInside = (x - middle.x) * (x - middle.x) + (y - middle.y) * (y - middle.y) < radius * radius
                let colour: [UInt8] =
                    if isMask { [UInt8](repeating: isInside ? 255 : 0, count: 3) } else if isInside {
                        [UInt8(truncatingIfNeeded: 40 + 70 * object), 90, UInt8(truncatingIfNeeded: 220 - 50 * object)]
                    } else { [UInt8((x / 8 + view) % 2 * 120 + 60), UInt8(y * 255 / side), 150] }
                pixels += colour
            }
        }
        return Raster(width: side, height: side, channels: 3, pixels: pixels)
    }

    /// A data set in the authors' layout.
    static func write(_ folder: TemporaryFolder, objects: Int, views: Int) throws {
        for object in 0..<objects {
            for view in 0..<views {
                let stem = "data/object-\(object)/\(view)"
                try folder.write("\(stem)_generation.png", try picture(object, view).encodedPNG())
                try folder.write("\(stem)_mask.png", try picture(object, view, isMask: true).encodedPNG())
                try folder.write("\(stem)_caption.txt", "a disc number \(object), view \(view)\n")
            }
        }
    }
}

@Suite struct DatasetTests {
    private func faults(_ folder: String) -> [String] {
        do throws(TrainingError) {
            _ = try Dataset(folder: folder)
            return []
        } catch {
            guard case .data(let faults) = error else { return ["\(error)"] }
            return faults
        }
    }

    @Test func theAuthorsLayout() throws {
        let folder = try TemporaryFolder()
        try Disc.write(folder, objects: 2, views: 2)
        try folder.write("data/README.md", "nothing to train on")
        try folder.write("data/.hidden/0_generation.png", "no picture")
        try FileManager.default.removeItem(atPath: folder.path("data/object-1/0_mask.png"))
        let dataset = try Dataset(folder: folder.path("data"))
        #expect(dataset.objects.map(\.name) == ["object-0", "object-1"])
        #expect(dataset.views.map(\.name) == ["object-0/0", "object-0/1", "object-1/0", "object-1/1"])
        #expect(dataset.views[3].caption == "a disc number 1, view 1")
        #expect(dataset.views[0].mask == folder.path("data/object-0/0_mask.png"))
        #expect(dataset.views[2].mask == nil)
    }

    @Test func allFaultsOfNamesAndCaptionsAreListedAtOnce() throws {
        let folder = try TemporaryFolder()
        try Disc.write(folder, objects: 1, views: 3)
        try FileManager.default.removeItem(atPath: folder.path("data/object-0/0_caption.txt"))
        try folder.write("data/object-0/1_caption.txt", " \n")
        try folder.write("data/object-0/2_caption.txt", [0x61, 0xff])
        try folder.write("data/object-0/3_mask.png", "whose?")
        try folder.write("data/object-0/2_generation.jpg", "another")
        try FileManager.default.createDirectory(
            atPath: folder.path("data/empty"), withIntermediateDirectories: true)
        let found = faults(folder.path("data"))
        #expect(found.count == 6)
        for part in [
            "0_caption.txt: found no readable caption", "1_caption.txt: found an empty caption",
            "2_caption.txt: found 2 bytes, expected at most 65536 of UTF-8",
            "3_mask.png: found no picture of it, expected 3_generation.png",
            "found 2_generation.jpg and 2_generation.png, expected one picture of each name",
            "data/empty: found no picture",
        ] { #expect(found.contains { $0.contains(part) }, "\(part)") }
        #expect(faults(folder.path("nowhere"))[0].contains("expected a folder of objects"))
        #expect(faults(folder.path("data/empty"))[0].contains("found no folder, expected one for each object"))
    }

    @Test func allFaultsOfPicturesAreListedAtOnceAndRemembered() throws {
        let folder = try TemporaryFolder()
        try Disc.write(folder, objects: 2, views: 2)
        try folder.write("data/object-0/0_generation.png", "no picture")
        try folder.write("data/object-0/1_mask.png", try Raster(width: 128, height: 128, color: (0, 0, 0)).encodedPNG())
        try folder.write("data/object-1/0_generation.png", try Disc.picture(1, 0, side: 40).encodedPNG())
        try folder.write("data/object-1/0_mask.png", try Disc.picture(1, 0, side: 40, isMask: true).encodedPNG())
        var reads = 0
        func faults() throws -> [String] {
            let check = DatasetCheck(folder: folder.path(""), side: 128, settings: TrainingSettings()) {
                reads += 1
                return try Raster.decode(path: $0)
            }
            do throws(TrainingError) {
                let checked = try check.check(
                    try Dataset(folder: folder.path("data")), progress: { _, _ in }, shouldStop: { false })
                #expect(checked.count == 4)
                return []
            } catch {
                guard case .data(let faults) = error else { return ["\(error)"] }
                return faults
            }
        }
        let found = try faults()
        #expect(found.count == 3)
        for part in [
            "0_generation.png", "a mask without foreground", "found 40x40 pixels, expected at least 64 a side",
        ] {
            #expect(found.contains { $0.contains(part) }, "\(part)")
        }
        // Only what was found faulty, or has changed, is looked at again.
        let before = reads
        #expect(try faults() == found)
        #expect(reads == before + 3)
        try Disc.write(folder, objects: 1, views: 2)
        try folder.write("data/object-1/0_generation.png", try Disc.picture(1, 0).encodedPNG())
        try folder.write("data/object-1/0_mask.png", try Disc.picture(1, 0, isMask: true).encodedPNG())
        #expect(try faults() == [])
        #expect(reads == before + 3 + 6)
    }
}

@Suite struct AugmentationTests {
    private func reference(_ number: Int, _ change: (inout TrainingSettings) -> Void) throws -> Raster {
        var settings = TrainingSettings()
        (settings.flips, settings.jitters, settings.erasures) = (0, 0, 0)
        change(&settings)
        let cut = try Disc.picture(1, 0).masked(by: Disc.picture(1, 0, isMask: true), path: "mask")
        var random = SampleRandom(seed: 1, .augmentation, number)
        return try #require(Augmentation(settings: settings, side: 64).reference(of: cut, &random))
    }

    private func whiteShare(_ raster: Raster) -> Double {
        let white = (0..<raster.width * raster.height).count {
            raster.pixels[3 * $0..<3 * $0 + 3].allSatisfy { $0 == 255 }
        }
        return Double(white) / Double(raster.width * raster.height)
    }

    /// A disc covers pi / 4 of the square around it, and that 70 to 100 % of the picture.
    @Test func theSubjectFillsThePicture() throws {
        let shares = try (0..<40).map { 1 - whiteShare(try reference($0) { _ in }) }
        #expect(shares.allSatisfy { (0.70 * 0.76...0.85).contains($0) })
        #expect((shares.max() ?? 0) - (shares.min() ?? 0) > 0.15)
    }

    @Test func erasuresAreOfTheAreaAskedFor() throws {
        for number in 0..<20 {
            let whole = try reference(number) { $0.leastSubjectArea = 1 }
            let erased = try reference(number) { settings in
                settings.leastSubjectArea = 1
                (settings.erasures, settings.leastErasure, settings.greatestErasure) = (1, 0.25, 0.25)
            }
            let changed = zip(whole.pixels, erased.pixels).count { $0 != $1 } / 3
            #expect(changed > 0 && changed <= 64 * 64 * 28 / 100)
            #expect(zip(whole.pixels, erased.pixels).allSatisfy { $0 == $1 || $1 == 255 })
        }
    }

    @Test func flipsAndColours() throws {
        let plain = try reference(4) { _ in }
        #expect(try reference(4) { $0.flips = 1 } == plain.flipped)
        #expect(plain.flipped.flipped == plain)
        let jittered = try reference(4) { $0.jitters = 1 }
        #expect(jittered != plain)
        // The background stays white, and a strength of 0 changes nothing.
        #expect(jittered.pixels[0..<3].allSatisfy { $0 == 255 })
        let same = try reference(4) { settings in
            settings.jitters = 1
            settings.jitterStrength = 0
        }
        #expect(zip(same.pixels, plain.pixels).allSatisfy { abs(Int($0) - Int($1)) <= 1 })
    }

    @Test func nothingIsMadeOfNothing() {
        var random = SampleRandom(seed: 1, .augmentation)
        let empty = Raster(width: 8, height: 8, channels: 4, pixels: [UInt8](repeating: 0, count: 256))
        #expect(Augmentation(settings: TrainingSettings(), side: 8).reference(of: empty, &random) == nil)
    }

    @Test func targetsAreSquaresAroundTheSubject() throws {
        var mask = [UInt8](repeating: 0, count: 40 * 20 * 4)
        var pixels = [UInt8](repeating: 0, count: 40 * 20 * 3)
        for y in 0..<20 {
            for x in 0..<40 {
                pixels[(y * 40 + x) * 3] = UInt8(x)
                mask[(y * 40 + x) * 4 + 3] = (28..<32).contains(x) ? 255 : 0
            }
        }
        let picture = Raster(width: 40, height: 20, channels: 3, pixels: pixels)
        let masked = Raster(width: 40, height: 20, channels: 4, pixels: mask)
        #expect(picture.targetSquare(side: 20, mask: nil).pixels[0] == 10)
        #expect(picture.targetSquare(side: 20, mask: masked).pixels[0] == 20)
    }
}
