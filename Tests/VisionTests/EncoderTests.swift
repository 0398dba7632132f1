import Checkpoint
import Foundation
import Glibc
import Golden
import Raster
import TensorEngine
import Testing

@testable import Vision

/// Encoders against transformers, timm and open_clip; Tests/Fixtures/encoders/generate.py made the files.
@Suite struct EncoderTests {
    static let folder = Golden.fixtures.appendingPathComponent("encoders")
    static let files = [
        "dino-s16", "dino-s8", "dino-hub.pth", "dinov2", "dinov2-hub.pth", "clip", "open-clip", "openai.pt",
    ]

    private func expected(in folder: URL = folder) throws -> [String: StoredTensor] {
        try Checkpoint.open(folder.appendingPathComponent("expected.safetensors").path).tensors
    }

    private func encoder(_ file: String, _ path: ComputePath = .openBLAS) throws -> ImageEncoder {
        try ImageEncoder(Self.folder.appendingPathComponent(file).path, compute: path)
    }

    private func picture(_ name: String) throws -> Raster {
        try Raster.decode(path: Golden.fixtures.appendingPathComponent("u2netp/\(name).png").path)
    }

    private func distance(_ a: [Float], _ b: [Float]) -> Float {
        guard a.count == b.count, !a.isEmpty else { return .infinity }
        return zip(a, b).map { abs($0 - $1) }.max() ?? .infinity
    }

    @Test(arguments: files, ["wide", "high"])
    func pixelsAreWithinOneLevel(_ file: String, _ name: String) throws {
        let stem = file.split(separator: ".")[0]
        let values = try #require(try expected()["\(stem).\(name).pixels"])
        let preparation = try encoder(file).preparation
        let found = preparation.values(of: try picture(name))
        let places = Array(stride(from: 0, to: preparation.side, by: 8))
        let theirs = values.floats()
        var worst: Float = 0
        #expect(theirs.count == 3 * places.count * places.count)
        for (i, value) in theirs.enumerated() {
            let (c, cell) = i.quotientAndRemainder(dividingBy: places.count * places.count)
            let pixel = places[cell / places.count] * preparation.side + places[cell % places.count]
            worst = max(worst, abs(found[3 * pixel + c] - value) * preparation.deviation[c] * 255)
        }
        #expect(worst < 1.01)
    }

    @Test(arguments: files, [ComputePath.oneDNNFP32, .openBLAS])
    func featuresAreTheLibraries(_ file: String, _ path: ComputePath) throws {
        let (encoder, expected) = (try encoder(file, path), try expected())
        let stem = file.split(separator: ".")[0]
        for name in ["wide", "high"] {
            let values = try #require(expected["\(stem).\(name)"]).floats()
            let found = try encoder.features(of: try picture(name))
            #expect(distance(found, values) < 1e-4)
        }
    }

    @Test(arguments: ["clip", "open-clip", "openai.pt"])
    func textsAreTheLibraries(_ file: String) throws {
        let (encoder, expected) = (try encoder(file), try expected())
        let stem = file.split(separator: ".")[0]
        for (index, words) in [[5, 17, 3], [1, 2, 3, 4, 5, 6, 7, 8] as [Int32]].enumerated() {
            let values = try #require(expected["\(stem).text\(index)"]).floats()
            let found = try encoder.features(ofTokens: [22] + words + [23])
            #expect(distance(found, values) < 1e-4)
            // Padding behind the end changes nothing, and what does not fit behind it is left out.
            let padded = try encoder.features(ofTokens: [22] + words + [23, 0, 0])
            #expect(distance(padded, found) < 1e-4)
        }
    }

    /// The folder that `generate.py --full` wrote: the same networks in their real sizes, some gigabytes of random weights.
    static let full = ProcessInfo.processInfo.environment["DREAMCACHE_ENCODERS"].map { URL(fileURLWithPath: $0) }

    /// Prints how far apart features are, and the seconds of a picture beside PyTorch's, which `generate.py` measured.
    @Test(.enabled(if: full != nil, "DREAMCACHE_ENCODERS names no folder of `generate.py --full`"))
    func fullSizesAreTheLibraries() throws {
        let folder = try #require(Self.full)
        let expected = try expected(in: folder)
        let theirs = try JSONDecoder().decode(
            [String: Double].self, from: Data(contentsOf: folder.appendingPathComponent("seconds.json")))
        for file in Self.files + ["clip-l14"] {
            let encoder = try ImageEncoder(folder.appendingPathComponent(file).path, compute: .oneDNNFP32)
            let stem = "\(file.split(separator: ".")[0])"
            var worst: Float = 0
            var seconds = 0.0
            for name in ["wide", "high"] {
                let picture = try picture(name)
                let start = ContinuousClock.now
                let found = try encoder.features(of: picture)
                seconds = (ContinuousClock.now - start) / .seconds(1)
                worst = max(worst, distance(found, try #require(expected["\(stem).\(name)"]).floats()))
            }
            print("\(encoder.name), \(file): within \(worst), \(seconds) s a picture, PyTorch \(theirs[stem] ?? 0) s")
            #expect(worst < 1e-4, "\(file)")
        }
    }

    @Test func whatItIsIsTold() throws {
        let names = try Self.files.map { try encoder($0).name }
        #expect(
            names == [
                "DINO ViT-16x2/16", "DINO ViT-16x1/8", "DINO ViT-128x1/16", "DINOv2 ViT-16x2/14", "DINOv2 ViT-128x1/14",
                "CLIP ViT-16x2/8", "CLIP ViT-64x1/16", "CLIP ViT-64x1/16",
            ])
        #expect(
            try encoder("dino-hub.pth").preparation.description.hasPrefix("shorter side 256 bicubic, middle 224x224"))
        #expect(try encoder("dino-s16").preparation.description.hasPrefix("squashed to 64x64 bilinear"))
        // A file that open_clip wrote does not say which GELU it has; what lies beside it does.
        let alone = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).safetensors")
        defer { try? FileManager.default.removeItem(at: alone) }
        try FileManager.default.copyItem(
            at: Self.folder.appendingPathComponent("open-clip/open_clip_model.safetensors"), to: alone)
        #expect(try ImageEncoder(alone.path, compute: .openBLAS).remarks.count == 1)
        #expect(try encoder("open-clip").remarks.isEmpty)
    }

    @Test func whatIsNoEncoderIsNamed() throws {
        func message(_ path: String) throws -> String {
            "\(try #require(throws: VisionError.self) { try ImageEncoder(path, compute: .openBLAS) })"
        }
        #expect(try message("/nowhere/dino").contains("found No such file or directory, expected DINO"))
        #expect(try message(Golden.folder.path).contains("a folder with none of model.safetensors"))
        let other = Golden.fixtures.appendingPathComponent("u2netp/expected.safetensors").path
        #expect(try message(other).contains("found tensors of another network, expected DINO"))
        let text = try #require(throws: VisionError.self) { try encoder("dinov2").features(of: "a dog") }
        #expect("\(text)".contains("which reads no text, expected a CLIP"))
        let small = try #require(throws: VisionError.self) { try encoder("clip").features(of: "a dog") }
        #expect("\(small)".contains("found a vocabulary of 24 tokens"))
    }

    /// Sizes come from shapes, and a tensor of no element may say any.
    @Test func tensorsThatHoldNothingAreRefused() throws {
        for (name, shape) in [
            ("text_model.embeddings.token_embedding.weight", [0, 1 << 60]),
            ("text_model.embeddings.position_embedding.weight", [1 << 60, 0]),
            ("vision_model.embeddings.position_embedding.weight", [1 << 60, 0]),
        ] {
            let path = NSTemporaryDirectory() + "encoder-\(UUID().uuidString).safetensors"
            defer { unlink(path) }
            var writer = SafetensorsWriter()
            writer.add("vision_model.embeddings.patch_embedding.weight", type: .f32, shape: [1], floats: [0])
            writer.add(name, type: .f32, shape: shape, floats: [])
            try writer.write(toPath: path)
            let error = try #require(throws: VisionError.self) { try ImageEncoder(path, compute: .openBLAS) }
            #expect("\(error)".contains("\(name) of shape \(shape), expected tensors that hold something"))
        }
    }

    @Test func aWrongPreparationNamesItsField() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())")
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.copyItem(at: Self.folder.appendingPathComponent("clip"), to: folder)
        let file = folder.appendingPathComponent("preprocessor_config.json")
        let written = try String(contentsOf: file, encoding: .utf8)
        let changes = [
            (#""resample": 3"#, #""resample": 0"#, "resample: found 0, expected 1 (Lanczos)"),
            (#""shortest_edge": 32"#, #""shortest_edge": 16"#, "crop_size: found an object, expected at most 16"),
            (#""do_normalize": true"#, #""do_normalize": false"#, "do_normalize: found false, expected true"),
            ("0.26862954", "0", "image_std: found"),
        ]
        for (old, new, message) in changes {
            #expect(written.contains(old))
            try written.replacingOccurrences(of: old, with: new).write(to: file, atomically: true, encoding: .utf8)
            let error = try #require(throws: VisionError.self) {
                try ImageEncoder(folder.path, compute: .openBLAS)
            }
            #expect("\(error)".contains(message))
        }
    }
}
