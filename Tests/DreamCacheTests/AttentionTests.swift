import Checkpoint
import Diffusion
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import DreamCache

/// What a picture reads of its references, on the golden model.
@Suite struct AttentionReadingTests {
    private func pipeline() throws -> Pipeline {
        try Pipeline(
            files: ModelFiles(
                checkpoint: Golden.path("tiny-sd2.ckpt"), adapter: Golden.path("cross_attention-199999.pt")),
            path: .oneDNNFP32)
    }

    private func references() -> [Reference] {
        let square = Raster(width: 64, height: 64, color: (40, 90, 160))
        return [
            Reference(name: "a.png") { try Raster.decode(path: Golden.path("reference.png")) },
            Reference(name: "b.png") { square },
        ]
    }

    private func request(_ pipeline: Pipeline, _ folder: URL) throws -> ImageRequest {
        let path = folder.appendingPathComponent("toy.dcache").path
        try pipeline.makeCache(of: references(), subject: "toy", options: CacheOptions()).write(toPath: path)
        var request = ImageRequest(prompt: "a toy", seed: 3)
        request.steps = 4
        request.caches = [try FeatureCache.open(path)]
        return request
    }

    @Test func recordingChangesNothingAndSumsToOne() throws {
        let folder = URL(fileURLWithPath: NSTemporaryDirectory()).appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let pipeline = try pipeline()
        var request = try request(pipeline, folder)
        let plain = try pipeline.generate(request)
        #expect(pipeline.attention == nil)
        request.attentionInterval = 2
        #expect(try pipeline.generate(request) == plain)
        let reading = try #require(pipeline.attention)
        #expect(reading.steps == 2 && reading.sites.map(\.name) == pipeline.model.unet.sites.map(\.name))
        for site in reading.sites {
            #expect(site.parts.map(\.reference) == [0, 1] && site.parts.allSatisfy { $0.grid?.count == $0.tokens })
            for cell in 0..<site.cells.count {
                let sum = site.parts.reduce(Float(0)) { sum, part in
                    sum + part.weights[(cell * part.tokens)..<((cell + 1) * part.tokens)].reduce(0, +)
                }
                #expect(abs(sum - 1) < 1e-4)
            }
            let everywhere = reading.numbers(site) { part, _ in [Float](repeating: 1, count: part.tokens) }
            #expect(abs((everywhere?.localisation ?? 0) - 1) < 1e-6 && everywhere?.area == 1)
            let half = try #require(
                reading.numbers(site) { part, grid in
                    (0..<part.tokens).map { $0 % grid.width < grid.width / 2 ? 1 : 0 }
                })
            #expect(half.localisation > 0 && half.leak > 0 && abs(half.localisation + half.leak - 1) < 1e-9)
            #expect((0...1).contains(half.coverage))
        }
        // Another picture reads anew.
        request.attentionInterval = nil
        _ = try pipeline.generate(request)
        #expect(pipeline.attention == nil)
    }

    @Test func mapsAreWrittenAndDrawn() throws {
        let folder = URL(fileURLWithPath: NSTemporaryDirectory()).appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let pipeline = try pipeline()
        var request = try request(pipeline, folder)
        request.attentionInterval = 1
        let picture = try pipeline.generate(request)
        let reading = try #require(pipeline.attention)
        let path = folder.appendingPathComponent("maps.safetensors").path
        try reading.write(toPath: path)
        let file = try Checkpoint.open(path)
        #expect(file.tensors.count == 2 * reading.sites.count)
        for site in reading.sites {
            let name = "sites.\(site.name).toy.1"
            let tensor = try #require(file.tensors[name])
            #expect(tensor.shape == [site.cells.height, site.cells.width, site.parts[1].tokens])
            #expect(tensor.floats() == site.parts[1].weights)
            #expect(file.metadata["\(name).grid"] != nil)
        }
        let overlay = AttentionOverlay(
            reading,
            references: try references().enumerated().map {
                AttentionOverlay.Reference(subject: "toy", index: $0.offset, picture: try $0.element.load())
            })
        #expect(overlay.numbers.count == reading.sites.count)
        let drawn = try #require(overlay.picture(picture))
        // Two references and the picture in a row; a row for each resolution.
        let resolutions = Set(reading.sites.map { $0.parts[0].grid })
        let side = max(128, picture.width)
        #expect(drawn.width == 3 * (side + 8) + 24 && drawn.height == resolutions.count * (side + 8) + 8)
        #expect(AttentionOverlay(reading, references: []).picture(picture) == nil)
    }

    /// A reference's mask is what of it is not white.
    @Test func theMaskIsWhatIsNotWhite() {
        let white = Raster(width: 8, height: 8, color: (255, 255, 255))
        var pixels = white.pixels
        for y in 0..<4 { for x in 0..<8 { pixels[(y * 8 + x) * 3] = 10 } }
        let half = Raster(width: 8, height: 8, channels: 3, pixels: pixels)
        let reference = AttentionOverlay.Reference(subject: "s", index: 0, picture: half)
        #expect(reference.mask(.init(height: 2, width: 1)) == [1, 0])
        #expect(reference.mask(.init(height: 1, width: 1)) == [0.5])
    }
}
