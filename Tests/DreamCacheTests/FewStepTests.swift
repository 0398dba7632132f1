import Checkpoint
import Diffusion
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import DreamCache

/// Settings of distilled models against diffusers; `Tests/Fixtures/fewsteps/generate.py` makes what it computes.
@Suite struct FewStepTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let name: String, family: String
        let lora: Bool
        let scheduler: SamplerKind
        let trailing: Bool
        let steps: Int
        let guidance: Double
        let eta: Double

        var testDescription: String { name }
    }

    static let cases = [
        Case(
            name: "sd-turbo-1", family: "sd2", lora: false, scheduler: .euler, trailing: true, steps: 1, guidance: 0,
            eta: 0),
        Case(
            name: "sd-turbo-4", family: "sd2", lora: false, scheduler: .euler, trailing: true, steps: 4, guidance: 0,
            eta: 0),
        Case(
            name: "lcm-lora-4", family: "sd1", lora: true, scheduler: .lcm, trailing: false, steps: 4, guidance: 1,
            eta: 0),
        Case(
            name: "lcm-lora-8", family: "sd1", lora: true, scheduler: .lcm, trailing: false, steps: 8, guidance: 1,
            eta: 0),
        Case(
            name: "tcd-lora-4", family: "sd1", lora: true, scheduler: .tcd, trailing: false, steps: 4, guidance: 0,
            eta: 0.3),
        Case(
            name: "hyper-sd-2", family: "sd1", lora: true, scheduler: .ddim, trailing: true, steps: 2, guidance: 0,
            eta: 0),
        Case(
            name: "hyper-sd-1", family: "sd1", lora: true, scheduler: .tcd, trailing: false, steps: 1, guidance: 0,
            eta: 1),
        Case(
            name: "lightning-4", family: "sd1", lora: true, scheduler: .euler, trailing: true, steps: 4, guidance: 1,
            eta: 0),
    ]

    private static func files(_ example: Case) -> ModelFiles {
        let family = Family(example.family)
        var files = ModelFiles(checkpoint: family.folder)
        if example.lora { files.loras = [LowRankFile(path: family.path("kohya.safetensors"))] }
        files.schedule.sampler = SamplerChoice(example.scheduler)
        if example.trailing { files.schedule.timestepSpacing = .trailing }
        return files
    }

    private static func request(_ example: Case) -> ImageRequest {
        var request = ImageRequest(prompt: Family.prompts[0], seed: 42)
        (request.height, request.width) = (64, 64)
        request.steps = example.steps
        request.eta = example.eta
        request.guidance = Guidance(guidanceScale: example.guidance, imageScale: 1)
        return request
    }

    @Test(arguments: cases) func latentsEqualDiffusers(_ example: Case) throws {
        let pipeline = try Pipeline(files: Self.files(example), path: .oneDNNFP32)
        let file = try Checkpoint.open(Golden.fixtures.appendingPathComponent("fewsteps/expected.safetensors").path)
        let found = try pipeline.denoised(Self.request(example)).latent
        let error = relativeError(found, try #require(file.tensors[example.name]).floats())
        #expect(error < 1e-3, "\(example.name): \(error)")
        #expect(pipeline.evaluations == example.steps)
    }

    /// With a subject too a step costs one evaluation.
    @Test(arguments: cases) func aSubjectCostsNoFurtherEvaluation(_ example: Case) throws {
        let plain = try Pipeline(files: Self.files(example), path: .oneDNNFP32)
        let engine = plain.model.engine
        let adapter = try Adapter(ParameterStore(randomSeed: 5), for: plain.model.unet, engine: engine)
        let pipeline = try Pipeline(model: plain.model, adapter: adapter, modelHash: "m", adapterHash: "a")
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).dcache").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        let picture = try Raster.decode(path: Golden.path("reference.png"))
        try pipeline.makeCache(of: [picture], subject: "s", options: CacheOptions()).write(toPath: file)
        var request = Self.request(example)
        request.caches = [try FeatureCache.open(file)]
        let personal = try pipeline.denoised(request).latent
        #expect(pipeline.evaluations == example.steps)
        #expect(!personal.contains { !$0.isFinite })
        #expect(relativeError(personal, try plain.denoised(Self.request(example)).latent) > 1e-3)
    }
}
