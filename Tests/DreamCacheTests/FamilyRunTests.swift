import Checkpoint
import Diffusion
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import DreamCache

/// Whole runs of each family without a subject against diffusers' pipelines.
@Suite struct FamilyRunTests {
    private func request(_ seed: UInt64) -> ImageRequest {
        var request = ImageRequest(prompt: Family.prompts[0], seed: seed)
        request.negativePrompt = Family.prompts[1]
        request.guidance = Guidance(guidanceScale: 5)
        request.steps = 8
        return request
    }

    @Test(arguments: Golden.exactPaths, Family.all)
    func runsEqualDiffusers(_ path: ComputePath, _ family: Family) throws {
        let pipeline = try Pipeline(files: ModelFiles(checkpoint: family.folder), path: path)
        let expected = try family.tensors()
        for (name, height, width) in [("run.latent", 64, 64), ("run.wide", 56, 104)] {
            var request = request(42)
            (request.height, request.width) = (height, width)
            let found = try pipeline.denoised(request)
            #expect((found.height, found.width) == (height / 8, width / 8))
            #expect(relativeError(found.latent, try #require(expected[name]).floats()) < 1e-3, "\(name)")
        }
    }

    @Test(arguments: Golden.exactPaths, Family.all)
    func initialImagesEqualDiffusers(_ path: ComputePath, _ family: Family) throws {
        let pipeline = try Pipeline(files: ModelFiles(checkpoint: family.folder), path: path)
        let expected = try family.tensors()
        let levels = try #require(expected["img2img.levels"]).floats()
        let pixels = (0..<64 * 64).flatMap { pixel in (0..<3).map { UInt8(levels[$0 * 64 * 64 + pixel]) } }
        var request = request(43)
        (request.height, request.width) = (64, 64)
        request.initialImage = Raster(width: 64, height: 64, channels: 3, pixels: pixels)
        request.strength = 0.6
        var states: [[UInt8]] = []
        let found = try pipeline.denoised(request, checkpoint: { _, state in states.append(state()) }).latent
        #expect(relativeError(found, try #require(expected["img2img.latent"]).floats()) < 1e-3)
        // An interrupted run ends with the same bytes.
        #expect(try pipeline.denoised(request, resume: states[states.count / 2]).latent == found)
    }

    @Test func philoxDrawsOtherNoiseAndResumes() throws {
        let pipeline = try Pipeline(files: ModelFiles(checkpoint: Family("sd2").folder), path: .openBLAS)
        var request = request(42)
        (request.height, request.width) = (64, 64)
        request.random = .philox
        request.eta = 1
        var states: [[UInt8]] = []
        let found = try pipeline.denoised(request, checkpoint: { _, state in states.append(state()) }).latent
        #expect(try pipeline.denoised(request, resume: states[3]).latent == found)
        request.random = .torchCPU
        #expect(try pipeline.denoised(request).latent != found)
    }

    @Test func sizesThatTheAutoencoderCannotReduceAreRefused() throws {
        let pipeline = try Pipeline(files: ModelFiles(checkpoint: Family("sd2").folder), path: .openBLAS)
        for side in [0, -8, 4, 60, 4104] {
            var request = request(1)
            request.width = side
            let error = try #require(throws: DreamCacheError.self) { try pipeline.check(request) }
            #expect("\(error)" == "width: found \(side), expected a multiple of 8 from 8 to 4096")
        }
    }

    // MARK: What identifies a model

    @Test func aFolderIsIdentifiedByItsWeights() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.copyItem(at: Family("sd2").root.appendingPathComponent("folder"), to: folder)
        defer { try? FileManager.default.removeItem(at: folder) }
        let hash = try ModelFiles(checkpoint: folder.path).weightsHash()
        #expect(hash.count == 64)
        #expect(try ModelFiles(checkpoint: Family("sd2").folder).weightsHash() == hash)
        #expect(try ModelFiles(checkpoint: Family("sd2v").folder).weightsHash() != hash)
        let shard = folder.appendingPathComponent("unet/diffusion_pytorch_model-00002-of-00004.safetensors")
        var bytes = try Data(contentsOf: shard)
        bytes[bytes.count - 1] ^= 1
        try bytes.write(to: shard)
        #expect(try ModelFiles(checkpoint: folder.path).weightsHash() != hash)
    }

    @Test func whatChangesFeaturesChangesTheirHash() throws {
        let family = Family("sd1")
        var files = ModelFiles(checkpoint: family.folder)
        let plain = try Pipeline(files: files, path: .openBLAS)
        #expect(plain.featureHash == plain.modelHash)
        var hashes = [plain.featureHash]
        files.loras = [LowRankFile(path: family.path("peft.safetensors"), weight: 0.5)]
        hashes.append(try Pipeline(files: files, path: .openBLAS).featureHash)
        files.loras[0].weight = 0.6
        hashes.append(try Pipeline(files: files, path: .openBLAS).featureHash)
        files.clipSkip = 1
        hashes.append(try Pipeline(files: files, path: .openBLAS).featureHash)
        #expect(Set(hashes).count == 4)
        #expect(try Pipeline(files: files, path: .openBLAS).modelHash == plain.modelHash)
    }
}
