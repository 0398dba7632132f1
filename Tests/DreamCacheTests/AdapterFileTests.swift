import Checkpoint
import Foundation
import Golden
import TensorEngine
import Testing

@testable import Diffusion
@testable import DreamCache

/// Adapters and models from one format into another.
@Suite final class AdapterFileTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path

    init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    private func values(_ path: String) throws -> [String: [Float]] {
        try Checkpoint.open(path).tensors.mapValues { $0.floats() }
    }

    @Test func thereAndBack() throws {
        let original = Golden.path("cross_attention-199999.pt")
        let (ours, again) = ("\(folder)/adapter.safetensors", "\(folder)/adapter.pt")
        let file = try AdapterFile(path: original)
        #expect(file.architecture == nil)
        #expect(file.sites.count == 5)
        try file.writeSafetensors(to: ours, architecture: .stableDiffusion2, title: "Backpacks")
        let written = try AdapterFile(path: ours)
        #expect(written.architecture == .stableDiffusion2)
        #expect(
            written.checkpoint.metadata == [
                "modelspec.sai_model_spec": "1.0.1", "modelspec.architecture": "stable-diffusion-v2-512/dreamcache",
                "modelspec.implementation": "DreamCache for Linux \(Version.current)", "modelspec.title": "Backpacks",
            ])
        try written.writeTorch(to: again)
        let (first, second, third) = (try values(original), try values(ours), try values(again))
        #expect(first.count == 45)
        #expect(first == second)
        #expect(first == third)
        #expect(try Checkpoint.open(again).format == .torchZip)
        // Written once more, the base need not be said again.
        try written.writeSafetensors(to: "\(folder)/half.safetensors", type: .f16)
        let half = try AdapterFile(path: "\(folder)/half.safetensors")
        #expect(half.architecture == .stableDiffusion2)
        #expect(half.checkpoint.tensors.values.allSatisfy { $0.elementType == .f16 })
    }

    @Test func theBaseMustBeKnown() throws {
        let file = try AdapterFile(path: Golden.path("cross_attention-199999.pt"))
        let error = try #require(throws: DreamCacheError.self) {
            try file.writeSafetensors(to: "\(folder)/adapter.safetensors")
        }
        #expect("\(error)".contains("architecture: found nothing"))
        #expect("\(error)".contains("stable-diffusion-v1 or stable-diffusion-v2-512"))
    }

    /// Stable Diffusion 1 and 2 have sites of the same shapes: there the metadata decides.
    @Test func anAdapterOfAnotherBaseOfEqualShapesIsRefusedByName() throws {
        let sites = [
            "middle_block.1": 1280, "output_blocks.4.1": 1280, "output_blocks.6.1": 640, "output_blocks.8.1": 640,
            "output_blocks.10.1": 320,
        ]
        func file(_ metadata: [String: String]) throws -> AdapterFile {
            var writer = SafetensorsWriter(metadata: metadata)
            for (site, channels) in sites {
                writer.add(
                    "diffusion_model.\(site).transformer_blocks.0.linear_cat.bias", type: .f16, shape: [channels],
                    floats: Array(repeating: 0, count: channels))
            }
            try writer.write(toPath: "\(folder)/adapter.safetensors")
            return try AdapterFile(path: "\(folder)/adapter.safetensors")
        }
        let silent = try file([:])
        for base in BaseArchitecture.allCases { try silent.check(sites: sites, base: base) }
        let first = try file(["modelspec.architecture": "stable-diffusion-v1/dreamcache"])
        try first.check(sites: sites, base: .stableDiffusion1)
        let error = try #require(throws: DreamCacheError.self) {
            try first.check(sites: sites, base: .stableDiffusion2)
        }
        let channels =
            "(1280 channels; middle_block.1 1280, output_blocks.4.1 1280, output_blocks.6.1 640, "
            + "output_blocks.8.1 640, output_blocks.10.1 320)"
        #expect(
            "\(error)"
                == "\(folder)/adapter.safetensors: adapter: found an adapter for Stable Diffusion 1 \(channels), "
                + "expected one for the model, which is Stable Diffusion 2 \(channels)")
    }

    @Test func anAdapterRunsInEitherFormat() throws {
        let original = Golden.path("cross_attention-199999.pt")
        try AdapterFile(path: original).writeSafetensors(
            to: "\(folder)/adapter.safetensors", architecture: .stableDiffusion2)
        let model = try StableDiffusion.load(
            checkpoint: Golden.path("tiny-sd2.ckpt"), engine: try Engine(path: .openBLAS))
        for path in [original, "\(folder)/adapter.safetensors"] {
            let adapter = try Adapter(path: path, for: model, engine: model.engine)
            #expect(adapter.sites.count == 5)
        }
    }

    @Test func basesAreRecognised() {
        var configuration = ModelConfiguration()
        #expect(configuration.architecture == .stableDiffusion2)
        configuration.schedule.predictionType = .vPrediction
        #expect(configuration.architecture == .stableDiffusion2v)
        configuration.unet = .stableDiffusion1
        #expect(configuration.architecture == .stableDiffusion1)
        configuration.unet.modelChannels = 32
        #expect(configuration.architecture == nil)
    }

    // MARK: Models

    @Test(arguments: [StoredElementType.f16, .bf16, .f32])
    func aCheckpointInAnotherPrecision(_ type: StoredElementType) throws {
        let (source, target) = (Family("sd1").path("single.ckpt"), "\(folder)/model.safetensors")
        try Conversion.checkpoint(source, to: target, type: type)
        let (old, new) = (try Checkpoint.open(source), try Checkpoint.open(target))
        #expect(new.format == .safetensors)
        #expect(Set(old.tensors.keys) == Set(new.tensors.keys))
        for (name, tensor) in new.tensors {
            let original = try #require(old.tensors[name])
            #expect(tensor.shape == original.shape)
            #expect(tensor.elementType == (original.elementType.isFloat ? type : original.elementType))
            #expect(relativeError(tensor.floats(), original.floats()) < (type == .bf16 ? 4e-3 : 1e-7))
        }
    }

    @Test func aFolderBecomesOneFileAPart() throws {
        let family = Family("sd2")
        let target = "\(folder)/converted"
        try Conversion.checkpoint(family.folder, to: target, type: .f32)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: "\(target)/unet").sorted() == [
                "config.json", "diffusion_pytorch_model.safetensors",
            ])
        let models = try [family.folder, target].map {
            try StableDiffusion.load(checkpoint: $0, engine: try Engine(path: .openBLAS))
        }
        #expect(models[0].configuration == models[1].configuration)
        let states = try models.map { $0.engine.floats(try $0.encode(prompt: "a backpack")) }
        #expect(states[0] == states[1])
        #expect(throws: DreamCacheError.self) {
            try Conversion.checkpoint(family.folder, to: target, type: .f32)
        }
    }

    /// Finding 11: what fails leaves nothing that is in the way of the next attempt.
    @Test func aFolderThatFailsIsTriedAgain() throws {
        let (source, target) = ("\(folder)/source", "\(folder)/converted")
        try FileManager.default.copyItem(atPath: Family("sd2").folder, toPath: source)
        // The last part of the model is found to be damaged when the others are written already.
        let weights = "\(source)/text_encoder/model.safetensors"
        let sound = try Data(contentsOf: URL(fileURLWithPath: weights))
        try sound.prefix(100).write(to: URL(fileURLWithPath: weights))
        #expect(throws: DreamCacheError.self) { try Conversion.checkpoint(source, to: target, type: .f16) }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["source"])
        try sound.write(to: URL(fileURLWithPath: weights))
        try Conversion.checkpoint(source, to: target, type: .f16)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["converted", "source"])
        _ = try StableDiffusion.load(checkpoint: target, engine: try Engine(path: .openBLAS))
    }

    @Test func numbersTooLargeForHalfPrecisionAreRefused() throws {
        var writer = SafetensorsWriter()
        writer.add("a", type: .f32, shape: [2], floats: [1, 7e4])
        let (source, target) = ("\(folder)/large.safetensors", "\(folder)/half.safetensors")
        try writer.write(toPath: source)
        let error = try #require(throws: DreamCacheError.self) {
            try Conversion.checkpoint(source, to: target, type: .f16)
        }
        #expect("\(error)" == "\(target): a: found a number beyond 65504, expected BF16 or F32 for this model")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["large.safetensors"])
    }
}
