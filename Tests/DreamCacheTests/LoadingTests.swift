import Checkpoint
import Diffusion
import Foundation
import Golden
import TensorEngine
import Testing

@testable import DreamCache

/// What happens while a model is loaded, and what is then known of it.
@Suite final class LoadingTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("loading-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// The tiny model as one safetensors file, with its yaml beside it.
    private func model(
        _ name: String = "model", change: (StoredTensor, inout SafetensorsWriter) -> Void = { $1.add($0) }
    ) throws -> ModelFiles {
        var writer = SafetensorsWriter()
        for tensor in try Checkpoint.open(Golden.path("tiny-sd2.ckpt")).tensors.values { change(tensor, &writer) }
        let path = folder.appendingPathComponent("\(name).safetensors").path
        try writer.write(toPath: path)
        return ModelFiles(checkpoint: path, yaml: Golden.path("tiny-sd2.yaml"))
    }

    private func request(steps: Int = 3) -> ImageRequest {
        var request = ImageRequest(prompt: "a backpack", seed: 7)
        request.steps = steps
        return request
    }

    /// Loading is stopped wherever it is, and says before what it was doing.
    @Test func everyPhaseOfLoadingCanBeStopped() throws {
        let files = try model()
        var phases: [String] = []
        _ = try Pipeline(
            files: files, path: .openBLAS, weightsFolder: folder.path, progress: { phase, _, _ in phases.append(phase) }
        )
        let all = Set(phases)
        #expect(all.isSuperset(of: ["hashing the model", "loading the model", "checking weights"]))
        for phase in all {
            let place = folder.appendingPathComponent(UUID().uuidString)
            try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
            var isThere = false
            let error = #expect(throws: DreamCacheError.self) {
                try Pipeline(
                    files: files, path: .openBLAS, weightsFolder: place.path,
                    progress: { now, _, _ in isThere = isThere || now == phase }, shouldStop: { isThere })
            }
            guard case .stopped = error else {
                Issue.record("\(phase): \(String(describing: error))")
                continue
            }
        }
    }

    /// One denoising step may take minutes, its weights' conversion too: every product in it reports and can be stopped, and
    /// the steps before it are kept.
    @Test func aStepIsStoppedInItsMiddle() throws {
        let pipeline = try Pipeline(files: try model(), path: .openBLAS)
        let undisturbed = try pipeline.generate(request())
        var saved: [UInt8]?
        var step = -1
        var asked = 0
        let error = #expect(throws: DreamCacheError.self) {
            try pipeline.generate(
                request(), progress: { phase, now, _ in if phase == "denoising" { step = now } },
                checkpoint: { _, state in saved = state() },
                shouldStop: {
                    // Once to begin step 1; the next time is a product's.
                    if step == 1 { asked += 1 }
                    if step == 0 { usleep(1000) }
                    return step == 1 && asked > 0
                })
        }
        guard case .stopped = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let state = try #require(saved)
        #expect(try pipeline.generate(request(), resume: state) == undisturbed)
    }

    @Test func notANumberIsRefusedByTensorWhenTheModelIsLoaded() throws {
        let name = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
        for (value, says) in [(Float.nan, "NaN"), (.infinity, "infinity"), (-.infinity, "-infinity")] {
            let files = try model { tensor, writer in
                guard tensor.name == name else {
                    writer.add(tensor)
                    return
                }
                var values = tensor.floats()
                values[tensor.shape[1] + 2] = value
                writer.add(name, type: .f32, shape: tensor.shape, floats: values)
            }
            let error = try #require(throws: DreamCacheError.self) { try Pipeline(files: files, path: .openBLAS) }
            #expect("\(error)".contains("tensor \(name): found \(says) at [1, 2]"), "\(error)")
            #expect("\(error)".contains(files.checkpoint))
        }
    }

    /// Weights that are numbers can still lead to none.
    @Test func aLatentThatIsNotFiniteEndsTheWorkByName() throws {
        let pipeline = try Pipeline(files: try model(), path: .openBLAS)
        var request = request()
        request.guidance.guidanceScale = 1e38
        let error = try #require(throws: DreamCacheError.self) { try pipeline.generate(request) }
        guard case .notFinite(let what, _) = error else {
            Issue.record("\(error)")
            return
        }
        #expect(what.hasPrefix("the latent at step "), "\(what)")
    }

    /// Equal files give equal identities, whatever they are called; whatever changes a picture changes it.
    @Test func theIdentityNamesAllThatAPictureDependsOn() throws {
        let plain = try model()
        func identity(_ files: ModelFiles, _ path: ComputePath = .openBLAS) throws -> String {
            try Pipeline(files: files, path: path).identity
        }
        let first = try identity(plain)
        #expect(try identity(try model("other name")) == first)
        #expect(!first.contains(folder.path) && !first.contains("\n"))
        var others: [String] = []
        others.append(try identity(plain, .openBLASBF16))
        var adapted = plain
        adapted.adapter = Golden.path("cross_attention-199999.pt")
        others.append(try identity(adapted))
        // Another adapter under the same name.
        let adapter = folder.appendingPathComponent("adapter.safetensors").path
        for factor: Float in [1, 2] {
            var writer = SafetensorsWriter()
            for tensor in try Checkpoint.open(Golden.path("cross_attention-199999.pt")).tensors.values {
                writer.add(tensor.name, type: .f32, shape: tensor.shape, floats: tensor.floats().map { $0 * factor })
            }
            try writer.write(toPath: adapter)
            adapted.adapter = adapter
            others.append(try identity(adapted))
        }
        var typed = plain
        typed.predictionType = .vPrediction
        others.append(try identity(typed))
        var skipping = plain
        skipping.clipSkip = 1
        others.append(try identity(skipping))
        var described = plain
        described.yaml = folder.appendingPathComponent("other.yaml").path
        let yaml = try String(contentsOfFile: Golden.path("tiny-sd2.yaml"), encoding: .utf8) + "\n# another\n"
        try Data(yaml.utf8).write(to: folder.appendingPathComponent("other.yaml"))
        others.append(try identity(described))
        others.append(
            try identity(
                try model("damaged") { tensor, writer in
                    if tensor.name == "model.diffusion_model.out.2.bias" {
                        writer.add(
                            tensor.name, type: .f32, shape: tensor.shape, floats: tensor.floats().map { $0 + 1 })
                    } else {
                        writer.add(tensor)
                    }
                }))
        #expect(Set(others + [first]).count == others.count + 1)
    }

    @Test func aLoRAAndItsWeightAreInTheIdentity() throws {
        let family = Family("sd2")
        var files = ModelFiles(checkpoint: family.folder)
        var all: Set<String> = [try Pipeline(files: files, path: .openBLAS).identity]
        for weight in [1, 0.5] {
            files.loras = [LowRankFile(path: family.path("kohya.safetensors"), weight: weight)]
            all.insert(try Pipeline(files: files, path: .openBLAS).identity)
        }
        #expect(all.count == 3)
    }

    /// An image whose model was exchanged in its middle begins anew.
    @Test func anotherModelsStateIsRefused() throws {
        let plain = try Pipeline(files: try model(), path: .openBLAS)
        var files = try model()
        files.adapter = Golden.path("cross_attention-199999.pt")
        let adapted = try Pipeline(files: files, path: .openBLAS)
        var states: [[UInt8]] = []
        let picture = try adapted.generate(request(), checkpoint: { _, state in states.append(state()) })
        var steps: [Int] = []
        _ = try plain.generate(
            request(), resume: states[1], progress: { phase, step, _ in if phase == "denoising" { steps.append(step) } }
        )
        #expect(steps.first == 0)
        steps = []
        #expect(
            try adapted.generate(
                request(), resume: states[1],
                progress: { phase, step, _ in if phase == "denoising" { steps.append(step) } }) == picture)
        #expect(steps.first == 2)
    }

    // MARK: Memory

    /// Near the limit the parts of the model take turns in memory, with the same picture; below what one part needs, the work
    /// ends by name.
    @Test func aMemoryLimitIsKept() throws {
        let pipeline = try Pipeline(files: try model(), path: .openBLAS)
        let engine = pipeline.model.engine
        let picture = try pipeline.generate(request())
        // What is left when all parts have been used; the work of each part needs more than that for a while.
        let held = engine.memoryHeld
        var least: Int?
        var refused: Int?
        for percent in [1200, 800, 500, 300, 200, 150, 100, 60] where refused == nil {
            let next = try Pipeline(files: try model(), path: .openBLAS)
            let limit = held * percent / 100
            next.model.engine.memoryLimit = limit
            do {
                #expect(try next.generate(request()) == picture)
                #expect(next.model.engine.memoryHeld <= limit)
                least = percent
            } catch {
                #expect("\(error)".contains("the memory limit leaves"), "\(error)")
                refused = percent
            }
        }
        print("memory limit: \(held >> 10) KiB held; least \(least ?? 0) per cent, refused at \(refused ?? 0)")
        #expect(least != nil && refused != nil)
    }
}
