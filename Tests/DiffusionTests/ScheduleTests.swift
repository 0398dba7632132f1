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
            if [.heun, .dpmSolverSDE].contains(example.configuration.sampler) {
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
            // diffusers has DEIS' differences of logarithms in single precision.
            let bound = configuration.sampler == .deis ? 5e-5 : 1e-5
            #expect(error < bound, "\(run.predictionType), skipped \(run.skipped ?? 0)")
            #expect(toy.draws == run.draws)
        }
    }

    /// Interrupted after any evaluation, stored as JSON and continued, a run ends with the same bytes.
    @Test(arguments: SamplerKind.allCases)
    func continuesAfterAnInterruption(kind: SamplerKind) throws {
        var configuration = ScheduleConfiguration()
        configuration.sampler = kind
        configuration.solverOrder = 3
        configuration.predictionType = .vPrediction
        let fresh = try Sampler(configuration, steps: 6, eta: 0.7)
        let toy = Toy(count: 10)

        var whole = (sampler: fresh, toy: toy)
        var expected = fresh.initialSample(noise: toy.start)
        whole.toy.run(&whole.sampler, &expected, fresh.timesteps.indices)

        for stop in 0...fresh.timesteps.count {
            var first = (sampler: fresh, toy: toy)
            var sample = fresh.initialSample(noise: toy.start)
            first.toy.run(&first.sampler, &sample, 0..<stop)
            let stored = try JSONEncoder().encode(first.sampler.state)

            var second = (sampler: fresh, toy: first.toy)
            try second.sampler.restore(JSONDecoder().decode(Sampler.State.self, from: stored), count: 10)
            #expect(second.sampler.state == first.sampler.state)
            second.toy.run(&second.sampler, &sample, stop..<fresh.timesteps.count)
            #expect(sample.map(\.bitPattern) == expected.map(\.bitPattern), "stopped after \(stop)")
        }
    }

    @Test func refusesAnotherRunsState() throws {
        func state(_ kind: SamplerKind, after evaluations: Int, count: Int = 10) throws -> Sampler.State {
            var sampler = try Sampler(ScheduleConfiguration().selecting(SamplerChoice(kind)), steps: 6)
            var toy = Toy(count: count)
            var sample = toy.start
            toy.run(&sampler, &sample, 0..<evaluations)
            return sampler.state
        }
        var sampler = try Sampler(ScheduleConfiguration().selecting(SamplerChoice(.uniPC)), steps: 4)
        #expect(throws: ScheduleError.self) { try sampler.restore(state(.uniPC, after: 5), count: 10) }
        #expect(throws: ScheduleError.self) { try sampler.restore(state(.uniPC, after: 2, count: 9), count: 10) }
        #expect(throws: ScheduleError.self) { try sampler.restore(state(.ddim, after: 2), count: 10) }
        #expect(throws: ScheduleError.self) { try sampler.restore(state(.pndm, after: 2), count: 10) }
        try sampler.restore(state(.uniPC, after: 2), count: 10)
        // No sampler keeps what it has no more use for.
        #expect(try state(.pndm, after: 1).savedSample != nil)
        #expect(try state(.pndm, after: 2).savedSample == nil)
        #expect(try state(.ddim, after: 2).history.isEmpty)
        for text in [
            #"{"position":0}"#, #"{"position":0,"history":["AAA="]}"#, #"{"position":"0","history":[]}"#,
            #"{"position":0,"history":["!"]}"#,
        ] {
            #expect(throws: DecodingError.self) { try JSONDecoder().decode(Sampler.State.self, from: Data(text.utf8)) }
        }
    }

    /// LDM's `make_ddim_timesteps('uniform')` and `make_ddim_sampling_parameters`, written out.
    @Test(arguments: [10, 20, 50, 100], [0.0, 1.0])
    func defaultIsTheAuthorsDDIM(steps: Int, eta: Double) throws {
        let training = try TrainingSchedule(ScheduleConfiguration())
        var sampler = try Sampler(ScheduleConfiguration(), steps: steps, eta: eta)
        let stride = 1000 / steps
        #expect(sampler.timesteps == (0..<steps).reversed().map { Float(1 + $0 * stride) })
        #expect(sampler.initialNoiseScale == 1)
        #expect(abs(training.alphasCumprod[1] - 0.9982954) < 1e-6)

        var toy = Toy(count: 10)
        var sample = toy.start
        var expected = toy.start.map { Double($0) }
        for index in sampler.timesteps.indices {
            let timestep = 1 + (steps - 1 - index) * stride
            let alpha = training.alphasCumprod[timestep]
            let previous = training.alphasCumprod[max(0, timestep - stride)]
            let sigma = eta * ((1 - previous) / (1 - alpha) * (1 - alpha / previous)).squareRoot()
            let output = toy.model(sample, Float(timestep))
            var noise: [Float] = []
            sampler.step(modelOutput: output, at: index, sample: &sample) {
                noise = toy.noise()
                return noise
            }
            #expect(noise.isEmpty == (eta == 0))
            for place in expected.indices {
                let noiseless =
                    (expected[place] - (1 - alpha).squareRoot() * Double(output[place])) / alpha.squareRoot()
                expected[place] =
                    previous.squareRoot() * noiseless + (1 - previous - sigma * sigma).squareRoot()
                    * Double(output[place])
                    + (noise.isEmpty ? 0 : sigma * Double(noise[place]))
            }
        }
        #expect(relativeError(sample, expected.map { Float($0) }) < 5e-6)
    }

    @Test func noisesAsTheReferencePassDoes() throws {
        let training = try TrainingSchedule(ScheduleConfiguration())
        let noised = training.noised([1, 0, 2], with: [0, 1, -1], at: 1)
        let alpha = training.alphasCumprod[1]
        let (signal, spread) = (Float(alpha.squareRoot()), Float((1 - alpha).squareRoot()))
        #expect(relativeError(noised, [signal, spread, 2 * signal - spread]) < 1e-6)
    }

    /// A choice changes what it names, and leaves the rest as the model has it.
    @Test func aChoiceKeepsWhatItDoesNotName() {
        var own = ScheduleConfiguration()
        (own.betaEnd, own.algorithmType, own.useKarrasSigmas) = (0.02, .dpmSolver, true)
        let euler = own.selecting(SamplerChoice(.euler))
        #expect(euler.sampler == .euler && euler.useKarrasSigmas && euler.algorithmType == .dpmSolver)
        #expect(euler.betaEnd == 0.02)
        let stochastic = own.selecting(
            SamplerChoice(.dpmSolverMultistep, algorithm: .sdeDPMSolverPlusPlus, sigmas: .exponential))
        #expect(stochastic.sampler == .dpmSolverMultistep && stochastic.algorithmType == .sdeDPMSolverPlusPlus)
        #expect(stochastic.useExponentialSigmas && !stochastic.useKarrasSigmas)
    }

    @Test func refusesWhatCannotRun() throws {
        let cases:
            [(field: String, steps: Int, eta: Double, strength: Double, change: (inout ScheduleConfiguration) -> Void)] =
                [
                    ("num_inference_steps", 0, 0, 1, { _ in }),
                    ("num_inference_steps", 1001, 0, 1, { _ in }),
                    ("num_inference_steps", .max, 0, 1, { $0.sampler = .dpmSolverMultistep }),
                    ("num_inference_steps", 51, 0, 1, { $0.sampler = .lcm }),
                    ("steps_offset", 1000, 0, 1, { _ in }),
                    ("steps_offset", 10, 0, 1, { $0.stepsOffset = -1 }),
                    ("steps_offset", 10, 0, 1, { $0.stepsOffset = 500 }),
                    ("eta", 10, -0.1, 1, { _ in }),
                    ("eta", 10, .nan, 1, { _ in }),
                    ("strength", 10, 0, 0, { _ in }),
                    ("strength", 10, 0, 0.05, { _ in }),
                    ("strength", 10, 0, .nan, { _ in }),
                    ("num_train_timesteps", 10, 0, 1, { $0.numTrainTimesteps = .max }),
                    ("beta_start", 10, 0, 1, { $0.betaStart = .nan }),
                    ("beta_end", 10, 0, 1, { $0.betaEnd = 1 }),
                    ("trained_betas", 10, 0, 1, { $0.trainedBetas = [0.1] }),
                    ("trained_betas", 10, 0, 1, { $0.trainedBetas = Array(repeating: -1, count: 1000) }),
                    (
                        "trained_betas", 10, 0, 1,
                        { ($0.sampler, $0.trainedBetas) = (.euler, Array(repeating: 0.99, count: 1000)) }
                    ),
                    (
                        "beta_schedule", 10, 0, 1,
                        { ($0.sampler, $0.betaStart, $0.useKarrasSigmas) = (.heun, 1e-300, true) }
                    ),
                    ("clip_sample_range", 10, 0, 1, { $0.clipSampleRange = 0 }),
                    ("solver_order", 10, 0, 1, { $0.solverOrder = 4 }),
                    ("sigma_min", 10, 0, 1, { $0.sigmaMin = -1 }),
                    (
                        "use_exponential_sigmas", 10, 0, 1,
                        { ($0.useKarrasSigmas, $0.useExponentialSigmas) = (true, true) }
                    ),
                    ("prediction_type", 10, 0, 1, { ($0.sampler, $0.predictionType) = (.pndm, .sample) }),
                    ("prediction_type", 10, 0, 1, { ($0.rescaleBetasZeroSNR, $0.timestepSpacing) = (true, .trailing) }),
                    ("prediction_type", 10, 0, 1, { ($0.sampler, $0.lowerOrderFinal) = (.uniPC, false) }),
                    (
                        "final_sigmas_type", 10, 0, 1,
                        { ($0.sampler, $0.algorithmType) = (.dpmSolverMultistep, .dpmSolver) }
                    ),
                ]
        for example in cases {
            var configuration = ScheduleConfiguration()
            example.change(&configuration)
            let error = #expect(throws: ScheduleError.self, "\(example.field)") {
                try Sampler(configuration, steps: example.steps, eta: example.eta, strength: example.strength)
            }
            #expect(error?.field == example.field, "\(error?.description ?? "")")
        }
    }

    /// Every count of steps either runs with finite numbers or is refused, for every sampler and spacing.
    @Test(arguments: SamplerKind.allCases, TimestepSpacing.allCases)
    func anyNumberOfStepsIsFiniteOrRefused(kind: SamplerKind, spacing: TimestepSpacing) throws {
        var configuration = ScheduleConfiguration()
        configuration.sampler = kind
        configuration.timestepSpacing = spacing
        for steps in Array(1...60) + [75, 99, 100, 250, 333, 500, 998, 999, 1000] {
            guard let sampler = try? Sampler(configuration, steps: steps) else {
                #expect(steps > (kind == .lcm || kind == .tcd ? 50 : 900), "\(steps) steps")
                continue
            }
            #expect(sampler.timesteps.allSatisfy { $0 >= 0 && $0 < 1000 }, "\(steps) steps")
            #expect(zip(sampler.timesteps, sampler.timesteps.dropFirst()).allSatisfy { $0 >= $1 }, "\(steps) steps")
        }
    }
}
