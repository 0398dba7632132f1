import Checkpoint
import Diffusion
import DreamCache
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import Training

/// Small real runs: the tiny model, made-up pictures, a few steps.
@Suite struct RunTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        try Disc.write(folder, objects: 2, views: 2)
    }

    private static func settings(_ change: (inout TrainingSettings) -> Void = { _ in }) -> TrainingSettings {
        var settings = TrainingSettings()
        (settings.steps, settings.batchSize, settings.warmupSteps, settings.learningRate) = (3, 2, 2, 1e-3)
        (settings.validationSteps, settings.validationSamples, settings.saveSeconds) = (0, 2, 0)
        (settings.validationShare, settings.referenceVariants, settings.milestoneSteps) = (0.5, 1, 0)
        change(&settings)
        return settings
    }

    private func run(
        _ name: String, _ settings: TrainingSettings, path: ComputePath = .openBLAS,
        progress: (TrainingProgress) -> Void = { _ in }, shouldStop: @escaping () -> Bool = { false }
    ) throws -> TrainingResult {
        let files = ModelFiles(checkpoint: Golden.path("tiny-sd2.ckpt"))
        let pipeline = try Pipeline(files: files, path: path)
        let places = TrainingRun.Places(
            data: folder.path("data"), output: folder.path("\(name).safetensors"), run: folder.path(name),
            prepared: folder.path("prepared"))
        let run = TrainingRun(
            places, settings: settings, pipeline: pipeline,
            base: { () throws(TrainingError) in try files.parameters(engine: pipeline.model.engine) },
            read: { try Raster.decode(path: $0) })
        return try run.run(progress: progress, shouldStop: shouldStop)
    }

    private func bytes(_ name: String) throws -> Data {
        try Data(contentsOf: URL(fileURLWithPath: folder.path("\(name).safetensors")))
    }

    @Test func theResultIsAnAdapterThatSaysHowItWasMade() throws {
        let result = try run("whole", Self.settings { $0.validationSteps = 2 })
        #expect(result.steps == 3 && result.validation?.step == 3)
        let file = try AdapterFile(path: folder.path("whole.safetensors"))
        #expect(file.checkpoint.metadata["dreamcache.training_steps"] == "3")
        let settings = try TrainingSettings(
            yaml: file.checkpoint.metadata["dreamcache.training_settings"] ?? "", source: "metadata")
        #expect(settings.learningRate == 1e-3)
        let lines = try String(contentsOfFile: folder.path("whole/train.jsonl"), encoding: .utf8)
        #expect(lines.split(separator: "\n").count == 3 + 3)
        let pipeline = try Pipeline(files: ModelFiles(checkpoint: Golden.path("tiny-sd2.ckpt")), path: .openBLAS)
        _ = try Adapter(path: folder.path("whole.safetensors"), for: pipeline.model, engine: pipeline.model.engine)
        // The authors' format of it.
        try file.writeTorch(to: folder.path("whole.pt"))
        #expect(try AdapterFile(path: folder.path("whole.pt")).sites == file.sites)
    }

    /// Pictures change nothing that is trained; a run stopped while it draws goes on, and draws the same.
    @Test func milestonesShowTheSameSubjects() throws {
        let settings = Self.settings { ($0.steps, $0.milestoneSteps, $0.milestoneImageScale) = (2, 1, 4) }
        let result = try run("drawn", settings)
        _ = try run("plain", Self.settings { $0.steps = 2 })
        let (drawn, plain) = (
            try Checkpoint.open(folder.path("drawn.safetensors")), try Checkpoint.open(folder.path("plain.safetensors"))
        )
        for (name, tensor) in plain.tensors { #expect(drawn.tensors[name]?.floats() == tensor.floats()) }
        let milestone = try #require(result.milestone)
        #expect(milestone.step == 2 && milestone.match > 0 && milestone.match <= 1)
        #expect(drawn.metadata["dreamcache.subject_match"] == "\(milestone.match) at step 2")
        let log = try TrainingLog(path: folder.path("drawn/train.jsonl"), upTo: 2)
        #expect(log.milestones.map(\.step) == [1, 2] && log.milestones.last == milestone && log.steps.count == 2)
        let sheets = ["00000001.png", "00000002.png"].map { "milestones/\($0)" }
        for sheet in sheets {
            let picture = try Raster.decode(path: folder.path("drawn/\(sheet)"))
            // The reference beside the picture.
            #expect(picture.width > 2 * 128 && picture.height > 128)
        }

        var isDrawing = false
        #expect(throws: TrainingError.self) {
            _ = try run("cut", settings, progress: { isDrawing = $0.phase.contains("milestone") }) { isDrawing }
        }
        #expect(!FileManager.default.fileExists(atPath: folder.path("cut/\(sheets[0])")))
        _ = try run("cut", settings)
        #expect(try bytes("cut") == bytes("drawn"))
        for sheet in sheets {
            #expect(
                FileManager.default.contentsEqual(
                    atPath: folder.path("cut/\(sheet)"), andPath: folder.path("drawn/\(sheet)")))
        }
    }

    /// Stopped at any product of any step, twice, then gone on with; on one thread and on two, with and without validation: the
    /// bytes are the same.
    @Test func whateverDisturbsARunItsAdapterIsTheSame() throws {
        _ = try run("whole", Self.settings())
        let whole = try bytes("whole")
        for (index, stops) in [[90, 900], [1300]].enumerated() {
            let name = "cut-\(index)"
            for stop in stops {
                var (asked, isTraining) = (0, false)
                #expect(throws: TrainingError.self) {
                    _ = try run(
                        name, Self.settings { $0.saveSeconds = 1000 },
                        progress: { isTraining = $0.phase != "preparing captions" }
                    ) {
                        asked += isTraining ? 1 : 0
                        return asked > stop
                    }
                }
            }
            _ = try run(name, Self.settings { $0.validationSteps = index + 1 })
            // What was validated is said in the metadata.
            let (a, b) = (
                try Checkpoint.open(folder.path("\(name).safetensors")),
                try Checkpoint.open(folder.path("whole.safetensors"))
            )
            for (key, tensor) in a.tensors { #expect(tensor.floats() == b.tensors[key]?.floats()) }
        }
        let threads = Engine.threadCount
        defer { Engine.threadCount = threads }
        Engine.threadCount = threads == 1 ? 2 : 1
        _ = try run("threads", Self.settings())
        #expect(try bytes("threads") == whole)
    }

    @Test func aRunLearns() throws {
        var losses: [Double] = []
        _ = try run(
            "learns",
            Self.settings { settings in
                (settings.steps, settings.batchSize, settings.averageDecay) = (10, 3, 0.5)
                (settings.validationSteps, settings.validationSamples, settings.start) = (5, 5, "random")
            })
        for line in try String(contentsOfFile: folder.path("learns/train.jsonl"), encoding: .utf8).split(
            separator: "\n")
        {
            let entry = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            if let validation = entry?["validation"] as? [String: Any] {
                losses.append(validation["error"] as? Double ?? 0)
            }
        }
        #expect(losses.count == 3)
        #expect(losses[2] < losses[0])
    }

    @Test func statesOfOtherRunsAreRefused() throws {
        _ = try run("first", Self.settings { $0.steps = 1 })
        // Longer is no other run; another rate is.
        #expect(try run("first", Self.settings { $0.steps = 2 }).steps == 2)
        func message(_ settings: TrainingSettings) -> String {
            do {
                _ = try run("first", settings)
                return ""
            } catch { return "\(error)" }
        }
        #expect(
            message(Self.settings { $0.learningRate = 1e-4 }).contains("learning_rate: found 0.0001, expected 0.001"))
        try folder.write("data/object-0/0_caption.txt", "another caption")
        #expect(message(Self.settings()).contains("dreamcache.training.data_sha256"))
        let state = folder.path("first/state.safetensors")
        let bytes = try Data(contentsOf: URL(fileURLWithPath: state))
        // In a tensor, and in the number of steps beside them.
        let step = try #require(bytes.range(of: Data(#"training.step":"2""#.utf8))).upperBound - 2
        for place in [bytes.count - 5, step] {
            var damaged = bytes
            damaged[place] ^= 1
            try damaged.write(to: URL(fileURLWithPath: state))
            #expect(message(Self.settings()).contains("dreamcache.training.content_sha256"))
        }
    }

    @Test func damagedPreparedDataIsMadeAgain() throws {
        _ = try run("first", Self.settings { $0.steps = 2 })
        let prepared = URL(fileURLWithPath: folder.path("prepared"))
        var count = 0
        for case let file as URL in try #require(
            FileManager.default.enumerator(at: prepared, includingPropertiesForKeys: nil))
        where file.pathExtension == "dcache" || file.pathExtension == "safetensors" {
            var bytes = try Data(contentsOf: file)
            bytes[bytes.count - 3] ^= 4
            try bytes.write(to: file)
            count += 1
        }
        #expect(count == 5 + 4 + 4)
        _ = try run("second", Self.settings { $0.steps = 2 })
        #expect(try bytes("first") == bytes("second"))
    }

    /// A loss that is no number ends the run, and the state before it stays.
    @Test func divergence() throws {
        // Parameters of 10^30: their products leave the range of numbers.
        let wild = Self.settings { settings in
            (settings.learningRate, settings.warmupSteps, settings.weightDecay) = (1e30, 0, 0)
        }
        var last = 0
        let error = #expect(throws: TrainingError.self) {
            _ = try run("wild", wild, progress: { if $0.phase == "training" { last = $0.step } })
        }
        guard case .diverged? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let state = try Checkpoint.open(folder.path("wild/state.safetensors"))
        let step = Int(state.metadata["dreamcache.training.step"] ?? "") ?? -1
        #expect((0...last).contains(step))
        #expect(state.tensors.values.allSatisfy { $0.floats().allSatisfy(\.isFinite) })
        #expect(!FileManager.default.fileExists(atPath: folder.path("wild.safetensors")))
    }

    @Test func aJumpOfTheLossIsSeen() {
        var history = LossHistory()
        for _ in 0..<Trainer.window { history.add(0.1) }
        #expect(history.rise == 1)
        for _ in 0..<Trainer.window / 2 { history.add(0.5) }
        #expect(abs(history.rise - 3) < 1e-9)
        #expect(abs(history.lowest - 0.1) < 1e-12)
        let kept = LossHistory(recent: history.recent, lowest: history.lowest)
        #expect(kept == history)
    }

    /// A random model's pictures are noise, in which a segmenter finds nothing that it is sure of: all are left out, and none is made
    /// twice.
    @Test func dataSetsOfTheBaseItself() throws {
        #expect(
            DatasetCreation.captions(classes: ["backpack", "owl"], scenes: ["on the beach"])
                == ["a photo of a backpack, on the beach", "a photo of an owl, on the beach"])
        let pipeline = try Pipeline(files: ModelFiles(checkpoint: Golden.path("tiny-sd2.ckpt")), path: .openBLAS)
        let plan = DatasetCreation.Plan(captions: ["a backpack", "a cup"], seed: 3, steps: 1, guidanceScale: 1)
        func make() throws -> (kept: Int, dropped: [Int], named: Set<String>) {
            var dropped: [Int] = []
            let kept = try DatasetCreation(pipeline, folder: folder.path("made")).make(
                plan, progress: { _, _, _ in }, dropped: { number, _ in dropped.append(number) }, shouldStop: { false })
            let names = try FileManager.default.contentsOfDirectory(atPath: folder.path("made"))
            return (kept, dropped, Set(names))
        }
        let first = try make()
        #expect(first.kept + first.dropped.count == 2 && first.named.count == 2)
        let second = try make()
        #expect(second.kept == first.kept && second.dropped.isEmpty && second.named == first.named)
        if first.kept > 0 { #expect(try Dataset(folder: folder.path("made")).views.count == first.kept) }
    }

    @Test func twoRunsDoNotShareAFolder() throws {
        let held = try RunFolder(folder.path("shared"))
        let error = #expect(throws: TrainingError.self) { _ = try run("shared", Self.settings()) }
        #expect("\(error.map { "\($0)" } ?? "")".contains("a run at work in it"))
        _ = held
    }
}
