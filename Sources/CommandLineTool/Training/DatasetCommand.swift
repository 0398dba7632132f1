import Application
import ArgumentParser
import Foundation
import Spool
import Training

/// Data sets for `train`.
struct DatasetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dataset", abstract: "Make data sets for training.", subcommands: [DatasetCreateCommand.self])
}

/// A data set of a base's own pictures.
struct DatasetCreateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Let a base make the pictures of a data set.",
        discussion: """
            The captions are those of --prompts, one per line, or `a photo of a CLASS, SCENE` for each line of --classes and \
            each of --scenes. The plain model makes a picture of each; the subject is found in it, and pictures in which \
            that is doubtful are left out. The same command goes on where it was stopped.
            """)

    @Option(help: "Folder of the data set.")
    var out: String

    @Option(help: "File of captions, one per line.")
    var prompts: String?

    @Option(help: "File of classes, one per line, such as backpack.")
    var classes: String?

    @Option(help: "File of scenes, one per line, such as on the beach.")
    var scenes: String?

    @Option(help: "Pictures of each caption.")
    var each = 1

    @Option(help: "Seed of the first picture.")
    var seed = 0

    @Option(help: "Denoising steps.")
    var steps = 30

    @Option(help: "Weight of the caption.")
    var guidanceScale = 7.5

    @OptionGroup var options: ForegroundOptions

    func validate() throws {
        guard (prompts != nil) != (classes != nil), (classes != nil) == (scenes != nil) else {
            throw ValidationError("expected either --prompts, or --classes and --scenes")
        }
        guard each > 0, seed >= 0, (1...1000).contains(steps) else {
            throw ValidationError("expected --each of 1 or more, --seed of 0 or more, --steps of 1 to 1000")
        }
    }

    func run() throws {
        try Terminal.run {
            Interruption.listen()
            let captions = try captions().flatMap { Array(repeating: $0, count: each) }
            let plan = DatasetCreation.Plan(captions: captions, seed: seed, steps: steps, guidanceScale: guidanceScale)
            let kept = try TrainCommand.translated {
                try options.trainingWork().makeDataset(
                    plan, folder: out, progress: TrainCommand.show,
                    dropped: { number, reasons in
                        Terminal.endProgress()
                        Terminal.note("left out \(number): \(reasons.joined(separator: "; "))")
                    }, shouldStop: { Interruption.isRequested })
            }
            Terminal.endProgress()
            let result = JSON.object([
                "dataset": .string(out), "pictures": .integer(kept), "captions": .integer(captions.count),
            ])
            Terminal.result(options.json ? result.text() : "\(out.printable): \(kept) of \(captions.count) pictures")
        }
    }

    private func captions() throws -> [String] {
        if let prompts { return try lines(of: prompts) }
        return DatasetCreation.captions(
            classes: try classes.map(lines) ?? [], scenes: try scenes.map(lines) ?? [])
    }

    private func lines(of path: String) throws -> [String] {
        let text: String
        do { text = try String(contentsOfFile: path, encoding: .utf8) } catch {
            throw Failure(code: .rejected, message: "\(path): \(error.localizedDescription)".printable)
        }
        let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { !$0.isEmpty }
        guard !lines.isEmpty else {
            throw Failure(code: .rejected, message: "\(path.printable): found no line, expected one at least")
        }
        return lines
    }
}
