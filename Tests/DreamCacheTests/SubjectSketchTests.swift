import Checkpoint
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import Diffusion
@testable import DreamCache

/// What the noise of a picture holds of the subject, where a base reads caches by itself.
@Suite struct SubjectSketchTests {
    /// A subject of 6 rows and 3 columns in a latent of 9 by 8, partly at the edges of its cells.
    private func sketch() throws -> SubjectSketch {
        let (height, width) = (9, 8)
        let shares = (0..<height * width).map { place -> Float in
            let (y, x) = (place / width, place % width)
            return (1...6).contains(y) && (4...6).contains(x) ? (x == 4 ? 0.25 : 1) : 0
        }
        return try #require(
            SubjectSketch(
                latent: wave(4 * height * width, phase: 0.4), shares: shares, height: height, width: width, channels: 4)
        )
    }

    @Test(arguments: [(16, 16), (5, 5), (12, 20)]) func theSubjectStandsInTheMiddle(height: Int, width: Int) throws {
        let sketch = try sketch()
        let placed = sketch.placed(height: height, width: width)
        // Every cell of the latent is a tent around its middle; the box of the subject is 6 cells high, around (4, 5.5).
        let scale = SubjectSketch.size * Double(min(height, width)) / 6
        var expected: [Float] = []
        for channel in 0..<4 {
            for y in 0..<height {
                for x in 0..<width {
                    let row = (Double(y) + 0.5 - Double(height) / 2) / scale + 3.5
                    let column = (Double(x) + 0.5 - Double(width) / 2) / scale + 5
                    var sum = 0.0
                    for place in sketch.shares.indices {
                        let tent =
                            max(0, 1 - abs(row - Double(place / 8))) * max(0, 1 - abs(column - Double(place % 8)))
                        sum += tent * Double(sketch.latent[channel * 72 + place] * sketch.shares[place])
                    }
                    expected.append(Float(sum))
                }
            }
        }
        #expect(expected.contains { abs($0) > 0.1 })
        #expect(relativeError(placed, expected) < 1e-6)
    }

    /// As a forward process that has the subject's latent there: noise + strength sqrt(alpha / (1 - alpha)) z.
    @Test func theNoiseHoldsIt() throws {
        let sketch = try sketch()
        let noise = wave(4 * 100, phase: 1.1)
        var changed = noise
        sketch.add(to: &changed, height: 10, width: 10, strength: 2, alpha: 0.2)
        let added = zip(changed, noise).map { $0 - $1 }
        #expect(relativeError(added, sketch.placed(height: 10, width: 10).map { 2 * 0.5 * $0 }) < 1e-5)
    }

    @Test func nothingIsNoSketch() {
        #expect(SubjectSketch(latent: [1, 2], shares: [0, 0], height: 1, width: 2, channels: 1) == nil)
        #expect(SubjectSketch(latent: [1, 2], shares: [1], height: 1, width: 2, channels: 1) == nil)
        #expect(SubjectSketch(latent: [1], shares: [1, 1], height: 1, width: 2, channels: 1) == nil)
    }

    // MARK: In the pipeline

    private func pipeline(sketch: Double, adapter: Bool = false) throws -> Pipeline {
        var files = ModelFiles(
            checkpoint: Golden.path("tiny-sd2.ckpt"),
            adapter: adapter ? Golden.path("cross_attention-199999.pt") : nil)
        files.selfReading.sketch = sketch
        return try Pipeline(files: files, path: .oneDNNFP32)
    }

    private func cache(_ pipeline: Pipeline, _ pictures: [Raster]) throws -> FeatureCache {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).dcache").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        var options = CacheOptions()
        options.elementType = .f32
        try pipeline.makeCache(of: pictures, subject: "s", options: options).write(toPath: file)
        return try FeatureCache.open(file)
    }

    private func request(_ caches: [FeatureCache], scale: ScaleSchedule = 2, seed: UInt64 = 3) -> ImageRequest {
        var request = ImageRequest(prompt: "a photo of a backpack, on the beach", seed: seed)
        request.steps = 2
        request.caches = caches
        request.guidance.imageScale = scale
        return request
    }

    @Test func aCacheHoldsTheLatentOfASubjectThatIsKnownFromItsBackground() throws {
        let pipeline = try pipeline(sketch: 3)
        let side = pipeline.imageSize
        let discs = SelfAdapter.samplePictures(side: side, count: 2)
        let sketches = try cache(pipeline, discs).sketches
        #expect(sketches.count == 2)
        for (sketch, disc) in zip(sketches, discs) {
            let mean = try pipeline.model.autoencoder.encode(disc.normalised, height: side, width: side).mean
            #expect(relativeError(sketch.latent, mean.map { $0 * pipeline.model.configuration.latentScale }) < 1e-6)
            #expect(sketch.shares.first == 0 && sketch.shares.contains(1))
        }
        let filled = Raster(width: side, height: side, color: (10, 120, 30))
        #expect(try cache(pipeline, [filled]).sketches.isEmpty)
    }

    @Test func onlyAPictureOfOneSubjectWithoutAnAdapterBeginsWithIt() throws {
        let (with, without) = (try pipeline(sketch: 3), try pipeline(sketch: 0))
        #expect(with.identity != without.identity)
        let discs = SelfAdapter.samplePictures(side: with.imageSize, count: 2)
        let (first, second) = (try cache(with, [discs[0]]), try cache(with, [discs[1]]))
        func differ(_ request: ImageRequest) throws -> Bool {
            try with.denoised(request).latent != without.denoised(request).latent
        }
        #expect(try differ(request([first])))
        #expect(try differ(request([first], scale: ScaleSchedule(start: 1, end: 0))))
        #expect(try !differ(request([])))
        #expect(try !differ(request([first], scale: 0)))
        #expect(try !differ(request([first, second])))
        // An adapter has been trained from pure noise.
        let trained = (try pipeline(sketch: 3, adapter: true), try pipeline(sketch: 0, adapter: true))
        #expect(
            try trained.0.denoised(request([first])).latent == trained.1.denoised(request([first])).latent)
    }

    /// The one the seed names; the memory of the subject is of all.
    @Test func picturesBeginWithDifferentReferences() throws {
        let pipeline = try pipeline(sketch: 3)
        let discs = SelfAdapter.samplePictures(side: pipeline.imageSize, count: 2)
        let sketches = try cache(pipeline, discs).sketches
        let both = try cache(pipeline, discs)
        let turned = try cache(pipeline, discs.reversed())
        #expect(sketches[0].latent != sketches[1].latent)
        let pictures = try [both, turned].map { try pipeline.denoised(request([$0])).latent }
        #expect(relativeError(pictures[0], pictures[1]) > 1e-3)
    }
}
