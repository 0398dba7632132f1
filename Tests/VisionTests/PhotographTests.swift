import Checkpoint
import Foundation
import Raster
import TensorEngine
import Testing

@testable import Vision

/// The whole golden set, which is not part of the project: `DREAMCACHE_U2NETP` names a folder with `u2netp.safetensors` (fp32),
/// `golden.safetensors` and a mask `SUBJECT-NN.png` for each photo `photos/SUBJECT/NN.jpg` beside it.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["DREAMCACHE_U2NETP"] != nil, "DREAMCACHE_U2NETP is not set"))
struct PhotographTests {
    private static let folder = URL(
        fileURLWithPath: ProcessInfo.processInfo.environment["DREAMCACHE_U2NETP"] ?? ".", isDirectory: true)
    private static let photos = folder.deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("photos")
    private static let weights: [String?] = [folder.appendingPathComponent("u2netp.safetensors").path, nil]

    @Test(arguments: [ComputePath.oneDNNFP32, .openBLAS], weights)
    func likelihoods(_ path: ComputePath, _ weights: String?) throws {
        let golden = try Checkpoint.open(Self.folder.appendingPathComponent("golden.safetensors").path)
        let segmenter = try Segmenter(path: path, weights: weights)
        for name in ["backpack-00", "cat-01"] {
            let input = try #require(golden.tensors[name + ".input"]?.floats())
            let expected = try #require(golden.tensors[name + ".d0"]?.floats())
            // Its shape says [1, 3, 320, 320], but the values lie as [320, 320, 3].
            let found = try segmenter.saliency(ofInput: input).likelihoods
            let worst = zip(found, expected).map { abs($0 - $1) }.max() ?? .infinity
            let mean = zip(found, expected).reduce(0) { $0 + abs($1.0 - $1.1) } / Float(found.count)
            let kind = weights == nil ? "fp16" : "fp32"
            print("\(name) \(path.rawValue) \(kind) weights: d0 differs by \(worst) at most, \(mean) in the mean")
            #expect(worst < 1e-3)
        }
    }

    @Test(arguments: weights) func masks(_ weights: String?) throws {
        let segmenter = try Segmenter(path: .oneDNNFP32, weights: weights)
        for name in try FileManager.default.contentsOfDirectory(atPath: Self.folder.path).sorted()
        where name.hasSuffix(".png") {
            let (subject, number) = (String(name.dropLast(7)), name.dropLast(4).suffix(2))
            let photo = try Raster.decode(path: Self.photos.appendingPathComponent("\(subject)/\(number).jpg").path)
            let small = photo.resized(width: Segmenter.side, height: Segmenter.side, filter: .lanczos)
            let expected = try Raster.decode(path: Self.folder.appendingPathComponent(name).path)
            let mask = try segmenter.saliency(of: small.pixels).mask.map { UInt8($0 * 255) }
            let levels = mask.indices.map { abs(Int(mask[$0]) - Int(expected.pixels[3 * $0])) }
            let other = Double(levels.count { $0 > 2 }) / Double(levels.count)
            let sides = Double(mask.indices.count { (mask[$0] < 128) != (expected.pixels[3 * $0] < 128) })
            print(
                "\(name) \(weights == nil ? "fp16" : "fp32") weights: \(100 * other) % of pixels by more than 2 levels, "
                    + "worst \(levels.max() ?? 0), \(100 * sides / Double(levels.count)) % on the other side of one half"
            )
            #expect(other < 0.01)
        }
    }
}
