import Checkpoint
import Diffusion
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import DreamCache

/// Photos into the form the method wants.
@Suite struct CutOutTests {
    private let maker = CutOutMaker(path: .oneDNNFP32)

    private func photo(_ name: String = "wide") throws -> Raster {
        try Raster.decode(path: Golden.fixtures.appendingPathComponent("u2netp/\(name).png").path)
    }

    private func prepared(_ photo: Raster, _ background: Background) throws -> (Raster, ReferenceReport) {
        let (picture, report) = try maker.prepared(photo, name: "photo.png", background: background)
        return (picture, report)
    }

    /// The photo with an ellipse of it opaque.
    private func masked(_ photo: Raster) -> Raster {
        let pixels = (0..<photo.height).flatMap { y in
            (0..<photo.width).flatMap { x -> [UInt8] in
                let start = (y * photo.width + x) * 3
                let (dx, dy) = (Double(x - 60) / 30, Double(y - 50) / 20)
                return photo.pixels[start..<start + 3] + [dx * dx + dy * dy <= 1 ? 255 : 0]
            }
        }
        return Raster(width: photo.width, height: photo.height, channels: 4, pixels: pixels)
    }

    @Test(arguments: ["wide", "high"], [Background.auto, .remove])
    func aPhotoWithABackgroundIsCutOut(_ name: String, _ background: Background) throws {
        let (picture, report) = try prepared(try photo(name), background)
        let cutOut = try #require(report.cutOut)
        #expect(cutOut == picture)
        #expect(picture.channels == 4 && picture.width == picture.height)
        #expect(report.remarks == [])
        let alpha = Plane(
            width: picture.width, height: picture.height,
            values: stride(from: 3, to: picture.pixels.count, by: 4).map { Float(picture.pixels[$0]) / 255 })
        let bounds = try #require(alpha.bounds(above: 0.5))
        // At least 70 per cent of the area, were the subject a square.
        let longest = max(bounds.columns.count, bounds.rows.count)
        #expect(longest * longest * 10 >= 7 * picture.width * picture.width)
        #expect(longest < picture.width)
        // The corners are background.
        #expect([0, picture.width - 1].allSatisfy { alpha.values[$0] == 0 })
        // The subject is found again in its place: in the middle of both it is opaque.
        #expect(alpha.values[alpha.values.count / 2 + picture.width / 2] > 0.9)
    }

    @Test func whatThePersonGaveWins() throws {
        let given = masked(try photo())
        let (kept, report) = try prepared(given, .auto)
        #expect(kept == given && report.cutOut == nil && report.remarks == [])
        // The square around it, by the mask and not by the network.
        let (square, removed) = try prepared(given, .remove)
        #expect(square.width == 66 && square.height == 66 && removed.confidence == nil)
        #expect(
            stride(from: 3, to: square.pixels.count, by: 4).count { square.pixels[$0] == 255 }
                == stride(from: 3, to: given.pixels.count, by: 4).count { given.pixels[$0] == 255 })
    }

    @Test func whatNeedsNoCutIsLeftAlone() throws {
        let photo = try photo()
        #expect(try prepared(photo, .keep).0 == photo)
        let white = Raster(width: 40, height: 30, color: (255, 255, 255))
        #expect(try prepared(white, .auto).0 == white)
        // Nothing is there to be found.
        let (picture, report) = try prepared(Raster(width: 70, height: 50, color: (90, 90, 90)), .remove)
        #expect(picture == Raster(width: 70, height: 50, color: (90, 90, 90)) && report.cutOut == nil)
        #expect(report.remarks == ["kept whole: no subject stands out"])
    }

    @Test func aCutOutThatIsDroppedAgainIsUsedAsItIs() throws {
        let (picture, _) = try prepared(try photo(), .auto)
        let again = try Raster.decode(try picture.encodedPNG(), path: "cut-out")
        #expect(try prepared(again, .auto).0 == picture)
    }

    @Test func stoppingIsHeardWithinACutOut() throws {
        let photo = try photo()
        var steps = 0
        let error = try #require(throws: DreamCacheError.self) {
            try maker.prepared(
                photo, name: "photo.png", background: .auto, progress: { _, _ in steps += 1 }, shouldStop: { steps > 2 }
            )
        }
        guard case .stopped = error else {
            Issue.record("\(error)")
            return
        }
    }

    @Test func referencesAreReadOneAtATime() throws {
        let engine = try Engine(path: .oneDNNFP32)
        let model = try StableDiffusion.load(
            checkpoint: Golden.path("tiny-sd2.ckpt"), yaml: Golden.path("tiny-sd2.yaml"), engine: engine)
        let pipeline = try Pipeline(model: model, adapter: nil, modelHash: "0", adapterHash: nil)
        let photo = try photo()
        var events: [String] = []
        let references = ["a", "b"].map { name in
            Reference(name: name) {
                events.append("read \(name)")
                return name == "a" ? photo : Raster(width: 20, height: 20, color: (90, 90, 90))
            }
        }
        var options = CacheOptions()
        options.background = .auto
        let file = NSTemporaryDirectory() + "dreamcache-\(UUID().uuidString).dcache"
        defer { try? FileManager.default.removeItem(atPath: file) }
        try pipeline.makeCache(
            of: references, subject: "s", options: options, report: { events.append("made \($0.name)") },
            progress: { phase, step, _ in if step == 0, phase != "encoding" { events.append(phase) } }
        ).write(toPath: file)
        events.removeAll { $0 == "loading" }
        #expect(events.filter { $0 != "cutting out" } == ["read a", "made a", "read b", "made b"])
        #expect(events[1] == "cutting out")
        let cache = try FeatureCache.open(file)
        #expect(cache[.background] == "auto, \(CutOutMaker.version)")
        #expect(cache[.remarks] == "b: kept whole: no subject stands out")
        // A cache depends on it, and one without does as before.
        #expect(pipeline.cacheIdentity(options) != pipeline.cacheIdentity(CacheOptions()))
        #expect(!pipeline.cacheIdentity(CacheOptions()).contains("keep"))
    }
}
