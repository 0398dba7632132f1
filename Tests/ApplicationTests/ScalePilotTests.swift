import Checkpoint
import DreamCache
import Foundation
import Golden
import Raster
import Spool
import TensorEngine
import Testing

@testable import Application

/// `image_scale: auto`: what a pilot chooses, and that nothing but its cost depends on how it went.
@Suite final class ScalePilotTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("pilot-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(at: folder) }

    private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    private func bytes(_ name: String) throws -> Data { try Data(contentsOf: folder.appendingPathComponent(name)) }

    // MARK: The criterion

    private func choice(_ subject: [Double], _ text: [Double]? = nil) -> Double {
        ScalePilot.choice(
            zip(ScalePilot.scales, subject).enumerated().map { index, pair in
                var scores = ["subject": pair.1]
                scores["text"] = text?[index]
                return Tuning.Trial(imageScale: pair.0, scores: scores)
            })
    }

    /// Where the score grows a little with every scale, as it does for pictures that come to repeat the photo, the largest is
    /// not chosen.
    @Test func theSmallestScaleThatIsEnoughIsChosen() {
        #expect(choice([0.5, 0.6, 0.7, 0.8, 0.88, 0.9, 0.91]) == 2)
        // It breaks at large scales.
        #expect(choice([0.5, 0.6, 0.7, 0.9, 0.8, 0.6, 0.4]) == 1)
        // Nothing helps.
        #expect(choice([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]) == 0)
        #expect(choice([0.5, 0.4, 0.3, 0.2, 0.2, 0.2, 0.2]) == 0)
        #expect(choice([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.9]) == 8)
    }

    @Test func aScaleThatLosesThePromptDoesNotCount() {
        let subject = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]
        #expect(choice(subject, [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]) == 8)
        #expect(choice(subject, [0.3, 0.3, 0.3, 0.29, 0.28, 0.2, 0.1]) == 2)
        #expect(choice(subject, [0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]) == 0)
    }

    @Test func twoPromptsStandForAll() throws {
        let manifest = try JobManifest.parse(
            Array(#"{"prompts": ["a", "b", "c", "d"], "num_images_per_prompt": 3, "image_scale": "auto"}"#.utf8),
            subjectRequired: false)
        #expect(
            ScalePilot.plans(of: manifest, seed: 5) == [
                ImagePlan(index: 0, prompt: "a", seed: 5), ImagePlan(index: 6, prompt: "c", seed: 11),
            ])
    }

    // MARK: Runs

    private func runner() throws -> JobRunner {
        let yaml = """
            spool:
              path: \(path("spool"))
            models:
              tiny:
                checkpoint: \(Golden.path("tiny-sd2.ckpt"))
                yaml: \(Golden.path("tiny-sd2.yaml"))
                adapter: \(Golden.path("cross_attention-199999.pt"))
            compute: openblas

            """
        try Data(yaml.utf8).write(to: folder.appendingPathComponent("config.yaml"))
        let settings = try Settings(file: path("config.yaml"), environment: [:])
        if !FileManager.default.fileExists(atPath: path("it.dcache")) {
            let pipeline = try Pipeline(files: try #require(settings.models["tiny"]), path: .openBLAS)
            let picture = try Raster.decode(path: Golden.path("reference.png"))
            try pipeline.makeCache(of: [picture], subject: "it", options: CacheOptions()).write(
                toPath: path("it.dcache"))
        }
        return JobRunner(settings)
    }

    private func request(_ name: String, scale: String, image: Int = 0, tuning: Tuning? = nil) throws -> RenderRequest {
        let manifest = try JobManifest.parse(
            Array(
                #"{"prompt": "a cat", "num_images_per_prompt": 2, "num_inference_steps": 2, "image_scale": \#(scale)}"#
                    .utf8), subjectRequired: false)
        return RenderRequest(
            job: nil, manifest: manifest, image: manifest.plan(image: image, seed: 3),
            caches: [CacheUse(subject: "it", imageScale: manifest.imageScale, path: path("it.dcache"))],
            output: path(name), tuning: tuning)
    }

    /// The set is the one that the chosen scale makes; the pictures say how it was chosen, and a manifest that needs no pilot.
    @Test func theRunIsThatOfTheChosenScale() throws {
        let runner = try runner()
        let report = try runner.render(
            try request("a.png", scale: #""auto""#), checkpoint: .none, progress: { _ in }, shouldStop: { false })
        let tuning = try #require(report.tuning)
        #expect(tuning.trials.map(\.imageScale) == ScalePilot.scales && tuning.pictures == ScalePilot.scales.count)
        #expect(tuning.imageScale == ScalePilot.choice(tuning.trials) && tuning.steps == 2)
        // Two steps of at most three evaluations, and one for the score.
        #expect((7 * 4...7 * 7).contains(tuning.evaluations) && tuning.seconds > 0)
        let scale = JSON.number(tuning.imageScale).text(pretty: false)
        #expect(report.metadata["image_scale"] == scale)
        let fixed = try runner.render(
            try request("b.png", scale: scale), checkpoint: .none, progress: { _ in }, shouldStop: { false })
        #expect(fixed.tuning == nil)
        #expect(try Raster.decode(path: path("a.png")) == Raster.decode(path: path("b.png")))
        let text = try ImageMetadata.read(path: path("a.png")).parameters ?? ""
        let said = try #require(ImageDocument.json(in: text))
        #expect(said["manifest"]?["image_scale"]?.number == tuning.imageScale)
        #expect(said["tuning"] == tuning.json && said["tuning"]?["seconds"] == nil)
        // The second picture asks no pilot.
        var phases: Set<String> = []
        let second = try runner.render(
            try request("c.png", scale: #""auto""#, image: 1, tuning: tuning), checkpoint: .none,
            progress: { phases.insert($0.phase) }, shouldStop: { false })
        #expect(second.tuning == nil && !phases.contains("pilot") && second.metadata["image_scale"] == scale)
    }

    /// Stopped after each save: the same scale, the same bytes, and no picture of the pilot made twice.
    @Test func aPilotGoesOnWhereItWas() throws {
        let runner = try runner()
        let undisturbed = try runner.render(
            try request("undisturbed.png", scale: #""auto""#), checkpoint: .none, progress: { _ in },
            shouldStop: { false })
        let kept = Kept()
        var pictures = 0
        for number in 1...30 {
            let before = kept.saves
            var last = -1
            do {
                let report = try runner.render(
                    try request("\(number).png", scale: #""auto""#), checkpoint: kept.slot,
                    progress: { step in
                        if step.phase == "pilot", step.step != last { (pictures, last) = (pictures + 1, step.step) }
                    }, shouldStop: { kept.saves > before })
                #expect(report.tuning?.json == undisturbed.tuning?.json)
                #expect(try bytes("\(number).png") == bytes("undisturbed.png"))
                break
            } catch RendererError.stopped {
                continue
            }
        }
        #expect(FileManager.default.contents(atPath: path("undisturbed.png")) != nil)
        // Each stop comes when the next picture has been announced.
        #expect(pictures <= 2 * ScalePilot.scales.count, "\(pictures)")
        #expect(kept.saves >= ScalePilot.scales.count + 1)
    }

    private final class Kept: @unchecked Sendable {
        // Used by the one thread of the test.
        var state: [UInt8]?
        var saves = 0

        var slot: CheckpointSlot {
            CheckpointSlot(
                load: { self.state }, isDue: { true },
                save: { state, _ in (self.state, self.saves) = (state, self.saves + 1) })
        }
    }
}
