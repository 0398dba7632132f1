import Diffusion
import Spool
import TensorEngine

/// A key of the configuration. `*` in a name stands for a name the user chooses.
struct SettingKey: Sendable {
    let name: String
    let expected: String
    let accepts: @Sendable (String) -> Bool
    /// Whether SIGHUP puts another value in force; one that is not live waits for the next start.
    var isLive = true

    private static func choice(_ name: String, _ values: [String]) -> SettingKey {
        SettingKey(name: name, expected: "one of \(values.joined(separator: ", "))") { values.contains($0) }
    }
    private static func number(_ name: String, _ range: ClosedRange<Double>, unit: String) -> SettingKey {
        SettingKey(name: name, expected: "a number of \(unit) from \(range.lowerBound) to \(range.upperBound)") {
            text in
            Double(text).map(range.contains) ?? false
        }
    }
    private static func integer(_ name: String, _ range: ClosedRange<Int>, unit: String) -> SettingKey {
        SettingKey(name: name, expected: "a whole number of \(unit) from \(range.lowerBound) to \(range.upperBound)") {
            Int($0).map(range.contains) ?? false
        }
    }
    private static func text(_ name: String, _ expected: String) -> SettingKey {
        SettingKey(name: name, expected: expected) { !$0.isEmpty }
    }

    private static func size(_ name: String) -> SettingKey {
        SettingKey(name: name, expected: "a size such as 3.5G or 800M, at least 64M") { bytes(in: $0) != nil }
    }

    /// The bytes of a size in mebibytes or gibibytes.
    static func bytes(in text: String) -> Int? {
        let units = ["M": 20, "G": 30, "T": 40]
        guard let unit = text.last.flatMap({ units[String($0).uppercased()] }), let number = Double(text.dropLast()),
            number.isFinite, let bytes = Int(exactly: (number * Double(1 << unit)).rounded()), bytes >= 64 << 20
        else { return nil }
        return bytes
    }

    private func atStart() -> SettingKey {
        var key = self
        key.isLive = false
        return key
    }

    private static let day = 86_400.0
    private static let seconds = "seconds"

    /// Every key there is: the check of the file and the reading of the values both go by this list.
    static let all: [SettingKey] = [
        text("spool.path", "a path").atStart(),
        number("spool.settle_seconds", 0...3600, unit: seconds),
        number("spool.incomplete_seconds", 0...day, unit: seconds),
        number("spool.rescan_seconds", 1...3600, unit: seconds),
        number("spool.status_seconds", 0.1...60, unit: seconds),
        number("spool.checkpoint_seconds", 0...3600, unit: seconds),
        integer("spool.max_attempts", 1...100, unit: "attempts"),
        number("spool.backoff_seconds", 0...3600, unit: seconds),
        number("spool.max_backoff_seconds", 0...day, unit: seconds),
        number("spool.subject_limit_seconds", 0...365 * day, unit: seconds),
        number("spool.turn_seconds", 0...day, unit: seconds),
        choice("spool.on_model_change", SpoolConfiguration.ModelChange.allCases.map(\.rawValue)),
        integer("spool.min_free_megabytes", 0...1_000_000, unit: "megabytes"),
        integer("spool.max_megapixels", 1...1000, unit: "megapixels"),
        choice("spool.watch", ["auto", "inotify", "poll"]),
        choice("spool.pages", ["true", "false"]),
        number("retention.outputs_days", 0...36_500, unit: "days"),
        number("retention.failed_days", 0...36_500, unit: "days"),
        number("retention.receipts_days", 0...36_500, unit: "days"),
        number("retention.rejected_days", 0...36_500, unit: "days"),
        number("retention.datasets_days", 0...36_500, unit: "days"),
        number("retention.unreferenced_days", 0...36_500, unit: "days"),
        text("model", "the name of a model under models"),
        text("models.*.checkpoint", "a path"),
        text("models.*.yaml", "a path"),
        text("models.*.adapter", "a path, or self"),
        number("models.*.self.weight", 0...1, unit: "share of what is read"),
        number("models.*.self.weight.start", 0...1, unit: "share of what is read"),
        number("models.*.self.weight.end", 0...1, unit: "share of what is read"),
        number("models.*.self.sketch", 0...10, unit: "times what a noised picture of the subject holds"),
        text("models.*.variant", "a variant of a diffusers folder's weights, such as fp16"),
        choice("models.*.ema", ["true", "false"]),
        integer("models.*.clip_skip", 0...32, unit: "text encoder blocks"),
        choice("models.*.prediction_type", ["epsilon", "v_prediction"]),
        text("models.*.loras.*.path", "a path"),
        number("models.*.loras.*.weight", -10...10, unit: "times its updates"),
        number("models.*.loras.*.unet_weight", -10...10, unit: "times its updates of the U-Net"),
        number("models.*.loras.*.text_encoder_weight", -10...10, unit: "times its updates of the text encoder"),
        text("models.*.vae", "a path"),
        text("models.*.embeddings", "a path, or a section of words and paths"),
        text("models.*.embeddings.*", "a path"),
        choice("models.*.strict", ["true", "false"]),
        SettingKey(
            name: "models.*.scheduler.sampler",
            expected: "one of \(Scheduler.allCases.map(\.rawValue).joined(separator: ", ")), or another name of one"
        ) { Scheduler(named: $0) != nil },
        choice("models.*.scheduler.timestep_spacing", TimestepSpacing.allCases.map(\.rawValue)),
        choice("models.*.scheduler.rescale_betas_zero_snr", ["true", "false"]),
        choice("models.*.scheduler.prediction_type", PredictionType.allCases.map(\.rawValue)),
        number("models.*.scheduler.beta_start", 0...1, unit: "variance per step"),
        number("models.*.scheduler.beta_end", 0...1, unit: "variance per step"),
        choice("models.*.scheduler.beta_schedule", BetaSchedule.allCases.map(\.rawValue)),
        integer("models.*.scheduler.steps_offset", 0...999, unit: "timesteps"),
        choice("models.*.scheduler.set_alpha_to_one", ["true", "false"]),
        choice("models.*.scheduler.clip_sample", ["true", "false"]),
        integer("models.*.scheduler.original_inference_steps", 1...1000, unit: "steps"),
        text("encoders.*", "a file or folder of DINO, DINOv2 or CLIP"),
        choice("compute", ComputePath.choices),
        integer("threads", 0...1024, unit: "threads (0: one per core)"),
        size("memory_limit"),
        text("prepared_weights", "a folder"),
        choice("log_level", ["trace", "debug", "info", "notice", "warning", "error", "critical"]),
        choice("cache.mode", ["paper", "official"]),
        integer("cache.seed", 0...(1 << 53 - 1), unit: "seed"),
        SettingKey(name: "cache.prompt", expected: "a prompt") { _ in true },
        choice("cache.fit", ["pad", "squash"]),
        choice("cache.tokens", ["all", "foreground"]),
        choice("cache.background", ["auto", "keep", "remove"]),
        choice("references.background", ["auto", "keep", "remove"]),
        choice("cache.element_type", ["F16", "F32"]),
    ]

    /// The key that a concrete name, such as `models.sd21.adapter`, belongs to.
    static func matching(_ name: String) -> SettingKey? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return all.first { key in
            let pattern = key.name.split(separator: ".")
            return pattern.count == parts.count && zip(pattern, parts).allSatisfy { $0 == "*" || $0 == $1 }
        }
    }
}
