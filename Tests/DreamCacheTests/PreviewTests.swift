import Diffusion
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import DreamCache

/// Looks at pictures in the making.
@Suite struct PreviewTests {
    @Test func aLinearMapIsFound() throws {
        // Colours that are linear in the latent are found exactly.
        func sample(_ seed: UInt64) -> LatentPreview.Sample {
            var pictures = DrawnPictures(seed: seed)
            let picture = pictures.picture(side: 8)
            func plane(_ f: (Int) -> Float) -> [Float] { (0..<64).map(f) }
            let level = { (i: Int, c: Int) in Float(picture.pixels[3 * i + c]) }
            return LatentPreview.Sample(
                latent: plane { level($0, 0) / 50 - 1 } + plane { level($0, 1) / 40 + level($0, 0) / 90 }
                    + plane { 2 - level($0, 2) / 70 }, picture: picture)
        }
        let map = try #require(LatentPreview(channels: 3, fittedTo: [sample(1), sample(2)], held: [sample(3)]))
        #expect(map.error < 1e-3)
        #expect(map.picture(sample(4).latent, height: 8, width: 8) == sample(4).picture)
        #expect(map.picture([1, 2], height: 8, width: 8) == nil)
        // Latents that say nothing determine no map.
        let flat = LatentPreview.Sample(latent: [Float](repeating: 1, count: 192), picture: sample(1).picture)
        #expect(LatentPreview(channels: 3, fittedTo: [flat], held: []) == nil)
        #expect(try JSONDecoder().decode(LatentPreview.self, from: JSONEncoder().encode(map)) == map)
        #expect(map.isSound(channels: 3) && !map.isSound(channels: 4))
        let short = #"{"channels": 3, "weights": [1, 2], "error": 1}"#
        #expect(try !JSONDecoder().decode(LatentPreview.self, from: Data(short.utf8)).isSound(channels: 3))
    }

    @Test func previewsChangeNothing() throws {
        let pipeline = try Pipeline(
            files: ModelFiles(
                checkpoint: Golden.path("tiny-sd2.ckpt"), adapter: Golden.path("cross_attention-199999.pt")),
            path: .oneDNNFP32)
        var request = ImageRequest(prompt: "a toy", seed: 3)
        request.steps = 3
        let plain = try pipeline.generate(request)
        #expect(pipeline.madePreviewMap == nil)
        var seen: [Raster] = []
        pipeline.previews = PreviewSink(every: .zero) { seen.append($0) }
        #expect(try pipeline.generate(request) == plain)
        #expect(seen.count == 3 && seen.allSatisfy { $0.width == 16 && $0.height == 16 })
        let map = try #require(try pipeline.previewMap())
        #expect(map.channels == 4 && map.error > 0 && map.error < 128)
        seen = []
        pipeline.previews = PreviewSink(every: .seconds(3600)) { seen.append($0) }
        _ = try pipeline.generate(request)
        #expect(seen.count == 1)
    }
}
