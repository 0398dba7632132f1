import Checkpoint
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import Diffusion
@testable import DreamCache

/// The method on the tiny model against the authors' code, on each exact compute path: cached features, the adapters'
/// effect, and whole runs.
@Suite struct GoldenRunTests {
    private static let prompt = "a photo of a backpack, on the beach"

    private func pipeline(_ path: ComputePath) throws -> Pipeline {
        try Pipeline(
            files: ModelFiles(
                checkpoint: Golden.path("tiny-sd2.ckpt"), adapter: Golden.path("cross_attention-199999.pt")),
            path: path)
    }

    private func options(_ mode: CacheOptions.Mode) -> CacheOptions {
        var options = CacheOptions()
        options.mode = mode
        options.seed = 1234
        options.fit = .squash
        return options
    }

    private func cache(_ pipeline: Pipeline, _ mode: CacheOptions.Mode) throws -> FeatureCache {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("subject.dcache").path
        let reference = try Raster.decode(path: Golden.path("reference.png"))
        try pipeline.makeCache(of: [reference], subject: "backpack", options: options(mode)).write(toPath: file)
        return try FeatureCache.open(file)
    }

    @Test(arguments: Golden.exactPaths, [("mean", CacheOptions.Mode.paper, ""), ("sample", .official, "")])
    func referencePass(_ path: ComputePath, _ golden: (name: String, mode: CacheOptions.Mode, prompt: String)) throws {
        let pipeline = try pipeline(path)
        let data = try Golden()
        let pass = ReferencePass(pipeline.model, try TrainingSchedule(pipeline.model.configuration.schedule))
        let unet = pipeline.model.unet
        let result = try pass(
            pixels: channelsLast(data["reference.pixels"], channels: 3), side: 128,
            text: try unet.textKeys(try pipeline.model.encode(prompt: golden.prompt)),
            time: try #require(try unet.timeEmbeddings([Double(ReferencePass.timestep)]).first),
            options: options(golden.mode))
        #expect(relativeError(result.latent, data["cache.\(golden.name).latent"]) < 1e-4)
        #expect(relativeError(result.noisy, data["cache.\(golden.name).x_noisy"]) < 1e-4)
        for (index, site) in pipeline.model.unet.sites.enumerated() {
            let tokens = try #require(result.features[site])
            let name = "cache.\(golden.name).memory_layer_\(index)"
            #expect(relativeError(channelsFirst(tokens, channels: site.channels), data[name]) < 1e-4, "\(name)")
        }
    }

    @Test(arguments: Golden.exactPaths) func officialCacheRunsUnderTheNegativePrompt(_ path: ComputePath) throws {
        let pipeline = try pipeline(path)
        let data = try Golden()
        let cache = try cache(pipeline, .official)
        for (index, site) in pipeline.model.unet.sites.enumerated() {
            // Half precision in the file.
            let error = relativeError(
                channelsFirst(cache.tokens(at: site), channels: site.channels),
                data["cache.official.memory_layer_\(index)"])
            #expect(error < 5e-4, "site \(site.name)")
        }
    }

    @Test(arguments: Golden.exactPaths) func adapter(_ path: ComputePath) throws {
        let pipeline = try pipeline(path)
        let (model, data) = (pipeline.model, try Golden())
        let adapter = try #require(pipeline.adapter)
        // The features themselves, not their half precision.
        var features: [InjectionSite: [Float]] = [:]
        for (index, site) in model.unet.sites.enumerated() {
            features[site] = channelsLast(data["cache.mean.memory_layer_\(index)"], channels: site.channels)
        }
        let memory = try SubjectMemory(tokens: { [features[$0] ?? []] }, adapter: adapter, engine: model.engine)
        let text = try model.unet.textKeys(try model.encode(prompt: Self.prompt))
        let x = try model.latentTensor(data["xT"], height: 16, width: 16)
        for timestep in [1, 481, 981] {
            let time = try #require(try model.unet.timeEmbeddings([Double(timestep)]).first)
            let encoded = try model.unet.encode(x, time: time, text: text)
            let plain = try #require(model.predictions(try model.unet.decode(encoded, time: time, text: text)).first)
            let personal = try #require(
                model.predictions(
                    try model.unet.decode(encoded, time: time, text: text, tap: memory, tappedRows: 1)
                ).first)
            let golden = data["eps.personal.\(timestep)"]
            #expect(relativeError(personal, golden) < 1e-4)
            let effect = zip(golden, data["eps.plain.\(timestep)"]).map { $0 - $1 }
            #expect(relativeError(zip(personal, plain).map { $0 - $1 }, effect) < 1e-3)
        }
    }

    struct Run: CustomStringConvertible {
        let name: String, prompt: String, negative: String
        let mode: CacheOptions.Mode
        let guidance: Guidance
        let eta: Double
        var description: String { name }
    }

    private static let runs = [
        Run(
            name: "paper", prompt: prompt, negative: "", mode: .paper,
            guidance: Guidance(guidanceScale: 7.5, imageScale: 0.4), eta: 0),
        Run(
            name: "official", prompt: "A dragon, painted on a wall.", negative: CacheOptions.officialPrompt,
            mode: .official, guidance: Guidance(guidanceScale: 7.5, imageScale: 3), eta: 0),
        Run(
            name: "stochastic", prompt: "A dragon, painted on a wall.", negative: CacheOptions.officialPrompt,
            mode: .paper, guidance: Guidance(guidanceScale: 5, imageScale: 1), eta: 1),
    ]

    @Test(arguments: Golden.exactPaths, runs) func wholeRun(_ path: ComputePath, _ run: Run) throws {
        #expect(try distance(path, run) >= 50)
    }

    /// bfloat16 has 8 bits; what is asked of it is 35 dB.
    @Test(arguments: ComputePath.allCases.filter { $0.activationType == .bfloat16 }, runs)
    func wholeRunInBF16(_ path: ComputePath, _ run: Run) throws {
        try path.require()
        #expect(try distance(path, run) >= 35)
    }

    /// Decibels between our image of a run and the authors'.
    private func distance(_ path: ComputePath, _ run: Run) throws -> Double {
        let pipeline = try pipeline(path)
        var request = ImageRequest(prompt: run.prompt, seed: 42)
        request.negativePrompt = run.negative
        request.guidance = run.guidance
        request.steps = 10
        request.eta = run.eta
        request.noiseSeed = run.eta > 0 ? 99 : nil
        request.caches = [try cache(pipeline, run.mode)]
        let image = try pipeline.generate(request)
        return psnr(image, try Raster.decode(path: Golden.path("run-\(run.name).png")))
    }
}

/// Peak signal-to-noise ratio in decibels; infinite where the pictures are equal.
func psnr(_ a: Raster, _ b: Raster) -> Double {
    guard a.pixels.count == b.pixels.count, !a.pixels.isEmpty else { return 0 }
    let squares = zip(a.pixels, b.pixels).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
    return squares == 0 ? .infinity : 10 * log10(255 * 255 / (squares / Double(a.pixels.count)))
}
