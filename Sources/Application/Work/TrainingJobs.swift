import Diffusion
import DreamCache
import Foundation
import Spool
import Synchronization
import Training

/// Trainings as jobs of a spool: the manifest's settings are those of `dreamcache train`, and so is the adapter.
extension JobRunner {
    /// The settings that a manifest may give.
    public var trainingSettings: Schema { TrainingSettings.manifestSchema }

    /// Refuses settings that do not fit one another.
    func check(_ order: TrainingOrder) throws(RendererError) {
        do { _ = try TrainingSettings(order) } catch { throw RendererError(error) }
    }

    /// Trains an adapter, or goes on with one.
    public func train(
        _ request: TrainingRequest, checkpoint: CheckpointSlot, progress: (RenderProgress) -> Void,
        shouldYield: () -> Bool, shouldStop: () -> Bool
    ) throws(RendererError) -> AdapterReport {
        var files = try acceptedModel(named: request.model).files
        // An adapter in use is none of the base.
        files.adapter = nil
        let current = settings.withLock { $0 }
        do {
            return try withoutActuallyEscaping(shouldYield) { shouldYield in
                try withoutActuallyEscaping(shouldStop) { shouldStop in
                    try train(request, files, current, checkpoint, progress, shouldYield, shouldStop)
                }
            }
        } catch {
            models.giveUp(after: error)
            throw RendererError(error).naming(request)
        }
    }

    private func train(
        _ request: TrainingRequest, _ files: ModelFiles, _ settings: Settings, _ checkpoint: CheckpointSlot,
        _ progress: (RenderProgress) -> Void, _ shouldYield: @escaping () -> Bool, _ shouldStop: @escaping () -> Bool
    ) throws -> AdapterReport {
        let training = try TrainingSettings(request.order)
        // Before a model of gigabytes is loaded.
        _ = try Dataset(folder: request.dataset)
        return try withoutActuallyEscaping(progress) { progress in
            let sign = LifeSign(progress)
            let isStopping = {
                sign.repeatLast()
                return shouldStop()
            }
            let pipeline = try models.pipeline(
                of: files, settings, progress: { sign.show(RenderProgress(phase: $0, step: $1, steps: $2)) },
                shouldStop: isStopping)
            let places = TrainingRun.Places(data: request.dataset, output: request.output, run: request.folder)
            let run = TrainingWork.run(places, training, pipeline, files, settings, shouldStop: isStopping)
            run.shouldYield = shouldYield
            run.saved = { checkpoint.save([], $0) }
            let result = try run.run(progress: { sign.show(RenderProgress($0)) }, shouldStop: isStopping)
            return AdapterReport(result, in: request.folder)
        }
    }
}

/// Says that a long step goes on. A step of a training may take minutes, in which the trainer asks for a stop again and again.
private final class LifeSign {
    private let progress: (RenderProgress) -> Void
    private var last: RenderProgress?
    private var moment = ContinuousClock.now

    init(_ progress: @escaping (RenderProgress) -> Void) { self.progress = progress }

    func show(_ step: RenderProgress) {
        (last, moment) = (step, .now)
        progress(step)
    }

    func repeatLast() {
        if let last, ContinuousClock.now - moment >= .seconds(1) { show(last) }
    }
}

extension RenderProgress {
    /// As the trainer has it.
    fileprivate init(_ work: TrainingProgress) {
        self.init(phase: work.phase, step: work.step, steps: work.steps)
        loss = work.loss
        secondsLeft = work.secondsLeft
    }
}

extension RendererError {
    /// Files of the data set are named as their owner knows them.
    fileprivate func naming(_ request: TrainingRequest) -> RendererError {
        guard case .rejected(let field, let message) = self else { return self }
        return .rejected(
            field: field,
            message: message.replacingOccurrences(of: request.dataset + "/", with: "")
                .replacingOccurrences(of: request.dataset, with: request.order.dataset))
    }
}

extension AdapterReport {
    /// What a run came to, and the files of its folder that are worth keeping.
    fileprivate init(_ result: TrainingResult, in folder: String) {
        self.init(metadata: ["steps": "\(result.steps)"])
        metadata["loss"] = result.loss.map { "\($0)" }
        metadata["validation_error"] = result.validation.map { "\($0.error)" }
        metadata["subject_match"] = result.milestone.map { "\($0.match)" }
        metadata["remarks"] = result.remarks.isEmpty ? nil : result.remarks.joined(separator: "\n")
        func isThere(_ path: String) -> Bool { FileManager.default.fileExists(atPath: "\(folder)/\(path)") }
        for name in TrainingRun.reports where isThere(name) {
            // The curves are the page of such a set.
            files.append(File(path: name, name: name == "losses.html" ? PageRequest.fileName : name))
        }
        let sheets = (try? FileManager.default.contentsOfDirectory(atPath: "\(folder)/\(TrainingRun.milestones)")) ?? []
        for name in sheets.sorted() where name.hasSuffix(".png") {
            files.append(File(path: "\(TrainingRun.milestones)/\(name)", name: "milestone-\(name)"))
        }
    }
}

extension TrainingSettings {
    /// Those of a manifest.
    init(_ order: TrainingOrder) throws(TrainingError) { try self.init(yaml: order.settings, source: "settings") }

    /// The settings in the terms of manifests: one field for each of `dreamcache train`.
    public static var manifestSchema: Schema {
        .object(
            descriptions.map { field in
                Schema.Field(
                    field.name, schema(of: field), default: nil,
                    field.meaning + (field.initial.isEmpty ? "" : " Default: \(field.initial)."))
            })
    }

    private static func schema(of field: SettingDescription) -> Schema {
        switch field.range {
        case .integer(let range): .integer(range)
        case .number(let range): .number(range)
        case .choice(let values): .choice(values)
        // No manifest names a path.
        case .text: .choice(["self", "random"])
        }
    }
}
