import Checkpoint
import Diffusion
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import DreamCache

/// What a step costs and gives, over all scales, intervals and schedules.
@Suite struct GuidanceTests {
    private let pipeline: Pipeline

    init() throws {
        pipeline = try Pipeline(
            files: ModelFiles(
                checkpoint: Golden.path("tiny-sd2.ckpt"), adapter: Golden.path("cross_attention-199999.pt")),
            path: .oneDNNFP32)
    }

    private func request(_ guidance: Guidance, subject: Bool) throws -> ImageRequest {
        var request = ImageRequest(prompt: "a photo of a backpack, on the beach", seed: 3)
        request.negativePrompt = "blurred"
        request.steps = 4
        request.guidance = guidance
        if subject { request.caches = [try cache()] }
        return request
    }

    private func cache(mirrored: Bool = false) throws -> FeatureCache {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).dcache").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        var picture = try Raster.decode(path: Golden.path("reference.png"))
        if mirrored {
            picture = Raster(
                width: picture.width, height: picture.height, channels: picture.channels,
                pixels: Array(picture.pixels.reversed()))
        }
        try pipeline.makeCache(of: [picture], subject: "s", options: CacheOptions()).write(toPath: file)
        return try FeatureCache.open(file)
    }

    private func run(_ request: ImageRequest) throws -> (latent: [Float], evaluations: Int) {
        let before = pipeline.evaluations
        let latent = try pipeline.denoised(request).latent
        return (latent, pipeline.evaluations - before)
    }

    /// One conditional evaluation for every value up to 1, as diffusers; the prompt then decides.
    @Test(arguments: [0, 0.5, 1]) func atOneAndBelowThereIsOneEvaluation(_ scale: Double) throws {
        let one = try run(try request(Guidance(guidanceScale: 1), subject: false))
        let found = try run(try request(Guidance(guidanceScale: scale), subject: false))
        #expect(found.latent == one.latent)
        #expect(found.evaluations == 4)
        var other = try request(Guidance(guidanceScale: scale), subject: false)
        other.prompt = "a crown in the snow"
        #expect(relativeError(try run(other).latent, found.latent) > 1e-3)
        other = try request(Guidance(guidanceScale: scale), subject: false)
        other.negativePrompt = "sharp"
        #expect(try run(other).latent == found.latent)
    }

    /// What a step costs: branches of no weight are not computed.
    @Test(arguments: [
        (1.0, 1.0, 1), (0, 1, 1), (0.3, 1, 1), (1, 0.4, 3), (0, 0.4, 3), (7.5, 1, 2), (7.5, 7.5, 2), (7.5, 0.4, 3),
        (7.5, 0, 3), (1, 0, 3),
    ])
    func branchesWithoutWeightAreNotComputed(_ text: Double, _ image: Double, _ branches: Int) throws {
        let guidance = Guidance(guidanceScale: text, imageScale: ScaleSchedule(image))
        let found = try run(try request(guidance, subject: true))
        #expect(found.evaluations == 4 * branches)
        // e(n) + g (e(p, M) - e(n, M)) + s (e(n, M) - e(n)) of whole predictions, each evaluated alone.
        let step = try formula(text: max(1, text), image: image)
        let denoised = try prediction(guidance)
        let error = relativeError(denoised, step)
        #expect(error < 2e-4, "\(error)")
    }

    private func keys(_ prompt: String) throws -> TextKeys {
        try pipeline.model.unet.textKeys(try pipeline.model.encode(prompt: prompt))
    }

    private func prediction(_ guidance: Guidance) throws -> [Float] {
        let (model, adapter) = (pipeline.model, try #require(pipeline.adapter))
        let memory = try SubjectMemory([try cache()], adapter: adapter, engine: model.engine)
        return try Denoiser(
            model, subject: memory, scales: [guidance.imageScale.start], prompt: try keys("a backpack"),
            negative: try keys("blurred"), guidance: guidance, times: try model.unet.timeEmbeddings([481])
        ).predict(wave(4 * 16 * 16), height: 16, width: 16, step: 0)
    }

    private func formula(text: Double, image: Double) throws -> [Float] {
        let (model, adapter) = (pipeline.model, try #require(pipeline.adapter))
        let memory = try SubjectMemory([try cache()], adapter: adapter, engine: model.engine)
        let times = try model.unet.timeEmbeddings([481])
        func alone(_ prompt: String, _ memory: SubjectMemory?) throws -> [Double] {
            let keys = try keys(prompt)
            let branch = Guidance.Branch(isPrompted: true, groups: memory == nil ? 0 : 1, weight: 1)
            return try Denoiser(
                model, steps: [Denoiser.Step(branches: [branch], subject: memory)], prompt: keys, negative: keys,
                times: times
            ).predict(wave(4 * 16 * 16), height: 16, width: 16, step: 0).map(Double.init)
        }
        let (prompted, negative) = (try alone("a backpack", memory), try alone("blurred", memory))
        let plain = try alone("blurred", nil)
        return plain.indices.map { i in
            Float(plain[i] + text * (prompted[i] - negative[i]) + image * (negative[i] - plain[i]))
        }
    }

    // MARK: Over the steps

    @Test func aScheduleOfOneValueIsThatValue() throws {
        let constant = try run(try request(Guidance(imageScale: 0.7), subject: true))
        let schedule = Guidance(imageScale: ScaleSchedule(start: 0.7, end: 0.7, from: 0.2, to: 0.6))
        #expect(try run(try request(schedule, subject: true)).latent == constant.latent)
    }

    @Test func schedulesAreStraightLines() {
        let schedule = ScaleSchedule(start: 2, end: 1, from: 0.25, to: 0.75)
        #expect((0..<5).map { schedule.value(at: $0, of: 5) } == [2, 2, 1.5, 1, 1])
        let whole = ScaleSchedule(start: 1, end: 0)
        #expect((0..<5).map { whole.value(at: $0, of: 5) } == [1, 0.75, 0.5, 0.25, 0])
        let jump = ScaleSchedule(start: 1, end: 0, from: 0.5, to: 0.5)
        #expect((0..<5).map { jump.value(at: $0, of: 5) } == [1, 1, 0, 0, 0])
        #expect(whole.value(at: 0, of: 1) == 1)
    }

    /// Each step of a schedule is a step at its scale: the run is put together by hand.
    @Test func aScheduledRunIsItsSteps() throws {
        let schedule = ScaleSchedule(start: 1.5, end: 0.1, from: 0, to: 1)
        let whole = try run(try request(Guidance(imageScale: schedule), subject: true))
        var states: [[UInt8]] = []
        for step in 0..<4 {
            var part = try request(Guidance(imageScale: ScaleSchedule(schedule.value(at: step, of: 4))), subject: true)
            part.seed = 3
            var next: [UInt8] = []
            _ = try pipeline.denoised(
                part, resume: states.last, checkpoint: { done, state in if done == step + 1 { next = state() } })
            states.append(next)
        }
        let count = whole.latent.count
        let last = try #require(
            states.last.flatMap { DenoisingState(decoding: $0, identity: pipeline.identity, latentCount: count) })
        #expect(last.latent == whole.latent)
    }

    /// Where two subjects' scales cross, so does their order, and the formula holds at each step.
    @Test func crossingSchedulesAreReordered() throws {
        let caches = [try cache(), try cache(mirrored: true)]
        var crossing = try request(Guidance(), subject: false)
        crossing.caches = caches
        crossing.imageScales = [ScaleSchedule(start: 1, end: 0.2), ScaleSchedule(start: 0.2, end: 1)]
        let found = try run(crossing)
        var state: [UInt8]?
        for step in 0..<4 {
            var part = crossing
            part.imageScales = crossing.imageScales?.map { ScaleSchedule($0.value(at: step, of: 4)) }
            var next: [UInt8] = []
            _ = try pipeline.denoised(
                part, resume: state, checkpoint: { done, make in if done == step + 1 { next = make() } })
            state = next
        }
        let last = try #require(
            state.flatMap {
                DenoisingState(decoding: $0, identity: pipeline.identity, latentCount: found.latent.count)
            })
        #expect(relativeError(last.latent, found.latent) < 1e-5)
    }

    @Test func theIntervalSavesEvaluations() throws {
        var guidance = Guidance(guidanceScale: 5, imageScale: 1, interval: 0.25...0.75)
        #expect(try run(try request(guidance, subject: false)).evaluations == 2 * 2 + 2)
        #expect(try run(try request(guidance, subject: true)).evaluations == 2 * 2 + 2)
        guidance.interval = 0...1
        let whole = try run(try request(guidance, subject: false))
        #expect(whole.evaluations == 8)
        #expect(try run(try request(Guidance(guidanceScale: 5), subject: false)).latent == whole.latent)
        guidance.interval = 0.5...0.5
        #expect(
            try run(try request(guidance, subject: false)).latent
                == run(try request(Guidance(guidanceScale: 1), subject: false)).latent)
        // diffusers' guiders: from Int(start n) up to, and without, Int(stop n).
        #expect(
            (0..<10).map { Guidance(guidanceScale: 3, interval: 0.29...0.58).textScale(at: $0, of: 10) }
                == [1, 1, 3, 3, 3, 1, 1, 1, 1, 1])
        for interval in [-0.1...0.5, 0.5...1.1] {
            let request = try request(Guidance(interval: interval), subject: false)
            #expect(throws: DreamCacheError.self) { try pipeline.check(request) }
        }
    }

    @Test func promptsOfDifferentLengthsRunTogether() throws {
        var request = try request(Guidance(), subject: false)
        request.prompt = (0..<40).map { "detail\($0)" }.joined(separator: ", ")
        let cut = try run(request)
        request.reading.mode = .chunks
        let whole = try run(request)
        #expect(whole.evaluations == cut.evaluations)
        #expect(relativeError(whole.latent, cut.latent) > 1e-4)
        // What is behind the first chunk matters now.
        request.prompt += ", wearing a red hat"
        #expect(relativeError(try run(request).latent, whole.latent) > 1e-5)
    }
}
