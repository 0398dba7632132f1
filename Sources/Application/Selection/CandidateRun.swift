import DreamCache
import Foundation
import Raster
import Spool

/// The candidates of one image that are made so far: what its checkpoint holds. A candidate that is finished is not made again.
private struct CandidateState: Codable {
    struct Picture: Codable {
        let width: Int, height: Int, pixels: Data

        init(_ raster: Raster) { (width, height, pixels) = (raster.width, raster.height, Data(raster.pixels)) }

        var raster: Raster? {
            guard width > 0, height > 0, pixels.count == width * height * 3 else { return nil }
            return Raster(width: width, height: height, channels: 3, pixels: [UInt8](pixels))
        }
    }

    /// Of what makes and what judges them.
    let identity: String
    var candidates: [Choice.Candidate] = []
    /// Those that may still be needed, by number.
    var pictures: [Int: Picture] = [:]
    /// The one that is being made.
    var unfinished: Data?, unfinishedStep = 0
    /// Steps done of all of them.
    var steps = 0
    var seconds: [String: Double] = [:]

    init(identity: String) { self.identity = identity }

    /// Nil where the bytes are none of this image, of this model and judge.
    init?(_ bytes: [UInt8], identity: String, plans: [ImagePlan]) {
        guard let state = try? PropertyListDecoder().decode(CandidateState.self, from: Data(bytes)),
            state.identity == identity, state.candidates.count <= plans.count,
            zip(state.candidates, plans).allSatisfy({ $0.seed == $1.seed }),
            state.candidates.isEmpty || state.pictures[Choice(state.candidates).best]?.raster != nil
        else { return nil }
        self = state
    }

    var bytes: [UInt8] {
        let encoder = PropertyListEncoder()
        encoder.outputFormat = .binary
        // Encoding plain data cannot fail; an empty state is none.
        return (try? encoder.encode(self)).map { [UInt8]($0) } ?? []
    }
}

/// Makes the candidates of one image, one after another, and chooses the best.
struct CandidateRun {
    /// What came of it.
    struct Made {
        /// The picture of the candidate that was chosen, and those of the others where they are kept.
        let pictures: [Int: Raster]
        let choice: Choice
        let seconds: [String: Double]
    }

    let pipeline: Pipeline
    let judge: CandidateJudge
    /// What is made, but for its seed.
    let request: ImageRequest
    let plans: [ImagePlan]
    let keepsAll: Bool
    let slot: CheckpointSlot

    func make(progress: (RenderProgress) -> Void, shouldStop: () -> Bool) throws -> Made {
        let identity = pipeline.identity + judge.identity
        var state =
            slot.load().flatMap { CandidateState($0, identity: identity, plans: plans) }
            ?? CandidateState(identity: identity)
        while state.candidates.count < plans.count {
            let number = state.candidates.count
            func report(_ step: RenderProgress) {
                var step = step
                if plans.count > 1 { (step.candidate, step.candidates) = (number + 1, plans.count) }
                progress(step)
            }
            let picture = try generate(plans[number], &state, report, shouldStop)
            let begun = ContinuousClock.now
            let scores = try judge.scores(
                of: picture, prompt: plans[number].prompt, progress: report, shouldStop: shouldStop)
            state.seconds["score", default: 0] += begun.seconds(to: .now)
            state.candidates.append(Choice.Candidate(seed: plans[number].seed, scores: scores))
            state.pictures[number] = CandidateState.Picture(picture)
            // One that is not the best so far may still become it, by another's scores; all scores count together.
            if !keepsAll { state.forgetHopeless() }
            slot.save(state.bytes, state.steps)
        }
        let choice = Choice(state.candidates)
        return Made(pictures: state.pictures.compactMapValues(\.raster), choice: choice, seconds: state.seconds)
    }

    private func generate(
        _ plan: ImagePlan, _ state: inout CandidateState, _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws -> Raster {
        var request = request
        request.seed = UInt64(clamping: plan.seed)
        let clock = ContinuousClock()
        let start = clock.now
        var decodeStart: ContinuousClock.Instant?
        let before = state
        var (last, kept) = (state.unfinishedStep, 0)
        let picture = try pipeline.generate(
            request, resume: state.unfinished.map { [UInt8]($0) },
            progress: { phase, step, steps in
                if phase == "decoding", decodeStart == nil { decodeStart = clock.now }
                progress(RenderProgress(phase: phase, step: step, steps: steps))
            },
            checkpoint: { step, bytes in
                last = step
                guard step > kept, slot.isDue() || shouldStop() else { return }
                var now = before
                (now.unfinished, now.unfinishedStep) = (Data(bytes()), step)
                slot.save(now.bytes, before.steps + step)
                kept = step
            }, shouldStop: shouldStop)
        let decoding = decodeStart ?? clock.now
        (state.unfinished, state.unfinishedStep) = (nil, 0)
        state.steps += max(last, 1)
        state.seconds["denoise", default: 0] += start.seconds(to: decoding)
        state.seconds["decode", default: 0] += decoding.seconds(to: clock.now)
        return picture
    }
}

extension CandidateState {
    /// Lets pictures go that no further candidate can make the best.
    fileprivate mutating func forgetHopeless() {
        // By one score the best stays the best of those there are. Where several scores are joined, another candidate changes
        // what each of them weighs, so that only one that another beats in every score is out.
        for (number, one) in candidates.enumerated() {
            let isBeaten = candidates.enumerated().contains { other, candidate in
                other != number
                    && one.scores.allSatisfy { name, score in
                        let its = candidate.scores[name] ?? 0
                        return its > score || its == score && other < number
                    }
            }
            if isBeaten { pictures[number] = nil }
        }
    }
}
