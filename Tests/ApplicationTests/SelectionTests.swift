import Checkpoint
import DreamCache
import Foundation
import Golden
import Raster
import Spool
import TensorEngine
import Testing

@testable import Application

/// Candidates made and judged on the tiny model and a tiny CLIP.
@Suite final class SelectionTests {
    private static let dino = Golden.fixtures.appendingPathComponent("encoders/dino-s16").path
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("select-\(UUID().uuidString)")

    private let clip: String

    init() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        clip = folder.appendingPathComponent("tiny-clip").path
        try Self.makeCLIP(at: clip)
    }

    /// The tiny CLIP with a tokenizer of so few words, whose weights may be changed.
    private static func makeCLIP(at path: String, _ change: (String, [Float]) -> [Float] = { $1 }) throws {
        let folder = URL(fileURLWithPath: path)
        try? FileManager.default.removeItem(at: folder)
        try FileManager.default.copyItem(
            at: Golden.fixtures.appendingPathComponent("encoders/clip"), to: folder)
        let weights = folder.appendingPathComponent("model.safetensors")
        var writer = SafetensorsWriter()
        for tensor in try Checkpoint.open(weights.path).tensors.values {
            writer.add(
                tensor.name, type: .f32, shape: tensor.shape, floats: change(tensor.name, tensor.floats()))
        }
        try FileManager.default.removeItem(at: weights)
        try writer.write(toPath: weights.path)
        let words = "abceknopt".flatMap { [String($0), "\($0)</w>"] } + ["x", "y", "z", "x</w>"]
        let names = words + ["<|startoftext|>", "<|endoftext|>"]
        let vocabulary = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
        try JSONEncoder().encode(vocabulary).write(to: folder.appendingPathComponent("vocab.json"))
        try Data("#version: 0.2\n".utf8).write(to: folder.appendingPathComponent("merges.txt"))
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    private func bytes(_ name: String) throws -> Data { try Data(contentsOf: folder.appendingPathComponent(name)) }

    private func settings(_ encoders: [String: String] = [:]) throws -> Settings {
        var yaml = """
            spool:
              path: \(path("spool"))
            models:
              tiny:
                checkpoint: \(Golden.path("tiny-sd2.ckpt"))
                yaml: \(Golden.path("tiny-sd2.yaml"))
                adapter: \(Golden.path("cross_attention-199999.pt"))
            compute: openblas

            """
        if !encoders.isEmpty { yaml += "encoders:\n" + encoders.map { "  \($0): \($1)\n" }.joined() }
        try Data(yaml.utf8).write(to: folder.appendingPathComponent("config.yaml"))
        return try Settings(file: path("config.yaml"), environment: [:])
    }

    /// Two images, of which a request makes the second.
    private func manifest(_ select: String?, _ more: String = "") throws -> JobManifest {
        let select = select.map { #", "select": \#($0)"# } ?? ""
        return try JobManifest.parse(
            Array(#"{"prompts": ["a cat", "a backpack"], "num_inference_steps": 2\#(select)\#(more)}"#.utf8),
            subjectRequired: false)
    }

    private func request(_ manifest: JobManifest, _ name: String, seed: Int = 7) throws -> RenderRequest {
        let cache = path("it.dcache")
        if !FileManager.default.fileExists(atPath: cache) {
            let pipeline = try Pipeline(files: try #require(try settings().models["tiny"]), path: .openBLAS)
            let picture = try Raster.decode(path: Golden.path("reference.png"))
            try pipeline.makeCache(of: [picture], subject: "it", options: CacheOptions()).write(toPath: cache)
        }
        return RenderRequest(
            job: nil, manifest: manifest, image: manifest.plan(image: 1, seed: seed),
            caches: [CacheUse(subject: "it", imageScale: 1, path: cache)], output: path(name))
    }

    @discardableResult
    private func render(
        _ runner: JobRunner, _ request: RenderRequest, _ slot: CheckpointSlot = .none,
        progress: (RenderProgress) -> Void = { _ in }
    ) throws -> RenderedImage {
        try runner.render(request, checkpoint: slot, progress: progress, shouldStop: { false })
    }

    private func pixels(_ name: String) throws -> Raster { try Raster.decode(path: path(name)) }

    private func isUnavailable(_ error: RendererError?) -> Bool {
        if case .unavailable = error { true } else { false }
    }

    // MARK: The choice

    @Test func theGreatestScoreIsChosenAndOfEqualOnesTheFirst() {
        func best(_ scores: [[String: Double]]) -> Int { Choice(scores.map { .init(seed: 0, scores: $0) }).best }
        #expect(best([["subject": 0.1], ["subject": 0.3], ["subject": 0.2]]) == 1)
        #expect(best([["subject": 0.3], ["subject": 0.3]]) == 0)
        #expect(best([["subject": -0.3]]) == 0)
        // A tenth of what texts differ by counts as much as a tenth of what subjects differ by.
        let both = [(0.90, 0.21), (0.91, 0.29), (0.92, 0.20), (0.80, 0.30)].map { ["subject": $0, "text": $1] }
        #expect(best(both) == 1)
    }

    // MARK: Pictures

    /// The image is the candidate of the greatest score; each candidate is the picture of its seed.
    @Test(arguments: ["subject", "text", "both"])
    func theBestIsWrittenAndSaysSo(_ by: String) throws {
        let runner = JobRunner(try settings(["clip": clip, "dino": Self.dino]))
        let manifest = try manifest(#"{"best_of": 3, "by": "\#(by)", "keep": "all"}"#)
        try runner.check(manifest)
        let request = try request(manifest, "a.png")
        let report = try render(runner, request)
        let choice = try #require(report.choice)
        #expect(choice.candidates.map(\.seed) == [8, 10, 12])
        let names = by == "both" ? ["subject", "text"] : [by]
        #expect(choice.candidates.allSatisfy { $0.scores.keys.sorted() == names })
        #expect(Set(choice.candidates.map(\.scores)).count == 3)
        #expect(choice.best == Choice(choice.candidates).best)
        let plain = try self.manifest(nil)
        for (number, candidate) in choice.candidates.enumerated() {
            let file = number == choice.best ? "a.png" : "a.png.\(number)"
            let text = try ImageMetadata.read(path: path(file)).parameters ?? ""
            let said = try #require(ImageDocument.json(in: text))
            #expect(said["select"]?["scores"] == Choice.json(candidate.scores))
            #expect(said["select"]?["best_of"]?.integer == 3 && said["select"]?["by"]?.string == by)
            #expect(said["manifest"]?["seed"]?.integer == candidate.seed && said["manifest"]?["select"] == nil)
            guard by == "subject" else { continue }
            var single = try self.request(plain, "plain-\(number).png")
            single.image = ImagePlan(index: 1, prompt: "a backpack", seed: candidate.seed)
            try render(runner, single)
            #expect(try pixels("plain-\(number).png") == pixels(file))
        }
        #expect(report.identity?.contains("\(by)=CLIP") == (by != "subject"))
    }

    /// The score of the cache is that of the photo it was made of.
    @Test func theCacheKnowsItsPhoto() throws {
        let runner = JobRunner(try settings())
        let request = try request(try manifest(#"{"best_of": 1}"#), "a.png")
        let score = try #require(try render(runner, request).choice?.chosen.scores["subject"])
        let pipeline = try Pipeline(files: try #require(try settings().models["tiny"]), path: .openBLAS)
        let cache = try FeatureCache.open(path("it.dcache"))
        let site = try #require(pipeline.matchSite)
        let picture = try Raster.decode(path: Golden.path("reference.png"))
        let own = try pipeline.matchTokens(of: picture, options: cache.options)
        let kept = try #require(cache.matchTokens(at: site).first)
        #expect(zip(kept.tokens, own.tokens).allSatisfy { abs($0 - $1) <= 0.001 * max(1, abs($1)) })
        #expect(score > 0 && score < 1)
    }

    // MARK: Going on

    /// Where an unfinished state goes.
    private final class Kept: @unchecked Sendable {
        // Used by the one thread of the test.
        var state: [UInt8]?
        var saves = 0
        var dies = false

        var slot: CheckpointSlot {
            CheckpointSlot(
                load: { self.state }, isDue: { true },
                save: { state, _ in if !self.dies { (self.state, self.saves) = (state, self.saves + 1) } })
        }
    }

    /// Killed after each save: the files are those of an undisturbed run, and no step is made twice.
    @Test(arguments: [false, true]) func anInterruptedChoiceGoesOnWhereItWas(_ keepsAll: Bool) throws {
        let select = #"{"best_of": 3, "by": "both", "keep": "\#(keepsAll ? "all" : "best")"}"#
        let runner = JobRunner(try settings(["clip": clip]))
        let request = try request(try manifest(select), "undisturbed.png")
        let undisturbed = try render(runner, request)
        let kept = Kept()
        var steps: [String] = []
        for number in 1...50 {
            let (before, output) = (kept.saves, "\(number).png")
            var last = ""
            let killed = try self.request(request.manifest, output)
            kept.dies = false
            let error = #expect(
                throws: (any Error).self, "\(number)",
                performing: {
                    let report = try runner.render(
                        killed, checkpoint: kept.slot,
                        progress: { step in
                            guard step.phase == "denoising" else { return }
                            // A step that takes long reports more than once.
                            let place = "\(step.candidate ?? 0) \(step.step)"
                            if place != last { steps.append(place) }
                            last = place
                        },
                        shouldStop: {
                            kept.dies = kept.saves > before
                            return kept.dies
                        })
                    if kept.saves == before {
                        #expect(report.choice == undisturbed.choice)
                        throw CancellationError()
                    }
                    throw RendererError.stopped
                })
            if error is CancellationError {
                #expect(try bytes(output) == bytes("undisturbed.png"))
                for other in 0..<3 where other != undisturbed.choice?.best {
                    let name = ".\(other)"
                    #expect(FileManager.default.fileExists(atPath: path(output + name)) == keepsAll)
                    if keepsAll { #expect(try bytes(output + name) == bytes("undisturbed.png" + name)) }
                }
                break
            }
        }
        #expect(steps.count == Set(steps).count && steps.count == 6, "\(steps)")
    }

    /// A state of another judge is none, and a set is never chosen by two.
    @Test func anotherEncoderBeginsAnew() throws {
        let runner = JobRunner(try settings(["clip": clip]))
        let kept = Kept()
        let manifest = try manifest(#"{"best_of": 2, "by": "text"}"#)
        let first = try render(runner, try request(manifest, "a.png"), kept.slot)
        try Self.makeCLIP(at: clip) { $0 == "text_projection.weight" ? $1.reversed() : $1 }
        var steps = 0
        let second = try render(
            runner, try request(manifest, "b.png"), kept.slot,
            progress: { steps += $0.phase == "denoising" ? 1 : 0 })
        #expect(steps >= 4 && first.identity != second.identity)
        let later = try request(manifest, "c.png")
        let bound = RenderRequest(
            job: nil, manifest: manifest, image: later.image, caches: later.caches, output: later.output,
            identity: first.identity)
        let error = #expect(throws: RendererError.self) { try render(runner, bound) }
        guard case .changed = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    // MARK: What is wrong

    @Test func anEncoderThatIsNotConfiguredIsRefusedAtIntake() throws {
        let runner = JobRunner(try settings(["dino": Self.dino]))
        for by in ["text", "both"] {
            let error = #expect(throws: RendererError.self) {
                try runner.check(try manifest(#"{"best_of": 2, "by": "\#(by)"}"#))
            }
            #expect(
                error?.description
                    == "$.select.by: found '\(by)', which needs a CLIP; expected an encoder named clip in the "
                    + "configuration (configured: dino)")
        }
        let error = #expect(throws: RendererError.self) {
            try runner.check(try manifest(#"{"best_of": 2, "by": "dinov2"}"#))
        }
        #expect(
            error?.description == "$.select.by: found 'dinov2', expected subject, text, both, or a configured encoder "
                + "(configured: dino)")
        try runner.check(try manifest(#"{"best_of": 2, "by": "dino"}"#))
    }

    /// What judges is the installation's: where it is missing, damaged or gives no numbers, the job waits and says why.
    @Test(arguments: ["missing", "cut", "nan", "overflow", "other"])
    func anEncoderAtFaultIsUnavailable(_ fault: String) throws {
        let weights = "\(clip)/model.safetensors"
        let expected: String
        switch fault {
        case "missing":
            try FileManager.default.removeItem(atPath: clip)
            expected = "tiny-clip: found No such file"
        case "cut":
            try Data(contentsOf: URL(fileURLWithPath: weights)).dropLast(100).write(to: URL(fileURLWithPath: weights))
            expected = "model.safetensors"
        case "nan", "overflow":
            try Self.makeCLIP(at: clip) { name, values in
                guard name == "visual_projection.weight" else { return values }
                return values.map { fault == "nan" ? .nan : $0 < 0 ? -3e38 : 3e38 }
            }
            expected = fault == "nan" ? "visual_projection.weight: found NaN" : "weights that give features of"
        default:
            try FileManager.default.removeItem(atPath: clip)
            try FileManager.default.copyItem(atPath: Self.dino, toPath: clip)
            expected = "encoders.clip: found DINO"
        }
        let runner = JobRunner(try settings(["clip": clip]))
        let request = try request(try manifest(#"{"best_of": 1, "by": "text"}"#), "a.png")
        let error = #expect(throws: RendererError.self) { try render(runner, request) }
        #expect(isUnavailable(error) && error?.description.contains(expected) == true, "\(String(describing: error))")
        #expect(!FileManager.default.fileExists(atPath: path("a.png")))
        guard fault == "missing" else { return }
        try Self.makeCLIP(at: clip)
        try render(runner, request)
    }

    @Test func withoutASubjectThereIsNothingToLookFor() throws {
        let runner = JobRunner(try settings())
        let manifest = try manifest(#"{"best_of": 2}"#)
        let request = RenderRequest(
            job: nil, manifest: manifest, image: manifest.plan(image: 0, seed: 1), caches: [], output: path("a.png"))
        let error = #expect(throws: RendererError.self) { try render(runner, request) }
        #expect(error?.description.hasPrefix("$.select.by: found subject without photos") == true)
    }
}
