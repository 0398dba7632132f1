import Checkpoint
import Diffusion
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import DreamCache

/// Whether the demonstration model that ships personalises: pictures made with the cache of a subject it was never trained
/// on must look more like that subject than pictures of the same prompt and seed made without.
@Suite struct PersonalisationTests {
    /// The demonstration model on a path.
    static func pipeline(_ path: ComputePath) throws -> Pipeline {
        let model = Golden.fixtures.deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Tools/demo-model/model")
        return try Pipeline(
            files: ModelFiles(
                checkpoint: model.path, adapter: model.appendingPathComponent("adapter.safetensors").path),
            path: path)
    }

    static func reference(_ subject: String) throws -> Raster {
        try Raster.decode(path: Golden.fixtures.appendingPathComponent("demo-subjects/\(subject).png").path)
    }

    /// Held-out subjects, of whom there is a reference, and their class.
    private static let subjects: [(name: String, kind: String)] = [
        ("toy-120", "toy"), ("toy-10", "toy"), ("toy-4", "toy"), ("toy-2044", "toy"), ("crown", "hat"),
        ("turtle", "animal"), ("house", "house"), ("pineapple", "fruit"),
    ]

    /// Shares of a picture's colours: 4 levels a channel, each value spread over the two nearest levels.
    private struct Colours {
        var shares = [Double](repeating: 0, count: 64)

        /// The pixels of which `counts` says true.
        init(_ picture: Raster, where counts: (_ x: Int, _ y: Int, _ rgb: ArraySlice<UInt8>) -> Bool) {
            var total = 0.0
            for y in 0..<picture.height {
                for x in 0..<picture.width {
                    let start = (y * picture.width + x) * 3
                    let rgb = picture.pixels[start..<start + 3]
                    guard counts(x, y, rgb) else { continue }
                    total += 1
                    for corner in 0..<8 {
                        var (index, weight) = (0, 1.0)
                        for (channel, value) in rgb.enumerated() {
                            let position = Double(value) / 255 * 3
                            let low = min(2, Int(position))
                            let isHigh = corner >> channel & 1 == 1
                            index = index * 4 + low + (isHigh ? 1 : 0)
                            weight *= isHigh ? position - Double(low) : 1 - (position - Double(low))
                        }
                        shares[index] += weight
                    }
                }
            }
            shares = shares.map { $0 / max(total, 1) }
        }

        /// 0 where no colour is shared, 1 where all are.
        func likeness(_ other: Colours) -> Double { zip(shares, other.shares).reduce(0) { $0 + min($1.0, $1.1) } }
    }

    @Test func cachedSubjectsAreRecognised() throws {
        let pipeline = try Self.pipeline(.oneDNNFP32)
        let references = try Self.subjects.map { try Self.reference($0.name) }
        // What of a reference is not its white background.
        let gallery = references.map { Colours($0) { _, _, rgb in rgb.contains { $0 < 235 } } }

        /// How much more a picture is like its own subject than like the others.
        func identity(_ picture: Raster, _ own: Int) -> Double {
            let middle = Colours(picture) { x, y, _ in (32..<96).contains(x) && (40..<112).contains(y) }
            let likeness = gallery.map { middle.likeness($0) }
            let others = likeness.indices.filter { $0 != own }.map { likeness[$0] }
            return likeness[own] - others.reduce(0, +) / Double(others.count)
        }

        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        var (with, without) = (0.0, 0.0)
        for (index, subject) in Self.subjects.enumerated() {
            var request = ImageRequest(prompt: "a photo of a \(subject.kind), on a wooden floor", seed: UInt64(index))
            request.guidance = Guidance(guidanceScale: 7.5, imageScale: 4)
            request.steps = 12
            request.scheduler = SamplerChoice(.dpmSolverMultistep)
            without += identity(try pipeline.generate(request), index) / Double(Self.subjects.count)
            let file = folder.appendingPathComponent("\(index).dcache").path
            try pipeline.makeCache(of: [references[index]], subject: subject.name, options: CacheOptions())
                .write(toPath: file)
            request.caches = [try FeatureCache.open(file)]
            with += identity(try pipeline.generate(request), index) / Double(Self.subjects.count)
        }
        #expect(with - without > 0.25, "identity \(with) with the caches, \(without) without")
    }
}
