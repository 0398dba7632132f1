import Checkpoint
import DreamCache
import Foundation
import Golden
import Raster
import Spool
import TensorEngine
import Testing

@testable import Application

/// The spool's requests, carried out on the tiny model.
@Suite final class JobRunnerTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("runner-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(at: folder) }

    private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

    /// - Parameter checkpoint: of the model `tiny`.
    private func settings(
        checkpoint: String = Golden.path("tiny-sd2.ckpt"), adapter: String? = nil, _ more: String = ""
    ) throws -> Settings {
        let yaml = """
            spool:
              path: \(path("spool"))
            models:
              tiny:
                checkpoint: \(checkpoint)
                yaml: \(Golden.path("tiny-sd2.yaml"))
            \(adapter.map { "    adapter: \($0)" } ?? "")
            compute: openblas
            \(more)
            """
        try Data(yaml.utf8).write(to: folder.appendingPathComponent("config.yaml"))
        return try Settings(file: path("config.yaml"), environment: [:])
    }

    private func manifest(_ more: String = "") throws -> JobManifest {
        try JobManifest.parse(
            Array(#"{"prompt": "a backpack", "seed": 7, "num_inference_steps": 3\#(more)}"#.utf8),
            subjectRequired: false)
    }

    private func request(
        _ manifest: JobManifest, _ name: String, caches: [CacheUse] = []
    ) -> RenderRequest {
        RenderRequest(
            job: nil, manifest: manifest, image: manifest.images(seed: 7)[0], caches: caches, output: path(name))
    }

    @discardableResult
    private func render(
        _ runner: JobRunner, _ request: RenderRequest, checkpoint: CheckpointSlot = .none,
        shouldStop: () -> Bool = { false }
    ) throws -> RenderedImage {
        try runner.render(request, checkpoint: checkpoint, progress: { _ in }, shouldStop: shouldStop)
    }

    /// The adapter of the tiny model with all of its numbers multiplied.
    private func writeAdapter(_ name: String, times factor: Float) throws -> String {
        var writer = SafetensorsWriter()
        for tensor in try Checkpoint.open(Golden.path("cross_attention-199999.pt")).tensors.values {
            writer.add(tensor.name, type: .f32, shape: tensor.shape, floats: tensor.floats().map { $0 * factor })
        }
        try writer.write(toPath: path(name))
        return path(name)
    }

    // MARK: Identity

    /// Another adapter put under the same name while the daemon runs is another model: it is loaded, the identity says so, and
    /// an unfinished image of the first one begins anew.
    @Test func anotherFileUnderTheSameNameIsAnotherModel() throws {
        let adapter = try writeAdapter("adapter.safetensors", times: 1)
        let runner = JobRunner(try settings(adapter: adapter))
        var ticks = 0
        func identity() throws -> String {
            try runner.identity(model: nil, progress: { _ in ticks += 1 }, shouldStop: { false })
        }
        let first = try identity()
        #expect(ticks > 2)
        #expect(try identity() == first)
        let kept = Kept()
        let report = try render(runner, request(try manifest(), "a.png"), checkpoint: kept.slot)
        #expect(report.metadata["identity"] == first)
        let state = try #require(kept.states.first)
        kept.loaded = state.bytes

        #expect(rename(try writeAdapter("other.safetensors", times: 2), adapter) == 0)
        let second = try identity()
        #expect(second != first)
        kept.states = []
        try render(runner, request(try manifest(), "b.png"), checkpoint: kept.slot)
        #expect(kept.states.map(\.step) == [1, 2, 3])
        // The second model's own state is gone on with.
        kept.loaded = kept.states[1].bytes
        kept.states = []
        try render(runner, request(try manifest(), "c.png"), checkpoint: kept.slot)
        #expect(kept.states.map(\.step) == [3])
        #expect(
            try Data(contentsOf: folder.appendingPathComponent("b.png"))
                == Data(contentsOf: folder.appendingPathComponent("c.png")))
    }

    @Test func aReloadChangesTheComputePathOfTheNextPieceOfWork() throws {
        let runner = JobRunner(try settings())
        func identity() throws -> String {
            try runner.identity(model: nil, progress: { _ in }, shouldStop: { false })
        }
        let first = try identity()
        var changed = try settings()
        changed.compute = .openBLASBF16
        changed.threads = 1
        runner.reload(changed)
        #expect(try identity() != first)
        #expect(try identity().contains("openblas-bf16"))
    }

    /// Where an unfinished state goes, for tests.
    private final class Kept: @unchecked Sendable {
        // Used by the one thread of the test.
        var loaded: [UInt8]?
        var states: [(step: Int, bytes: [UInt8])] = []
        var isDue = true

        var slot: CheckpointSlot {
            CheckpointSlot(
                load: { self.loaded }, isDue: { self.isDue }, save: { self.states.append(($1, $0)) })
        }
    }

    // MARK: Stopping

    /// What was done before a stop is kept, whether or not it was time.
    @Test func aStopKeepsTheStepsBefore() throws {
        let runner = JobRunner(try settings())
        let kept = Kept()
        kept.isDue = false
        var step = 0
        let request = request(try manifest(), "a.png")
        let error = #expect(throws: RendererError.self) {
            try runner.render(
                request, checkpoint: kept.slot, progress: { step = $0.phase == "denoising" ? $0.step : 0 },
                shouldStop: { step == 2 })
        }
        #expect(error == .stopped)
        // A stop is heard in the middle of a step that takes long, and else at its end.
        #expect([[2], [3]].contains(kept.states.map(\.step)))
    }

    @Test func loadingIsStoppedAndReported() throws {
        let runner = JobRunner(try settings())
        var phases: [String] = []
        let error = #expect(throws: RendererError.self) {
            try runner.cacheIdentity(
                model: nil, settings: CacheSettings(), progress: { phases.append($0.phase) },
                shouldStop: { phases.contains("checking weights") })
        }
        #expect(error == .stopped && phases.contains("hashing the model"))
    }

    // MARK: What is wrong

    @Test func weightsThatAreNoNumbersAreNamed() throws {
        let name = "model.diffusion_model.middle_block.1.proj_in.weight"
        var writer = SafetensorsWriter()
        for tensor in try Checkpoint.open(Golden.path("tiny-sd2.ckpt")).tensors.values {
            var values = tensor.floats()
            if tensor.name == name { values[0] = .nan }
            writer.add(tensor.name, type: .f32, shape: tensor.shape, floats: values)
        }
        try writer.write(toPath: path("nan.safetensors"))
        let runner = JobRunner(try settings(checkpoint: path("nan.safetensors")))
        let error = #expect(throws: RendererError.self) { try render(runner, request(try manifest(), "a.png")) }
        guard case .unavailable(let message) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(message.contains("tensor \(name): found NaN at [0, 0"), "\(message)")
        #expect(!FileManager.default.fileExists(atPath: path("a.png")))
    }

    /// A damaged `.dcache` is made again; so it is named, and neither the request nor the model is at fault.
    @Test func aDamagedCacheIsTransientAndNamed() throws {
        let adapter = Golden.path("cross_attention-199999.pt")
        let pipeline = try Pipeline(
            files: try #require(try settings(adapter: adapter).models["tiny"]), path: .openBLAS)
        let picture = try Raster.decode(path: Golden.path("reference.png"))
        try pipeline.makeCache(of: [picture], subject: "it", options: CacheOptions()).write(toPath: path("it.dcache"))
        let whole = try Data(contentsOf: folder.appendingPathComponent("it.dcache"))
        let runner = JobRunner(try settings(adapter: adapter))
        let use = CacheUse(subject: "it", imageScale: 1, path: path("it.dcache"))
        try render(runner, request(try manifest(), "whole.png", caches: [use]))
        var flipped = whole
        flipped[whole.count - 5] ^= 1
        for (number, damage) in [Data(), whole.prefix(100), whole.dropLast(), flipped, nil].enumerated() {
            try? FileManager.default.removeItem(atPath: use.path)
            if let damage { try damage.write(to: folder.appendingPathComponent("it.dcache")) }
            let error = #expect(throws: RendererError.self) {
                try render(runner, request(try manifest(), "\(number).png", caches: [use]))
            }
            guard case .transient(let message) = error else {
                Issue.record("\(number): \(String(describing: error))")
                continue
            }
            #expect(message.contains("it.dcache"))
        }
    }

    @Test func aMissingModelIsUnavailableUntilItIsThere() throws {
        let runner = JobRunner(try settings(checkpoint: path("later.ckpt")))
        let error = #expect(throws: RendererError.self) { try render(runner, request(try manifest(), "a.png")) }
        guard case .unavailable(let message) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(message.contains("later.ckpt"))
        try FileManager.default.copyItem(atPath: Golden.path("tiny-sd2.ckpt"), toPath: path("later.ckpt"))
        try render(runner, request(try manifest(), "a.png"))
    }

    /// A manifest that names no model is refused where none is the default. Photos and jobs that were accepted wait for one.
    @Test func aModelThatIsNotConfiguredIsNoFaultOfPhotos() throws {
        let runner = JobRunner(try settings())
        var two = try settings()
        two.models["other"] = two.models["tiny"]
        two.defaultModel = nil
        runner.reload(two)
        let refused = #expect(throws: RendererError.self) { try runner.check(try manifest()) }
        guard case .rejected("$.model", _) = refused else {
            Issue.record("\(String(describing: refused))")
            return
        }
        let held = #expect(throws: RendererError.self) { try render(runner, request(try manifest(), "a.png")) }
        guard case .unavailable(let message) = held else {
            Issue.record("\(String(describing: held))")
            return
        }
        #expect(message.contains("expected one of other, tiny"))
        runner.reload(try settings())
        try render(runner, request(try manifest(), "a.png"))
    }

    @Test func aMemoryLimitThatLeavesNothingHoldsTheJobAndSaysWhy() throws {
        var low = try settings()
        low.memoryLimit = 1 << 20
        let runner = JobRunner(low)
        let error = #expect(throws: RendererError.self) { try render(runner, request(try manifest(), "a.png")) }
        guard case .environment(let message) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(message.contains("memory_limit"))
        runner.reload(try settings())
        try render(runner, request(try manifest(), "a.png"))
    }

    // MARK: Contact sheets

    @Test func aSheetReportsAndCanBeStopped() throws {
        let runner = JobRunner(try settings())
        let images = try (0..<6).map { number in
            let picture = Raster(width: 32, height: 32, color: (UInt8(number), 9, 9))
            try Data(try picture.encodedPNG()).write(to: folder.appendingPathComponent("\(number).png"))
            return path("\(number).png")
        }
        let manifest = try manifest(#", "num_images_per_prompt": 6"#)
        var steps: [Int] = []
        let stopped = #expect(throws: RendererError.self) {
            try runner.makeGrid(
                GridRequest(manifest: manifest, images: images, output: path("grid.png")),
                progress: { steps.append($0.step) }, shouldStop: { steps.count == 3 })
        }
        #expect(stopped == .stopped && steps == [0, 1, 2])
        #expect(!FileManager.default.fileExists(atPath: path("grid.png")))
        try runner.makeGrid(
            GridRequest(manifest: manifest, images: images, output: path("grid.png")), progress: { _ in },
            shouldStop: { false })
        let sheet = try Raster.decode(path: path("grid.png"))
        #expect(sheet.width > 3 * 32 && sheet.height > 2 * 32)
    }

    @Test func threadsThatCannotBeHadAreTheMachinesTrouble() {
        #expect(throws: Never.self) { try ThreadProbe.check(3) }
        let error = #expect(throws: RendererError.self) { try ThreadProbe.check(3, stackSize: 1 << 50) }
        guard case .environment(let message) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(message.contains("threads"))
    }
}
