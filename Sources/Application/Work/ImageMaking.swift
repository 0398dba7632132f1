import DreamCache
import Foundation
import Raster
import Spool
import Synchronization

/// From a request to pictures: the scale that a pilot chooses, one picture, or the best of several candidates.
extension JobRunner {
    /// The request at the scale that a pilot chooses, where its manifest asks for that; and the slot for the image's own state.
    func tuned(
        _ request: RenderRequest, _ pipeline: Pipeline, _ slot: CheckpointSlot, _ progress: (RenderProgress) -> Void,
        _ shouldStop: () -> Bool
    ) throws -> (RenderRequest, Tuning?, CheckpointSlot) {
        guard request.manifest.tunesImageScale, !request.caches.isEmpty else { return (request, nil, slot) }
        let identity = pipeline.identity
        let kept = TunedState(slot, identity: identity)
        if let tuning = request.tuning { return (request.tuned(to: tuning.imageScale), tuning, kept.slot) }
        let encoders = settings.withLock { $0.encoders }
        let judge = try judge(
            encoders[Selection.textEncoder] == nil ? .subject : .both, request, pipeline, progress, shouldStop)
        let tuning =
            try kept.tuning
            ?? ScalePilot(
                pipeline: pipeline, judge: judge, request: try imageRequest(request, progress, shouldStop),
                isOpen: request.caches.indices.map(request.leavesScaleOpen),
                plans: ScalePilot.plans(of: request.manifest, seed: request.image.seed - request.image.index)
            ).run(from: kept.pilot, keep: kept.keep, progress: progress, shouldStop: shouldStop)
        kept.keep(tuning)
        return (request.tuned(to: tuning.imageScale), tuning, kept.slot)
    }

    /// What became of an image: what is to be written where, and how it was made.
    struct Made {
        let pictures: [(path: String, image: Raster, plan: ImagePlan)]
        var choice: Choice?
        let seconds: [String: Double]
    }

    /// Makes an image of which there is one candidate only.
    func generate(
        _ request: RenderRequest, _ pipeline: Pipeline, _ slot: CheckpointSlot, _ progress: (RenderProgress) -> Void,
        _ shouldStop: () -> Bool
    ) throws -> Made {
        let clock = ContinuousClock()
        let start = clock.now
        var decodeStart: ContinuousClock.Instant?
        var keptStep = 0
        var wanted = try imageRequest(request, progress, shouldStop)
        wanted.attentionInterval = request.attention?.interval
        let image = try pipeline.generate(
            wanted,
            resume: slot.load(),
            progress: { phase, step, steps in
                if phase == "decoding", decodeStart == nil { decodeStart = clock.now }
                progress(RenderProgress(phase: phase, step: step, steps: steps))
            },
            checkpoint: { step, state in
                // Work that is about to be stopped is kept whether it is time or not.
                guard step > keptStep, slot.isDue() || shouldStop() else { return }
                slot.save(state(), step)
                keptStep = step
            }, shouldStop: shouldStop)
        let decoding = decodeStart ?? clock.now
        return Made(
            pictures: [(request.output, image, request.image)],
            seconds: ["denoise": start.seconds(to: decoding), "decode": decoding.seconds(to: clock.now)])
    }

    /// Makes an image's candidates and chooses the best.
    func choose(
        _ request: RenderRequest, _ judge: CandidateJudge, _ pipeline: Pipeline, _ slot: CheckpointSlot,
        _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws -> Made {
        let plans = request.manifest.candidates(of: request.image)
        let keepsAll = request.manifest.select?.keepsAll ?? false
        let made = try CandidateRun(
            pipeline: pipeline, judge: judge, request: try imageRequest(request, progress, shouldStop), plans: plans,
            keepsAll: keepsAll, slot: slot
        ).make(progress: progress, shouldStop: shouldStop)
        let chosen = made.choice.best
        let wanted = made.pictures.filter { $0.key == chosen || keepsAll }.sorted { $0.key < $1.key }
        return Made(
            pictures: wanted.map { number, image in
                (number == chosen ? request.output : request.output(candidate: number), image, plans[number])
            }, choice: made.choice, seconds: made.seconds)
    }

    func write(
        _ image: Raster, _ document: ImageDocument, as output: OutputSettings, to path: String
    ) throws {
        let metadata = document.metadata(output.metadata)
        try Self.write(
            output.format == .png
                ? try image.encodedPNG(metadata: metadata)
                : try image.encodedJPEG(quality: output.quality, metadata: metadata), to: path)
    }
}
