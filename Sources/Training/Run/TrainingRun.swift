import Bytes
import Checkpoint
import Diffusion
import DreamCache
import Foundation
import TensorEngine

/// What a run is doing.
public struct TrainingProgress: Sendable {
    /// In words.
    public let phase: String
    /// How much of it is done, and of how much.
    public let step: Int, steps: Int
    /// Mean loss of the last steps.
    public var loss: Double?
    /// How long the rest will take, in seconds.
    public var secondsLeft: Double?

    /// A phase and how much of it is done.
    public init(phase: String, step: Int, steps: Int, loss: Double? = nil, secondsLeft: Double? = nil) {
        (self.phase, self.step, self.steps, self.loss, self.secondsLeft) = (phase, step, steps, loss, secondsLeft)
    }
}

/// What a run came to.
public struct TrainingResult: Sendable {
    /// Steps made.
    public let steps: Int
    /// Mean loss of the last steps.
    public let loss: Double?
    /// The last validation, if there was one.
    public let validation: ValidationResult?
    /// The last milestone, if there was one.
    public let milestone: MilestoneResult?
    /// What a person should know, a sentence each.
    public let remarks: [String]
}

/// A whole run: data set to adapter. Whenever it is cut off, the next run in the same folder goes on where the last state was saved,
/// and its adapter is byte for byte that of a run that nobody disturbed.
public final class TrainingRun {
    /// Where things are.
    public struct Places: Sendable {
        /// The data set.
        public var data: String
        /// The adapter that is written at the end.
        public var output: String
        /// The run's folder: state and log.
        public var run: String
        /// What was prepared of data sets; several runs may share it.
        public var prepared: String

        /// All of them; what is prepared lies in the run's folder where nothing else is said.
        public init(data: String, output: String, run: String, prepared: String? = nil) {
            (self.data, self.output, self.run) = (data, output, run)
            self.prepared = prepared ?? "\(run)/prepared"
        }
    }

    private let places: Places
    private let settings: TrainingSettings
    private let pipeline: Pipeline
    private let base: () throws(TrainingError) -> ParameterStore
    private let read: PictureReader
    /// Whether a state of other settings is gone on with.
    public var acceptsSettings = false
    /// Asked between two steps, and between two items that are prepared, of which one at least was made: true ends the run with
    /// `TrainingError.stopped` after its state is saved.
    public var shouldYield: () -> Bool = { false }
    /// Told how many steps the state knows of that was just written.
    public var saved: (_ step: Int) -> Void = { _ in }
    /// Names of the files, in the run's folder, that show how a run went, as far as it has them.
    public static let reports = ["losses.html", "losses.png", "train.jsonl"]
    /// The folder, in the run's, of the milestones' sheets.
    public static let milestones = "milestones"

    private var engine: Engine { pipeline.model.engine }

    /// - Parameters:
    ///   - pipeline: the base, without an adapter.
    ///   - base: its parameters under LDM's names, for a start from `self`.
    ///   - read: reads pictures.
    public init(
        _ places: Places, settings: TrainingSettings, pipeline: Pipeline,
        base: @escaping () throws(TrainingError) -> ParameterStore, read: @escaping PictureReader
    ) {
        (self.places, self.settings, self.pipeline) = (places, settings, pipeline)
        (self.base, self.read) = (base, read)
    }

    /// Trains to the last step, and writes the adapter.
    ///
    /// - Parameter shouldStop: asked before every product; true ends the run with `TrainingError.stopped` after its state is saved.
    /// - Throws: `TrainingError`, also after a jump of the loss: the last good state is kept then.
    public func run(
        progress: (TrainingProgress) -> Void, shouldStop: @escaping () -> Bool
    ) throws(TrainingError) -> TrainingResult {
        let folder = try RunFolder(places.run)
        engine.interruption = shouldStop
        defer { engine.interruption = nil }
        let (data, prepared) = try prepare(progress, shouldStop)
        // The parts of the model that only prepare are not needed any more.
        engine.beginPhase()
        engine.trimMemory()
        let trainer = try Trainer(pipeline.model, start: try startStore(), settings: settings)
        let binding = RunBinding(base: pipeline.featureHash, data: data.digest)
        if try folder.hasState() {
            try trainer.restore(from: folder.state, binding: binding, acceptsSettings: acceptsSettings)
        } else {
            try begin(trainer, data, prepared)
            try trainer.save(to: folder.state, binding: binding)
            saved(trainer.step)
        }
        let log = try TrainingLog(path: folder.log, upTo: trainer.step)
        let milestones =
            settings.milestoneSteps > 0 && settings.milestoneSteps <= settings.steps
            ? try Milestones(data, prepared, pipeline: pipeline, settings: settings) : nil
        try train(trainer, data, log, folder, binding, milestones, progress, shouldStop)
        try LossReport(log, settings: settings).write(to: folder)
        try AdapterResult(
            trainer, binding: binding, validation: log.validations.last, milestone: log.milestones.last
        ).write(to: places.output)
        return TrainingResult(
            steps: trainer.step, loss: trainer.history.mean, validation: log.validations.last,
            milestone: log.milestones.last, remarks: prepared.remarks)
    }

    private func prepare(
        _ progress: (TrainingProgress) -> Void, _ shouldStop: () -> Bool
    ) throws(TrainingError) -> (TrainingData, PreparedData) {
        let dataset = try Dataset(folder: places.data)
        let prepared = PreparedData(folder: places.prepared, pipeline: pipeline, settings: settings, read: read)
        try prepared.makeFolders()
        let check = DatasetCheck(
            folder: places.prepared, side: pipeline.imageSize, settings: settings, read: read)
        let checked = try check.check(
            dataset, progress: { progress(TrainingProgress(phase: "checking pictures", step: $0, steps: $1)) },
            shouldStop: shouldStop, shouldYield: shouldYield)
        try prepared.prepare(
            dataset.views.compactMap { checked[$0.name] },
            progress: { progress(TrainingProgress(phase: "preparing \($0)", step: $1, steps: $2)) },
            shouldStop: shouldStop, shouldYield: shouldYield)
        let timesteps = pipeline.model.configuration.schedule.numTrainTimesteps
        return (
            TrainingData(
                dataset, checked: checked, prepared: prepared, settings: settings, timesteps: timesteps, engine: engine),
            prepared
        )
    }

    // MARK: Start

    /// The tensors that the trainer is made of: an adapter's, or random ones.
    private func startStore() throws(TrainingError) -> ParameterStore {
        guard settings.start != "self", settings.start != "random" else {
            return ParameterStore(randomSeed: UInt64(settings.seed))
        }
        let file = try onMethod { () throws(DreamCacheError) in try AdapterFile(path: settings.start) }
        return ParameterStore(file.checkpoint)
    }

    private func begin(
        _ trainer: Trainer, _ data: TrainingData, _ prepared: PreparedData
    ) throws(TrainingError) {
        switch settings.start {
        case "random":
            try onEngine { () throws(EngineError) in try AdapterStart.random(trainer.parameters) }
        case "self":
            let store = try base()
            let features = try data.trained.prefix(Self.sampledReferences).map { views throws(TrainingError) in
                try prepared.memory(views[0], variant: 0)
            }
            try AdapterStart.selfAttention(
                trainer.parameters, base: store, unet: pipeline.model.unet, features: features,
                weight: settings.selfWeight)
        default: break
        }
        trainer.beginAverage()
    }

    /// So many references say how features vary.
    private static let sampledReferences = 64

    // MARK: Steps

    private func train(
        _ trainer: Trainer, _ data: TrainingData, _ log: TrainingLog, _ folder: RunFolder, _ binding: RunBinding,
        _ milestones: Milestones?, _ progress: (TrainingProgress) -> Void, _ shouldStop: @escaping () -> Bool
    ) throws(TrainingError) {
        let clock = ContinuousClock()
        var (savedAt, pace) = (clock.now, Pace())
        func save() throws(TrainingError) {
            guard trainer.isWell else { return }
            try trainer.save(to: folder.state, binding: binding)
            saved(trainer.step)
            savedAt = clock.now
        }
        do throws(TrainingError) {
            while true {
                if isValidationDue(trainer, log) {
                    progress(TrainingProgress(phase: "validating", step: trainer.step, steps: settings.steps))
                    try log.add(
                        try trainer.validate { number throws(TrainingError) in
                            try data.validationSample(number)
                        })
                    try LossReport(log, settings: settings).write(to: folder)
                }
                if let milestones, isMilestoneDue(trainer, log) {
                    let result = try milestones.draw(
                        trainer, binding: binding, in: folder,
                        progress: { progress(TrainingProgress(phase: "drawing the milestone", step: $0, steps: $1)) },
                        shouldStop: shouldStop)
                    try log.add(result)
                    try LossReport(log, settings: settings).write(to: folder)
                }
                if trainer.step >= settings.steps { break }
                if shouldStop() { throw .stopped }
                // The making of caches, for data prepared anew, ends with no interruption at all.
                engine.interruption = shouldStop
                let start = clock.now
                let step = try trainer.advance { number throws(TrainingError) in try data.sample(number) }
                let seconds = (clock.now - start) / .seconds(1)
                pace.add(seconds)
                try log.add(step, seconds: seconds)
                progress(
                    TrainingProgress(
                        phase: "training", step: step.step, steps: settings.steps, loss: trainer.history.mean,
                        secondsLeft: pace.secondsLeft(settings.steps - step.step)))
                if clock.now - savedAt >= .seconds(settings.saveSeconds) { try save() }
                if trainer.step < settings.steps, shouldYield() { throw .stopped }
            }
        } catch {
            // A step that was not finished leaves the state as it was before it.
            if case .stopped = error { try save() }
            throw error
        }
        try save()
    }

    private func isMilestoneDue(_ trainer: Trainer, _ log: TrainingLog) -> Bool {
        trainer.step > 0 && trainer.step % settings.milestoneSteps == 0 && log.milestones.last?.step != trainer.step
    }

    private func isValidationDue(_ trainer: Trainer, _ log: TrainingLog) -> Bool {
        guard settings.validationSteps > 0, log.validations.last?.step != trainer.step else { return false }
        return trainer.step % settings.validationSteps == 0 || trainer.step >= settings.steps
    }
}

/// How long a step takes, of late.
private struct Pace {
    private var seconds: Double?

    mutating func add(_ step: Double) { seconds = seconds.map { $0 + 0.05 * (step - $0) } ?? step }

    func secondsLeft(_ steps: Int) -> Double? { seconds.map { $0 * Double(steps) } }
}

extension ModelFiles {
    /// The base's parameters under LDM's names, with what LoRAs add to them.
    public func parameters(engine: Engine) throws(TrainingError) -> ParameterStore {
        var store: ParameterStore?
        do {
            _ = try StableDiffusion.load(checkpoint: checkpoint, options: options, engine: engine) { store = $0 }
        } catch { throw .model(.diffusion(error)) }
        // The model's loading hands it out, or throws.
        return store ?? ParameterStore(randomSeed: 0)
    }
}
