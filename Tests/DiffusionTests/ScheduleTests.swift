import Diffusion
import Foundation
import Testing

/// What diffusers' schedulers do; `Tests/Fixtures/schedule/generate.py` makes it.
private struct ScheduleFixture: Decodable {
    struct Table: Decodable {
        var steps: Int
        var timesteps: [Float]
        var sigmas: [Double]?
        var initialNoiseScale: Float
    }
    struct Run: Decodable {
        var predictionType: PredictionType
        var draws: Int
        var trajectory: [[Float]]
        var final: [Float]
        var skipped: Int?
    }
    struct Case: Decodable {
        var name: String
        var eta: Double
        var tables: [Table]
        var runs: [Run]
    }
    var count: Int
    var cases: [Case]
}

/// A case of the fixture, its configuration read by our reader.
struct ScheduleCase: Sendable, CustomTestStringConvertible {
    fileprivate var fixture: ScheduleFixture.Case
    fileprivate var count: Int
    var configuration: ScheduleConfiguration

    var testDescription: String { fixture.name }

    static let all: [ScheduleCase] = {
        do {
            let data = try fixtureData("schedule/schedules.json")
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            let fixture = try decoder.decode(ScheduleFixture.self, from: data)
            let raw = try JSONSerialization.jsonObject(with: data) as? [String: Any]
            let cases = raw?["cases"] as? [[String: Any]] ?? []
            return try zip(fixture.cases, cases).map { example, object in
                let config = try JSONSerialization.data(withJSONObject: object["config"] ?? [:])
                let read = try ScheduleConfiguration.read(json: config, path: example.name)
                guard read.unknownKeys.isEmpty else { throw ScheduleCaseError(unknown: read.unknownKeys) }
                return ScheduleCase(fixture: example, count: fixture.count, configuration: read.configuration)
            }
        } catch {
            Issue.record(error)
            return []
        }
    }()

    struct ScheduleCaseError: Error { var unknown: [String] }
}

extension ScheduleFixture.Case: Sendable {}
extension ScheduleFixture.Run: Sendable {}
extension ScheduleFixture.Table: Sendable {}

/// The fixture's denoiser and noise, computed as the generator computes them.
private struct Toy {
    var count: Int
    var draws = 0

    var start: [Float] { (0..<count).map { Float(sin(0.37 * Double($0) + 1)) } }
    var image: [Float] { (0..<count).map { Float(cos(0.21 * Double($0))) } }

    func model(_ sample: [Float], _ timestep: Float) -> [Float] {
        sample.enumerated().map { Float(0.3 * Double($1) + 0.1 * sin(Double(timestep) / 1000 + Double($0))) }
    }

    mutating func noise() -> [Float] {
        draws += 1
        return (0..<count).map { Float(cos(1.7 * Double($0) + 0.9 * Double(draws))) }
    }

    /// Runs evaluations `range` of a sampler.
    mutating func run(
        _ sampler: inout Sampler, _ sample: inout [Float], _ range: Range<Int>, each: ([Float]) -> Void = { _ in }
    ) {
        for index in range {
            let output = model(sampler.scaledModelInput(sample, at: index), sampler.timesteps[index])
            sampler.step(modelOutput: output, at: index, sample: &sample) { noise() }
            each(sample)
        }
    }
}

private func relativeError(_ found: [Float], _ expected: [Float]) -> Double {
    guard found.count == expected.count else { return .infinity }
    let difference = zip(found, expected).reduce(0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
    return (difference / max(expected.reduce(0) { $0 + pow(Double($1), 2) }, 1e-30)).squareRoot()
}

@Suite struct ScheduleTests {
    @Test func fixtureIsThere() {
        #expect(ScheduleCase.all.count >= 50)
        #expect(Set(ScheduleCase.all.map(\.configuration.sampler)) == Set(SamplerKind.allCases))
    }

    @Test(arguments: ScheduleCase.all)
    func timestepsAndSigmasEqualDiffusers(example: ScheduleCase) throws {
        for table in example.fixture.tables {
            let sampler = try Sampler(example.configuration, steps: table.steps)
            #expect(sampler.timesteps.count == table.timesteps.count)
            for (found, expected) in zip(sampler.timesteps, table.timesteps) {
                // Whole timesteps are equal; between them single precision leaves its mark on diffusers' logarithms.
                #expect(expected == expected.rounded() ? found == expected : abs(found - expected) < 1e-3)
            }
            #expect(abs(sampler.initialNoiseScale / table.initialNoiseScale - 1) < 1e-5)
            guard var expected = table.sigmas, !sampler.sigmas.isEmpty else { continue }
            if example.configuration.sampler == .heun {
                // diffusers lists an inner sigma once for each of its two evaluations.
                expected = expected.enumerated().filter { $0.offset == 0 || !$0.offset.isMultiple(of: 2) }.map(
                    \.element)
            }
            #expect(sampler.sigmas.count == expected.count)
            for (found, expected) in zip(sampler.sigmas, expected) {
                #expect(abs(found - expected) <= 1e-5 * expected, "\(table.steps) steps")
            }
        }
    }

    @Test(arguments: ScheduleCase.all)
    func trajectoriesEqualDiffusers(example: ScheduleCase) throws {
        for run in example.fixture.runs {
            var configuration = example.configuration
            configuration.predictionType = run.predictionType
            let strength = Double(12 - (run.skipped ?? 0)) / 12
            var sampler = try Sampler(configuration, steps: 12, eta: example.fixture.eta, strength: strength)
            var toy = Toy(count: example.count)
            var sample = sampler.initialSample(noise: toy.start, image: run.skipped == nil ? nil : toy.image)
            #expect(sampler.timesteps.count + 1 == run.trajectory.count)
            #expect(relativeError(Array(sample.prefix(3)), run.trajectory[0]) < 1e-5)
            var place = 0
            toy.run(&sampler, &sample, sampler.timesteps.indices) { sample in
                place += 1
                let error = relativeError(Array(sample.prefix(3)), run.trajectory[place])
                #expect(error < 1e-4, "\(run.predictionType) after evaluation \(place)")
            }
            let error = relativeError(sample, run.final)
            #expect(error < 1e-5, "\(run.predictionType), skipped \(run.skipped ?? 0)")
            #expect(toy.draws == run.draws)
        }
    }
}
