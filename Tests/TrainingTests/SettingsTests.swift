import Diffusion
import Foundation
import Testing

@testable import Training

@Suite struct SettingsTests {
    @Test func allAreReadAsTheyAreWritten() throws {
        var settings = TrainingSettings()
        settings.steps = 123
        settings.start = "/models/\"odd\" name.safetensors"
        settings.decay = .cosine
        settings.learningRate = 3.7e-6
        settings.keeping = .inputs
        #expect(try TrainingSettings(yaml: settings.yaml, source: "yaml") == settings)
        #expect(try TrainingSettings(yaml: settings.json, source: "json") == settings)
        #expect(try TrainingSettings(yaml: "", source: "nothing") == TrainingSettings())
    }

    @Test func theSchemaHasEveryFieldWithItsDefault() throws {
        let schema = try #require(
            try JSONSerialization.jsonObject(with: Data(TrainingSettings.schema.utf8)) as? [String: Any])
        let properties = try #require(schema["properties"] as? [String: [String: Any]])
        #expect(Set(properties.keys) == Set(SettingFields.all.map(\.name)))
        #expect(properties["learning_rate"]?["default"] as? Double == 1e-5)
        #expect(properties["empty_captions"]?["default"] as? Double == 0.07)
        #expect(properties["start"]?["default"] as? String == "self")
    }

    @Test func allFaultsAreListedAtOnce() {
        let text = """
            steps: 0
            colour: red
            flips: 1.5

            decay: linear
            learning_rate: [1, 2]
            seed: 1e3
            least_erasure: 0.5
            """
        let error = #expect(throws: TrainingError.self) { try TrainingSettings(yaml: text, source: "run.yaml") }
        let lines = "\(error.map { "\($0)" } ?? "")".split(separator: "\n")
        #expect(lines.count == 7)
        for start in [
            "run.yaml:1: steps: found '0', expected a whole number from 1",
            "run.yaml:2: colour: found an unknown name, expected one of steps,",
            "run.yaml:3: flips: found '1.5', expected a number from 0.0 to 1.0",
            "run.yaml:5: decay: found 'linear', expected one of constant, cosine",
            "run.yaml:6: learning_rate: found a list or a section",
            "run.yaml:7: seed: found '1e3'",
            "run.yaml: least_erasure: found 0.5, expected at most greatest_erasure, 0.25",
        ] { #expect(lines.contains { $0.hasPrefix(start) }, "\(start)") }
    }

    @Test func learningRates() {
        var settings = TrainingSettings()
        (settings.steps, settings.warmupSteps, settings.learningRate) = (110, 10, 1e-3)
        #expect(abs(settings.rate(at: 0) - 1e-4) < 1e-12)
        #expect(abs(settings.rate(at: 9) - 1e-3) < 1e-12)
        #expect(settings.rate(at: 100) == 1e-3)
        (settings.decay, settings.finalRateShare) = (.cosine, 0.1)
        #expect(abs(settings.rate(at: 59) - 5.5e-4) < 1e-12)
        #expect(abs(settings.rate(at: 109) - 1e-4) < 1e-12)
    }

    /// Hang et al. 2023, section 3.4: min(SNR, gamma) times the error of the noiseless sample, in terms of each prediction.
    @Test func lossWeights() {
        var settings = TrainingSettings()
        let alpha = 0.9, snr = 9.0
        #expect(settings.lossWeight(alphaCumprod: alpha, prediction: .epsilon) == 1)
        settings.minSNRGamma = 5
        #expect(abs(settings.lossWeight(alphaCumprod: alpha, prediction: .epsilon) - 5 / snr) < 1e-9)
        #expect(abs(settings.lossWeight(alphaCumprod: alpha, prediction: .vPrediction) - 5 / (snr + 1)) < 1e-9)
        #expect(abs(settings.lossWeight(alphaCumprod: alpha, prediction: .sample) - 5) < 1e-9)
        #expect(abs(settings.lossWeight(alphaCumprod: 0.1, prediction: .epsilon) - 1) < 1e-9)
        settings.noiseEmphasis = 0.5
        #expect(
            abs(settings.lossWeight(alphaCumprod: alpha, prediction: .epsilon) - 5 / snr * (10 / snr).squareRoot())
                < 1e-9)
        // At zero terminal SNR.
        #expect(settings.lossWeight(alphaCumprod: 0, prediction: .epsilon).isFinite)
    }

    @Test func whatDecidesAboutTheAdapterMustStay() {
        var (a, b) = (TrainingSettings(), TrainingSettings())
        b.saveSeconds = 1
        b.steps = 20_000
        #expect(b.differences(from: a).isEmpty)
        (a.decay, b.decay) = (.cosine, .cosine)
        #expect(b.differences(from: a) == ["steps: found 20000, expected 10000"])
    }

    @Test func assignments() throws {
        var settings = TrainingSettings()
        try settings.set(["steps=7", "start=/a=b.pt"])
        #expect(settings.steps == 7 && settings.start == "/a=b.pt")
        #expect(throws: TrainingError.self) { try settings.set(["speed=1"]) }
        #expect(throws: TrainingError.self) { try settings.set(["steps"]) }
    }
}

@Suite struct RandomTests {
    @Test func numbersDependOnSeedPurposeAndIndexAlone() {
        func first(_ seed: Int, _ purpose: SampleRandom.Purpose, _ index: Int) -> UInt64 {
            var random = SampleRandom(seed: seed, purpose, index)
            return random.next()
        }
        let all = [first(0, .sample, 0), first(1, .sample, 0), first(0, .noise, 0), first(0, .sample, 1)]
        #expect(Set(all).count == 4)
        #expect(first(5, .order, 9) == first(5, .order, 9))
    }

    @Test func distributions() {
        var random = SampleRandom(seed: 3, .sample)
        let uniform = (0..<20_000).map { _ in random.uniform() }
        #expect(uniform.allSatisfy { (0..<1).contains($0) })
        #expect(abs(uniform.reduce(0, +) / 20_000 - 0.5) < 0.01)
        var counts = [Int](repeating: 0, count: 7)
        for _ in 0..<14_000 { counts[random.below(7)] += 1 }
        #expect(counts.allSatisfy { abs($0 - 2000) < 200 })
        #expect(random.permutation(50).sorted() == Array(0..<50))
        let normal = random.normals(20_000).map(Double.init)
        #expect(abs(normal.reduce(0, +) / 20_000) < 0.03)
        #expect(abs(normal.reduce(0) { $0 + $1 * $1 } / 20_000 - 1) < 0.04)
    }
}
