import Diffusion
import DreamCache
import Logging
import Raster
import Spool
import TensorEngine
import Training

/// Trains an adapter for a model of the configuration.
public struct TrainingWork {
    private let settings: Settings
    private let name: String
    private let files: ModelFiles
    private let logger: Logger

    /// - Parameter model: a name under `models`; nil takes the default.
    /// - Throws: `RendererError.rejected` where there is none.
    public init(_ settings: Settings, model: String? = nil, logger: Logger) throws(RendererError) {
        guard let name = model ?? settings.defaultModel, var files = settings.models[name] else {
            throw .rejected(
                field: "model",
                message: "model: found \(model ?? "none"), expected one of "
                    + settings.models.keys.sorted().joined(separator: ", "))
        }
        // An adapter in use is none of the base.
        files.adapter = nil
        (self.settings, self.name, self.files, self.logger) = (settings, name, files, logger)
    }

    /// Trains to the last step, or until `shouldStop`.
    ///
    /// - Parameter acceptsSettings: whether a state of other settings is gone on with.
    /// - Throws: `TrainingError`, or `RendererError` where the model cannot be loaded.
    public func run(
        _ places: TrainingRun.Places, _ training: TrainingSettings, acceptsSettings: Bool = false,
        progress: (TrainingProgress) -> Void, shouldStop: @escaping () -> Bool
    ) throws -> TrainingResult {
        // Before a model of gigabytes is loaded.
        _ = try Dataset(folder: places.data)
        let pipeline = try ModelShelf(logger: logger).pipeline(
            of: files, settings, progress: { progress(TrainingProgress(phase: $0, step: $1, steps: $2)) },
            shouldStop: shouldStop)
        let run = Self.run(places, training, pipeline, files, settings, shouldStop: shouldStop)
        run.acceptsSettings = acceptsSettings
        return try run.run(progress: progress, shouldStop: shouldStop)
    }

    /// A run with a model that is loaded, for the command line and for jobs alike.
    ///
    /// - Parameter pipeline: of `files`, which name no adapter.
    static func run(
        _ places: TrainingRun.Places, _ training: TrainingSettings, _ pipeline: Pipeline, _ files: ModelFiles,
        _ settings: Settings, shouldStop: @escaping () -> Bool
    ) -> TrainingRun {
        let photos = PhotoReader(limits: settings.spool.references.raster)
        return TrainingRun(
            places, settings: training, pipeline: pipeline,
            base: { () throws(TrainingError) in try files.parameters(engine: pipeline.model.engine) },
            read: { path in
                do throws(RendererError) { return try photos.picture(path, shouldStop: shouldStop) } catch {
                    if case .stopped = error { throw TrainingError.stopped }
                    throw error
                }
            })
    }

    /// Lets the plain base make a data set.
    ///
    /// - Parameter dropped: told the number of each picture that is left out, and why.
    /// - Returns: how many pictures the folder has.
    public func makeDataset(
        _ plan: DatasetCreation.Plan, folder: String, progress: (TrainingProgress) -> Void,
        dropped: (_ number: Int, _ reasons: [String]) -> Void, shouldStop: @escaping () -> Bool
    ) throws -> Int {
        func show(_ phase: String, _ done: Int, _ of: Int) {
            progress(TrainingProgress(phase: phase, step: done, steps: of))
        }
        let pipeline = try ModelShelf(logger: logger).pipeline(
            of: files, settings, progress: show, shouldStop: shouldStop)
        return try DatasetCreation(pipeline, folder: folder).make(
            plan, progress: show, dropped: dropped, shouldStop: shouldStop)
    }
}
