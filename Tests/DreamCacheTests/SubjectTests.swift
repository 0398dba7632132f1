import Checkpoint
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import Diffusion
@testable import DreamCache

/// Several subjects in one image, sizes beyond the cache's, and masks.
@Suite struct SubjectTests {
    private let pipeline: Pipeline

    init() throws {
        pipeline = try Pipeline(
            files: ModelFiles(
                checkpoint: Golden.path("tiny-sd2.ckpt"), adapter: Golden.path("cross_attention-199999.pt")),
            path: .oneDNNFP32)
    }

    private func reference() throws -> Raster { try Raster.decode(path: Golden.path("reference.png")) }

    private func cache(_ picture: Raster, _ options: CacheOptions = CacheOptions()) throws -> FeatureCache {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).dcache").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        try pipeline.makeCache(of: [picture], subject: "s", options: options).write(toPath: file)
        return try FeatureCache.open(file)
    }

    private func mirrored(_ picture: Raster) -> Raster {
        let rows = stride(from: 0, to: picture.pixels.count, by: picture.width * picture.channels)
        return Raster(
            width: picture.width, height: picture.height, channels: picture.channels,
            pixels: rows.reversed().flatMap { picture.pixels[$0..<$0 + picture.width * picture.channels] })
    }

    private func request(_ caches: [FeatureCache], _ scales: [Double]? = nil) -> ImageRequest {
        var request = ImageRequest(prompt: "a photo of a backpack, on the beach", seed: 3)
        request.steps = 3
        request.caches = caches
        request.imageScales = scales?.map { ScaleSchedule($0) }
        return request
    }

    @Test func branchesOfGroups() {
        let guidance = Guidance(guidanceScale: 7.5, imageScale: 0.4)
        func weights(_ scales: [Double]) -> [String] {
            guidance.branches(scales: scales).map { "\($0.isPrompted ? "p" : "n")\($0.groups) \($0.weight)" }
        }
        #expect(weights([]) == ["p0 7.5", "n0 -6.5"])
        #expect(weights([0.5]) == ["p1 7.5", "n1 -7.0", "n0 0.5"])
        #expect(weights([1.5, 0.5]) == ["p2 7.5", "n2 -7.0", "n1 1.0", "n0 -0.5"])
        #expect(weights([7.5]) == ["p1 7.5", "n0 -6.5"])
        for scales in [[], [0.4], [2, 1, 0.25]] {
            #expect(abs(guidance.branches(scales: scales).map(\.weight).reduce(0, +) - 1) < 1e-12)
        }
    }

    @Test func equalScalesAreOneConcatenatedSubject() throws {
        let caches = [try cache(try reference()), try cache(mirrored(try reference()))]
        var together = request(caches)
        together.guidance.imageScale = 0.7
        let expected = try pipeline.denoised(together).latent
        #expect(try pipeline.denoised(request(caches, [0.7, 0.7])).latent == expected)
        #expect(try pipeline.denoised(request(caches, [0.7, 0.3])).latent != expected)
        // Subjects that differ but little in scale differ but little in effect.
        let near = relativeError(try pipeline.denoised(request(caches, [0.7001, 0.7])).latent, expected)
        let far = relativeError(try pipeline.denoised(request(caches, [1.1, 0.7])).latent, expected)
        #expect(near < 1e-5)
        #expect(far > 100 * near)
    }

    /// eps = e(n) + g (e(p, M2) - e(n, M2)) + s1 (e(n, M1) - e(n)) + s2 (e(n, M2) - e(n, M1)).
    @Test func differentScalesFollowTheFormula() throws {
        let (model, adapter) = (pipeline.model, try #require(pipeline.adapter))
        let caches = [try cache(try reference()), try cache(mirrored(try reference()))]
        func textKeys(_ prompt: String) throws -> TextKeys {
            try model.unet.textKeys(try model.encode(prompt: prompt))
        }
        let (prompt, negative) = (try textKeys("a backpack"), try textKeys("blurred"))
        let times = try model.unet.timeEmbeddings([481])
        let noise = wave(4 * 16 * 16)
        func evaluate(_ text: TextKeys, _ caches: [FeatureCache]) throws -> [Float] {
            let memory = caches.isEmpty ? nil : try SubjectMemory(caches, adapter: adapter, engine: model.engine)
            return try Denoiser(
                model, subject: memory, scales: [1], prompt: text, negative: text,
                guidance: Guidance(guidanceScale: 1, imageScale: 1), times: times
            ).predict(noise, height: 16, width: 16, step: 0)
        }
        let plain = try evaluate(negative, [])
        let (first, both) = (try evaluate(negative, [caches[0]]), try evaluate(negative, caches))
        let prompted = try evaluate(prompt, caches)
        let expected = plain.indices.map { i in
            plain[i] + 5 * (prompted[i] - both[i]) + 2 * (first[i] - plain[i]) + 0.5 * (both[i] - first[i])
        }
        let memory = try SubjectMemory(groups: caches.map { [$0] }, adapter: adapter, engine: model.engine)
        let found = try Denoiser(
            model, subject: memory, scales: [2, 0.5], prompt: prompt, negative: negative,
            guidance: Guidance(guidanceScale: 5), times: times
        ).predict(noise, height: 16, width: 16, step: 0)
        // What is summed was evaluated one by one, and is rounded otherwise in a batch; the weights add up to 14.
        #expect(relativeError(found, expected) < 14 * 1e-5)
        // The request's order is free: the stronger subject comes first.
        let reversed = try pipeline.denoised(request(caches.reversed(), [0.5, 2])).latent
        #expect(try pipeline.denoised(request(caches, [2, 0.5])).latent == reversed)
    }

    @Test func scalesMustBeAsManyAsSubjects() throws {
        let caches = [try cache(try reference())]
        for scales in [[], [1, 2], [.nan]] {
            #expect(throws: DreamCacheError.self) { try pipeline.check(request(caches, scales)) }
        }
    }

    @Test func aSubjectFitsImagesOfAnySize() throws {
        var request = request([try cache(try reference())])
        (request.width, request.height) = (104, 72)
        let image = try pipeline.generate(request)
        #expect((image.width, image.height) == (104, 72))
    }

    // MARK: Masks

    /// The reference with a disc of it opaque.
    private func masked(_ radius: Int, opaque: Bool = true) throws -> Raster {
        let picture = try reference()
        var pixels: [UInt8] = []
        for y in 0..<picture.height {
            for x in 0..<picture.width {
                let start = (y * picture.width + x) * picture.channels
                let (dx, dy) = (x - picture.width / 2, y - picture.height / 2)
                pixels += picture.pixels[start..<start + 3] + [dx * dx + dy * dy <= radius * radius && opaque ? 255 : 0]
            }
        }
        return Raster(width: picture.width, height: picture.height, channels: 4, pixels: pixels)
    }

    @Test func foregroundDropsTheBackgroundAtEveryLevel() throws {
        var options = CacheOptions()
        let picture = try masked(try reference().height / 5)
        let all = try cache(picture, options)
        options.tokens = .foreground
        let some = try cache(picture, options)
        #expect(some[.tokens] == "foreground")
        let foreground = try #require(Foreground(picture, side: 128, fit: .pad))
        for site in pipeline.model.unet.sites {
            let kept = foreground.cells(of: 8 << site.level)
            let side = 16 >> site.level
            #expect(kept.count == side * side)
            #expect(kept.contains(true) && (side < 4 || kept.contains(false)), "\(site.name)")
            let tokens = all.tokens(at: site)
            let expected = kept.indices.filter { kept[$0] }.flatMap {
                tokens[$0 * site.channels..<($0 + 1) * site.channels]
            }
            #expect(some.tokens(at: site) == expected)
            // The corner shows nothing of a disc in the middle.
            #expect(side < 4 || !kept[0])
        }
        _ = try pipeline.generate(request([some]))
        #expect(pipeline.cacheIdentity(options) != pipeline.cacheIdentity(CacheOptions()))
    }

    @Test func foregroundNeedsAMask() throws {
        var options = CacheOptions()
        options.tokens = .foreground
        let opaque = try #require(throws: DreamCacheError.self) { try cache(try reference(), options) }
        #expect("\(opaque)".contains("0: alpha: found a picture without alpha channel or mask"))
        let empty = try #require(throws: DreamCacheError.self) { try cache(try masked(0, opaque: false), options) }
        #expect("\(empty)".contains("a mask without foreground"))
    }
}
