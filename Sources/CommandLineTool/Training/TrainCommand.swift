import Application
import ArgumentParser
import Foundation
import Logging
import Spool
import Training

/// An adapter from a data set, in the foreground.
struct TrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "train", abstract: "Train an adapter for a base model.",
        discussion: """
            The data set is a folder with a folder for each object; in it lie NAME_generation.png, NAME_caption.txt and \
            NAME_mask.png for each picture of the object. Where a mask is missing, the program cuts the subject out. Of \
            an object with several pictures, one is the reference and another the target.

            The run's folder (--run) keeps its state: the same command goes on where a run was cut off, and its adapter is \
            byte for byte that of a run that nobody disturbed. SIGINT and SIGTERM save the state and end the run.

            --settings names a YAML or JSON file; --print-settings prints every setting with its default and its meaning, \
            --print-schema a JSON Schema of such a file. --set NAME=VALUE takes the place of a line of it.
            """)

    @Option(help: "Folder of the data set.")
    var data: String?

    @Option(help: "The adapter to write, safetensors; `dreamcache convert` makes the authors' .pt of it.")
    var out: String?

    @Option(help: "File of settings, YAML or JSON.")
    var settings: String?

    @Option(name: .customLong("set"), help: "One setting, NAME=VALUE; may be given several times.")
    var values: [String] = []

    @Option(help: "Steps in all, in place of the settings'.")
    var steps: Int?

    @Option(help: "self, random or the path of an adapter, in place of the settings'.")
    var start: String?

    @Option(
        name: .customLong("run"),
        help: "Folder of the run; --out without its extension and with .training behind it when not given.")
    var runFolder: String?

    @Option(help: "Folder for what is prepared of the data, which several runs may share; the run's when not given.")
    var prepared: String?

    @Flag(help: "Go on with a state of other settings.")
    var changeSettings = false

    @OptionGroup var options: ForegroundOptions

    @Flag(help: "Print all settings as they are, as a YAML file, and do nothing.")
    var printSettings = false

    @Flag(help: "Print a JSON Schema of the file of settings, and do nothing.")
    var printSchema = false

    func validate() throws {
        if printSettings || printSchema { return }
        if data == nil { throw ValidationError("--data: found nothing, expected the folder of a data set") }
        if out == nil { throw ValidationError("--out: found nothing, expected the path of an adapter to write") }
        if options.model.adapter != nil {
            throw ValidationError("--adapter: found a path, expected none; --start names an adapter to begin with")
        }
    }

    func run() throws {
        try Terminal.run {
            Interruption.listen()
            if printSchema {
                Terminal.result(TrainingSettings.schema.trimmingCharacters(in: .newlines))
                return
            }
            let training = try Self.translated { try trainingSettings() }
            if printSettings {
                Terminal.result(training.yaml.trimmingCharacters(in: .newlines))
                return
            }
            guard let data, let out else { return }
            let result = try Self.translated { try train(training, data: data, out: out) }
            Terminal.endProgress()
            for remark in result.remarks { Terminal.note(remark.printable) }
            Terminal.result(options.json ? Self.description(result, out).text() : out.printable)
        }
    }

    private func trainingSettings() throws -> TrainingSettings {
        var training = try settings.map { try TrainingSettings(file: $0) } ?? TrainingSettings()
        var values = values
        if let steps { values.append("steps=\(steps)") }
        if let start { values.append("start=\(start)") }
        try training.set(values)
        training.resolveStart()
        return training
    }

    private func train(_ training: TrainingSettings, data: String, out: String) throws -> TrainingResult {
        let stem = URL(fileURLWithPath: out).deletingPathExtension().path
        let places = TrainingRun.Places(
            data: data, output: out, run: runFolder ?? "\(stem).training", prepared: prepared)
        return try options.trainingWork().run(
            places, training, acceptsSettings: changeSettings, progress: Self.show,
            shouldStop: { Interruption.isRequested })
    }

    /// One line: what is done, how much of it, the loss, the time left.
    static func show(_ work: TrainingProgress) {
        var line = work.phase
        if work.steps > 0 { line += " \(Terminal.bar(work.step, of: work.steps)) \(work.step)/\(work.steps)" }
        if let loss = work.loss { line += String(format: " loss %.4f", loss) }
        if let seconds = work.secondsLeft { line += " \(duration(seconds)) left" }
        Terminal.progress(line)
    }

    private static func duration(_ seconds: Double) -> String {
        guard seconds < 1e9 else { return "for ever" }
        let minutes = Int(seconds / 60)
        if minutes < 1 { return "\(Int(seconds)) s" }
        return minutes < 60 ? "\(minutes) min" : "\(minutes / 60) h \(minutes % 60) min"
    }

    private static func description(_ result: TrainingResult, _ path: String) -> JSON {
        .object([
            "adapter": .string(path), "steps": .integer(result.steps), "loss": result.loss.map(JSON.number),
            "validation_error": result.validation.map { .number($0.error) },
            "subject_match": result.milestone.map { .number($0.match) },
            "remarks": .array(result.remarks.map(JSON.string)),
        ])
    }

    /// Training's errors as the program's.
    static func translated<R>(_ work: () throws -> R) throws -> R {
        do { return try ForegroundRun.translated(work) } catch let error as TrainingError {
            let code: Failure.Code =
                switch error {
                case .settings: .configuration
                case .data: .rejected
                default: .failed
                }
            let message = if case .stopped = error { "interrupted; the same command goes on" } else { "\(error)" }
            throw Failure(code: code, message: message.printableLines)
        }
    }
}

extension ForegroundOptions {
    /// Training with the model that was chosen.
    func trainingWork() throws -> TrainingWork {
        var logger = Logger(label: "training")
        logger.logLevel = .error
        return try TrainingWork(try settings(), logger: logger)
    }
}
