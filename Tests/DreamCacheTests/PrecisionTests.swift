import Checkpoint
import Diffusion
import Foundation
import Raster
import TensorEngine
import Testing

@testable import DreamCache

/// How far the paths' pictures of a trained model lie apart: the same prompt, seed and reference, whole runs, each path with
/// features of its own.
@Suite struct PrecisionTests {
    /// Least decibels from the picture that OpenBLAS makes in fp32: rounding alone on the fp32 paths, 8 bits of mantissa on the
    /// bfloat16 ones, both through the amplification of a guided run.
    private static let bounds: [(path: ComputePath, decibels: Double)] = ComputePath.allCases
        .filter { $0 != .openBLAS }
        .map { ($0, $0.activationType == .bfloat16 ? 30 : 60) }

    /// Says which paths the tests of this target leave out on this CPU.
    @Test(arguments: ComputePath.allCases) func isTested(_ path: ComputePath) throws {
        try path.require()
        _ = try Engine(path: path)
    }

    @Test func pathsAgreeOnATrainedModel() throws {
        let exact = try pictures(.openBLAS)
        for (path, decibels) in Self.bounds where path.isSupported {
            for (picture, expected) in zip(try pictures(path), exact) {
                let found = psnr(picture, expected)
                #expect(found >= decibels, "\(path.rawValue): \(found) dB")
            }
        }
    }

    private func pictures(_ path: ComputePath) throws -> [Raster] {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
        defer { try? FileManager.default.removeItem(atPath: file) }
        let pipeline = try PersonalisationTests.pipeline(path)
        try pipeline.makeCache(
            of: [try PersonalisationTests.reference("toy-120")], subject: "toy", options: CacheOptions()
        ).write(toPath: file)
        return try ["on the beach", "in space"].map { scene in
            var request = ImageRequest(prompt: "a photo of a toy, \(scene)", seed: 7)
            request.guidance = Guidance(guidanceScale: 7.5, imageScale: 2)
            request.steps = 12
            request.scheduler = SamplerChoice(.dpmSolverMultistep)
            request.caches = [try FeatureCache.open(file)]
            return try pipeline.generate(request)
        }
    }
}

extension ComputePath {
    /// Cancels the case, with the reason, where this CPU does not have the path.
    func require() throws {
        if !isSupported { try Test.cancel("\(rawValue): \(reason)") }
    }
}
