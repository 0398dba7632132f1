import Checkpoint
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import Vision

/// The network against PyTorch's results, with the weights that ship; Tests/Fixtures/u2netp/generate.py made them.
@Suite struct SegmenterTests {
    private static let folder = Golden.fixtures.appendingPathComponent("u2netp")

    private func picture(_ name: String) throws -> Raster {
        try Raster.decode(path: Self.folder.appendingPathComponent("\(name).png").path)
            .resized(width: Segmenter.side, height: Segmenter.side, filter: .lanczos)
    }

    private func expected() throws -> [String: StoredTensor] {
        try Checkpoint.open(Self.folder.appendingPathComponent("expected.safetensors").path).tensors
    }

    @Test(arguments: ["wide", "high"]) func theInputIsPillows(_ name: String) throws {
        let values = try #require(try expected()["\(name).input"]).floats()
        let small = try picture(name)
        let found = stride(from: 0, to: 320, by: 8).flatMap { y in
            stride(from: 0, to: 320, by: 8).flatMap { x in (0..<3).map { small.pixels[(y * 320 + x) * 3 + $0] } }
        }
        #expect(found.count == values.count)
        // Newer versions of Pillow take the passes in another order.
        #expect(zip(found, values).allSatisfy { abs(Float($0) - $1) <= 1 })
    }

    @Test(arguments: [ComputePath.oneDNNFP32, .openBLAS], ["wide", "high"])
    func likelihoodsAreTheNetworks(_ path: ComputePath, _ name: String) throws {
        let values = try #require(try expected()["\(name).d0"]).floats()
        let map = try Segmenter(path: path).saliency(of: try picture(name).pixels)
        #expect(map.peak > 0.99)
        let found = stride(from: 0, to: 320, by: 4).flatMap { y in
            stride(from: 0, to: 320, by: 4).map { map.likelihoods[y * 320 + $0] }
        }
        #expect(found.count == values.count)
        let worst = zip(found, values).map { abs($0 - $1) }.max() ?? .infinity
        #expect(worst < 1e-3, "\(worst)")
    }

    @Test func aNarrowPathComputesInFull() throws {
        let pixels = try picture("high").pixels
        let narrow = try Segmenter(path: .openBLASBF16).saliency(of: pixels)
        let full = try Segmenter(path: .openBLAS).saliency(of: pixels)
        #expect(narrow == full)
    }

    @Test func itStopsWithinAStage() throws {
        let segmenter = try Segmenter(path: .openBLAS)
        let pixels = [UInt8](repeating: 0, count: 320 * 320 * 3)
        var stages: [Int] = []
        let stopped = try #require(throws: VisionError.self) {
            try segmenter.saliency(of: pixels, progress: { step, _ in stages.append(step) }) { stages.count == 2 }
        }
        guard case .stopped = stopped else {
            Issue.record("\(stopped)")
            return
        }
        #expect(stages == [0, 1])
    }

    @Test func whatDoesNotFitIsNamed() throws {
        let size = try #require(throws: VisionError.self) { try Segmenter(path: .openBLAS).saliency(of: [1, 2, 3]) }
        #expect("\(size)" == "pixels: found 3 values, expected 320x320 of RGB, 307200")
        let other = Golden.fixtures.appendingPathComponent("u2netp/expected.safetensors").path
        let keys = try #require(throws: VisionError.self) { try Segmenter(path: .openBLAS, weights: other) }
        #expect("\(keys)".contains("stage1.rebnconvin.conv_s1.weight"))
    }

    @Test func theWeightsSayWhoseTheyAre() throws {
        let path = try #require(InstalledFile("u2netp.safetensors", of: "Vision").path)
        let metadata = try Checkpoint.open(path).metadata
        #expect(metadata["licence"] == "Apache-2.0")
        #expect(metadata["citation"]?.contains("Qin") == true)
    }

    @Test func aBlackPictureHasNoSubject() throws {
        let map = try Segmenter(path: .openBLAS).saliency(of: [UInt8](repeating: 0, count: 320 * 320 * 3))
        #expect(map.likelihoods.allSatisfy { $0.isFinite })
        #expect(map.mask.allSatisfy { (0...1).contains($0) })
    }
}
