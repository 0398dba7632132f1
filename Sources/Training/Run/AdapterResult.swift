import Checkpoint
import Diffusion
import DreamCache
import TensorEngine

/// A trained adapter as a file: safetensors with ModelSpec metadata and how it was made. Its bytes are a function of the run's
/// settings, base and data.
struct AdapterResult {
    private let trainer: Trainer
    private let metadata: [String: String]

    init(
        _ trainer: Trainer, binding: RunBinding, validation: ValidationResult? = nil, milestone: MilestoneResult? = nil
    ) {
        self.trainer = trainer
        var metadata = [
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.implementation": "DreamCache for Linux \(Version.current)",
            "modelspec.title": "DreamCache adapter",
            "dreamcache.base_model_sha256": binding.base,
            "dreamcache.training_data_sha256": binding.data,
            "dreamcache.training_steps": "\(trainer.step)",
            "dreamcache.training_settings": trainer.settings.json,
        ]
        metadata["modelspec.architecture"] = trainer.model.configuration.architecture.map {
            $0.rawValue + AdapterFile.suffix
        }
        metadata["dreamcache.training_loss"] = trainer.history.mean.map { "\($0)" }
        metadata["dreamcache.validation_error"] = validation.map { "\($0.error)" }
        metadata["dreamcache.subject_match"] = milestone.map { "\($0.match) at step \($0.step)" }
        self.metadata = metadata
    }

    /// Writes the file, durably, in place of one that is there.
    func write(to path: String) throws(TrainingError) {
        var writer = SafetensorsWriter(metadata: metadata)
        nonisolated(unsafe) let values = trainer.average.values
        for entry in trainer.average.entries {
            writer.add(entry.key, type: .f32, shape: entry.shape) { emit in
                values.withFloats { all in
                    emit(UnsafeRawBufferPointer(UnsafeMutableBufferPointer(rebasing: all[entry.range])))
                }
            }
        }
        try onCheckpoint { () throws(CheckpointError) in try writer.write(toPath: path) }
    }
}
