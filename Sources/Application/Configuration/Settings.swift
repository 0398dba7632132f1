import Checkpoint
import Configuration
import Diffusion
import DreamCache
import Foundation
import Logging
import Raster
import Spool
import TensorEngine

/// The configuration of daemon and command line: command line over environment (`DREAMCACHE_...`) over file over default.
public struct Settings: Sendable {
    /// Where the file is looked for when nobody names one, in this order.
    public static let defaultFiles = ["/etc/dreamcache/dreamcached.yaml", "etc/dreamcached.yaml"]

    /// The file that was read, if any.
    public var file: String?
    /// The spool.
    public var spool: SpoolConfiguration
    /// Models by name.
    public var models: [String: ModelFiles]
    /// The model of a manifest that names none.
    public var defaultModel: String?
    /// Files or folders of the encoders that may judge pictures, by name.
    public var encoders: [String: String]
    /// The compute path; the CPU decides where the configuration says `auto`.
    public var compute: ComputePath
    /// Number of threads; 0 is one per core.
    public var threads: Int
    /// The limit of the process's memory in bytes; nil is no limit. Pages of mapped files do not count, since they can
    /// be read again.
    public var memoryLimit: Int?
    /// The folder where models' weights are kept as the engine reads them, if any.
    public var preparedWeights: String?
    /// What is logged.
    public var logLevel: Logger.Level
    /// How references become caches where a manifest does not say.
    public var cache: CacheOptions
    /// Every key that has a value in some layer, and that value.
    private var texts: [String: String] = [:]

    /// The keys whose values differ from those of another configuration, sorted: those that a running daemon takes over, and
    /// those that wait for its next start.
    public func changes(from other: Settings) -> (live: [String], atStart: [String]) {
        let keys = Set(texts.keys).union(other.texts.keys).filter { texts[$0] != other.texts[$0] }.sorted()
        func isLive(_ key: String) -> Bool { SettingKey.matching(key)?.isLive ?? true }
        return (keys.filter(isLive), keys.filter { !isLive($0) })
    }

    /// Reads the configuration.
    ///
    /// - Parameters:
    ///   - path: the file, which must exist; nil tries ``defaultFiles`` and is content with none.
    ///   - overrides: keys and values of the command line.
    /// - Throws: `SettingsError` naming file and line, variable or option.
    public init(
        file path: String?, overrides: [String: String] = [:],
        environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws(SettingsError) {
        let found = path ?? Self.defaultFiles.first { FileManager.default.fileExists(atPath: $0) }
        let file: SettingsFile? = if let found { try SettingsFile(path: found) } else { nil }
        let values = LayeredValues(file: file, overrides: overrides, environment: environment)
        self.file = found

        spool = try Self.spool(values)
        let folder = URL(fileURLWithPath: found ?? ".").deletingLastPathComponent().path
        models = try Self.models(values, file, found, folder)
        defaultModel = try values.string("model") ?? (models.count == 1 ? models.keys.first : nil)
        if let defaultModel, models[defaultModel] == nil {
            throw SettingsError(
                source: values.source(of: "model"), key: "model", found: defaultModel,
                expected: models.isEmpty
                    ? "a model under models" : "one of \(models.keys.sorted().joined(separator: ", "))")
        }

        encoders = try Self.encoders(values, file, found, folder)
        compute = try values.string("compute").flatMap(ComputePath.init(rawValue:)) ?? .best
        threads = try values.integer("threads") ?? 0
        memoryLimit = try values.string("memory_limit").flatMap(SettingKey.bytes(in:))
        preparedWeights = try values.string("prepared_weights").map { Self.absolute($0, relativeTo: folder) }
        logLevel = try values.string("log_level").flatMap(Logger.Level.init(rawValue:)) ?? .info
        cache = try Self.cache(values)
        let fixed = SettingKey.all.map(\.name).filter { !$0.contains("*") }
        for key in Set(fixed + (file?.values.keys.map { $0 } ?? []) + overrides.keys) {
            texts[key] = try values.string(key)
        }
    }

    private static func spool(_ values: LayeredValues) throws(SettingsError) -> SpoolConfiguration {
        var spool = SpoolConfiguration(root: absolute(try values.string("spool.path") ?? "/var/lib/dreamcache/spool"))
        spool.settleTime = try values.number("spool.settle_seconds") ?? spool.settleTime
        spool.incompleteLimit = try values.number("spool.incomplete_seconds") ?? spool.incompleteLimit
        spool.rescanInterval = try values.number("spool.rescan_seconds") ?? spool.rescanInterval
        spool.statusInterval = try values.number("spool.status_seconds") ?? spool.statusInterval
        spool.checkpointInterval = try values.number("spool.checkpoint_seconds") ?? spool.checkpointInterval
        spool.maximumAttempts = try values.integer("spool.max_attempts") ?? spool.maximumAttempts
        spool.backoff = try values.number("spool.backoff_seconds") ?? spool.backoff
        spool.maximumBackoff = try values.number("spool.max_backoff_seconds") ?? spool.maximumBackoff
        spool.subjectLimit = try values.number("spool.subject_limit_seconds") ?? spool.subjectLimit
        spool.turnInterval = try values.number("spool.turn_seconds") ?? spool.turnInterval
        spool.onModelChange =
            try values.string("spool.on_model_change").flatMap(SpoolConfiguration.ModelChange.init(rawValue:))
            ?? spool.onModelChange
        spool.minimumFreeBytes =
            try values.integer("spool.min_free_megabytes").map { $0 << 20 } ?? spool.minimumFreeBytes
        spool.references.pixels =
            try values.integer("spool.max_megapixels").map { $0 * 1_000_000 } ?? spool.references.pixels
        spool.pages = try values.string("spool.pages").map { $0 == "true" } ?? spool.pages
        switch try values.string("spool.watch") {
        case "inotify": spool.polling = false
        case "poll": spool.polling = true
        default: spool.polling = nil
        }
        func seconds(_ key: String) throws(SettingsError) -> Double? { try values.number(key).map { $0 * 86_400 } }
        spool.retention.outputs = try seconds("retention.outputs_days")
        spool.retention.failed = try seconds("retention.failed_days")
        spool.retention.receipts = try seconds("retention.receipts_days")
        spool.retention.rejected = try seconds("retention.rejected_days")
        spool.retention.datasets = try seconds("retention.datasets_days")
        spool.retention.unreferenced = try seconds("retention.unreferenced_days")
        return spool
    }

    private static func models(
        _ values: LayeredValues, _ file: SettingsFile?, _ found: String?, _ folder: String
    ) throws(SettingsError) -> [String: ModelFiles] {
        var models: [String: ModelFiles] = [:]
        let names = Set((file?.names(under: "models") ?? []) + values.overriddenNames(under: "models"))
        for name in names.sorted() {
            models[name] = try model(name, values, file, found, folder)
        }
        return models
    }

    private static func encoders(
        _ values: LayeredValues, _ file: SettingsFile?, _ found: String?, _ folder: String
    ) throws(SettingsError) -> [String: String] {
        var encoders: [String: String] = [:]
        let names = Set((file?.names(under: "encoders") ?? []) + values.overriddenNames(under: "encoders"))
        for name in names.sorted() {
            guard DropName.isPlain(name), !Selection.reservedNames.contains(name) else {
                throw SettingsError(
                    source: values.source(of: "encoders.\(name)"), key: "encoders.\(name)", found: "the name '\(name)'",
                    expected: "a name of letters, digits, '-' and '_' other than "
                        + Selection.reservedNames.joined(separator: ", "))
            }
            encoders[name] = try values.string("encoders.\(name)").map { absolute($0, relativeTo: folder) }
        }
        return encoders
    }

    private static func model(
        _ name: String, _ values: LayeredValues, _ file: SettingsFile?, _ found: String?, _ folder: String
    ) throws(SettingsError) -> ModelFiles {
        guard let checkpoint = try values.string("models.\(name).checkpoint") else {
            throw SettingsError(
                source: found ?? "command line", key: "models.\(name).checkpoint", found: "nothing",
                expected: "a path")
        }
        // Paths in the file are relative to the file.
        func path(_ text: String) -> String { absolute(text, relativeTo: folder) }
        let key = "models.\(name)"
        var files = ModelFiles(
            checkpoint: path(checkpoint), yaml: try values.string("\(key).yaml").map(path),
            adapter: try values.string("\(key).adapter").flatMap { $0 == SelfReading.name ? nil : path($0) })
        files.selfReading = try selfReading("\(key).self", values)
        files.variant = try values.string("\(key).variant")
        files.usesEMA = try values.string("\(key).ema") == "true"
        files.clipSkip = try values.integer("\(key).clip_skip") ?? 0
        files.predictionType = try values.string("\(key).prediction_type").flatMap(PredictionType.init(rawValue:))
        try readAdditions(to: &files, key, values, file, source: found ?? "default", path: path)
        files.schedule = try schedule("\(key).scheduler", values)
        files.predictionType =
            try values.string("\(key).scheduler.prediction_type").flatMap(PredictionType.init(rawValue:))
            ?? files.predictionType
        return files
    }

    private static func selfReading(_ key: String, _ values: LayeredValues) throws(SettingsError) -> SelfReading {
        var reading = SelfReading()
        if let weight = try values.number("\(key).weight") { reading.weight = ScaleSchedule(weight) }
        reading.weight.start = try values.number("\(key).weight.start") ?? reading.weight.start
        reading.weight.end = try values.number("\(key).weight.end") ?? reading.weight.end
        reading.sketch = try values.number("\(key).sketch") ?? reading.sketch
        return reading
    }

    private static func cache(_ values: LayeredValues) throws(SettingsError) -> CacheOptions {
        var cache = CacheOptions()
        cache.mode = try values.string("cache.mode").flatMap(CacheOptions.Mode.init(rawValue:)) ?? cache.mode
        cache.seed = try values.integer("cache.seed").map(UInt64.init) ?? cache.seed
        cache.prompt = try values.string("cache.prompt")
        cache.fit = try values.string("cache.fit").flatMap(Raster.Fit.init(rawValue:)) ?? cache.fit
        cache.tokens = try values.string("cache.tokens").flatMap(CacheOptions.Tokens.init(rawValue:)) ?? cache.tokens
        // The manifest's name for it is accepted too.
        let named = try values.string("references.background")
        cache.background = (try values.string("cache.background") ?? named).flatMap(Background.init(rawValue:)) ?? .auto
        cache.elementType =
            try values.string("cache.element_type").flatMap(StoredElementType.init(rawValue:)) ?? cache.elementType
        return cache
    }

    /// What is put into or beside a model: LoRAs, another autoencoder, textual inversions.
    private static func readAdditions(
        to files: inout ModelFiles, _ key: String, _ values: LayeredValues, _ file: SettingsFile?, source: String,
        path: (String) -> String
    ) throws(SettingsError) {
        for lora in file?.names(under: "\(key).loras") ?? [] {
            let lora = "\(key).loras.\(lora)"
            guard let file = try values.string("\(lora).path") else {
                throw SettingsError(source: source, key: "\(lora).path", found: "nothing", expected: "a path")
            }
            files.loras.append(
                LowRankFile(
                    path: path(file), weight: try values.number("\(lora).weight") ?? 1,
                    unetWeight: try values.number("\(lora).unet_weight"),
                    textEncoderWeight: try values.number("\(lora).text_encoder_weight")))
        }
        files.autoencoder = try values.string("\(key).vae").map(path)
        files.isStrict = try values.string("\(key).strict") == "true"
        if let one = try values.string("\(key).embeddings") { files.embeddings.append(EmbeddingFile(path: path(one))) }
        for word in file?.names(under: "\(key).embeddings") ?? [] {
            guard let file = try values.string("\(key).embeddings.\(word)") else { continue }
            // A list names files only.
            files.embeddings.append(EmbeddingFile(path: path(file), word: word.allSatisfy(\.isNumber) ? nil : word))
        }
    }

    private static func schedule(
        _ key: String, _ values: LayeredValues
    ) throws(SettingsError) -> ScheduleOverrides {
        var schedule = ScheduleOverrides()
        schedule.sampler = try values.string("\(key).sampler").flatMap(Scheduler.init(named:)).map { SamplerChoice($0) }
        schedule.timestepSpacing =
            try values.string("\(key).timestep_spacing").flatMap(TimestepSpacing.init(rawValue:))
        schedule.rescaleBetasZeroSNR = try values.string("\(key).rescale_betas_zero_snr").map { $0 == "true" }
        schedule.betaStart = try values.number("\(key).beta_start")
        schedule.betaEnd = try values.number("\(key).beta_end")
        schedule.betaSchedule = try values.string("\(key).beta_schedule").flatMap(BetaSchedule.init(rawValue:))
        schedule.stepsOffset = try values.integer("\(key).steps_offset")
        schedule.setAlphaToOne = try values.string("\(key).set_alpha_to_one").map { $0 == "true" }
        schedule.clipSample = try values.string("\(key).clip_sample").map { $0 == "true" }
        schedule.originalInferenceSteps = try values.integer("\(key).original_inference_steps")
        return schedule
    }

    private static func absolute(_ path: String, relativeTo folder: String? = nil) -> String {
        let base = folder.map { URL(fileURLWithPath: $0, isDirectory: true) }
        return URL(fileURLWithPath: path, relativeTo: base).standardizedFileURL.path
    }
}

/// The layers of the configuration, read through swift-configuration; a value is checked against its key's rule, whichever
/// layer it comes from.
private struct LayeredValues {
    private let reader: ConfigReader
    private let file: SettingsFile?
    private let overrides: [String: String]
    private let environment: [String: String]

    init(file: SettingsFile?, overrides: [String: String], environment: [String: String]) {
        func provider(_ name: String, _ values: [String: String]) -> InMemoryProvider {
            InMemoryProvider(
                name: name,
                values: Dictionary(
                    uniqueKeysWithValues: values.map {
                        (AbsoluteConfigKey($0.split(separator: ".").map(String.init)), ConfigValue(stringLiteral: $1))
                    }))
        }
        reader = ConfigReader(providers: [
            provider("command line", overrides),
            EnvironmentVariablesProvider(environmentVariables: environment).prefixKeys(with: "dreamcache"),
            provider("file", file?.values.mapValues(\.text) ?? [:]),
        ])
        self.file = file
        self.overrides = overrides
        self.environment = environment
    }

    /// Names the command line puts directly under a section.
    func overriddenNames(under section: String) -> [String] {
        overrides.keys.filter { $0.hasPrefix(section + ".") }
            .compactMap { $0.dropFirst(section.count + 1).split(separator: ".").first.map(String.init) }
    }

    func string(_ key: String) throws(SettingsError) -> String? {
        guard let text = reader.string(forKey: ConfigKey(key.split(separator: ".").map(String.init))) else {
            return nil
        }
        guard let rule = SettingKey.matching(key), rule.accepts(text) else {
            throw SettingsError(
                source: source(of: key), key: key, found: "'\(text)'",
                expected: SettingKey.matching(key)?.expected ?? "a known key")
        }
        return text
    }

    func number(_ key: String) throws(SettingsError) -> Double? { try string(key).flatMap(Double.init) }
    func integer(_ key: String) throws(SettingsError) -> Int? { try string(key).flatMap { Int($0) } }

    /// Where the value of a key comes from, for a message.
    func source(of key: String) -> String {
        let variable = "DREAMCACHE_" + key.uppercased().replacingOccurrences(of: ".", with: "_")
        if overrides[key] != nil { return "command line" }
        if environment[variable] != nil { return "environment variable \(variable)" }
        if let file, let value = file.values[key] { return "\(file.path):\(value.line)" }
        return file?.path ?? "default"
    }
}
