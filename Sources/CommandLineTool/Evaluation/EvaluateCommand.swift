import Application
import ArgumentParser
import Evaluation
import Foundation
import Spool

/// Sets of pictures against photos of their subjects.
struct EvaluateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evaluate", abstract: "Judge sets of pictures against photos of their subject.",
        discussion: """
            Each set is a folder of pictures, or LABEL=FOLDER. subject_match is the base model's own judgement and needs no \
            download; --encoder adds DINO, DINOv2 or CLIP from files of yours, and a CLIP says how well prompts are met. The \
            first row is always the photographs judged among themselves: what a perfect set would score. The copy score tells \
            a pasted reference from a picture of the subject.

            Many subjects are named in a file: {"subjects": [{"name": "dog", "references": "photos/dog", "source": "00.jpg", \
            "sets": [{"label": "image_scale 0.4", "folder": "out/dog"}]}]}, paths from the file's folder. --plan writes such a \
            file and the manifests that make its sets.
            """)

    @Argument(help: "Folders of pictures, or LABEL=FOLDER; or one JSON file that names many subjects.")
    var sets: [String] = []

    @Option(help: "Folder of photos of the subject; with --plan, a folder of such folders.")
    var references: String?

    @Option(help: "Name of the photo that the sets were made from, for the protocol dreambench++.")
    var source: String?

    @Option(
        name: .customLong("protocol"),
        help:
            "dreambooth (all photos), paper (the first), dreambench++ (the source), masked (all, without backgrounds).")
    var method = "dreambooth"

    @Option(name: .customLong("encoder"), help: "A file or folder of DINO, DINOv2 or CLIP; may be given several times.")
    var encoders: [String] = []

    @Flag(name: .customLong("no-model"), help: "Leave the base model's own judgement out.")
    var withoutModel = false

    @Option(help: "Folder for report.json, report.csv and report.html; it is made if it does not exist.")
    var out: String?

    @Option(
        help: "File of prompts, a line each, {} standing for the subject: writes manifests and the list into --out.")
    var plan: String?

    @Option(help: "Pictures of each prompt, for --plan.")
    var imagesPerPrompt = 4

    @OptionGroup var options: ForegroundOptions

    func validate() throws {
        guard ReferenceProtocol(rawValue: method) != nil else {
            let known = ReferenceProtocol.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("--protocol: found '\(method)', expected one of \(known)")
        }
        if plan != nil {
            guard references != nil, out != nil, sets.isEmpty else {
                throw ValidationError("--plan: expected --references and --out beside it, and no sets")
            }
            guard (1...1000).contains(imagesPerPrompt) else {
                throw ValidationError("--images-per-prompt: found \(imagesPerPrompt), expected 1 to 1000")
            }
            return
        }
        if sets.isEmpty { throw ValidationError("found no sets, expected at least one") }
        if references == nil, !isList { throw ValidationError("found no --references, expected a folder of photos") }
        if withoutModel, encoders.isEmpty { throw ValidationError("--no-model: expected an --encoder in its place") }
    }

    private var isList: Bool { sets.count == 1 && sets[0].hasSuffix(".json") }

    func run() throws {
        try Terminal.run {
            if let plan, let references, let out {
                let manifests = try EvaluationPlan(prompts: plan, subjects: references, each: imagesPerPrompt).write(
                    to: out)
                Terminal.result(manifests.joined(separator: "\n"))
                return
            }
            let settings = try options.settings()
            try ForegroundRun.translated {
                let evaluator = try Evaluator(settings, usesModel: !withoutModel, encoders: encoders) {
                    Terminal.progress($0.printable)
                }
                let subjects = try isList ? EvaluationList.subjects(ofFile: sets[0]) : [subject()]
                let report = try evaluator.evaluate(
                    subjects, method: ReferenceProtocol(rawValue: method) ?? .dreambooth)
                Terminal.endProgress()
                for remark in evaluator.remarks { Terminal.note("dreamcache: note: \(remark)") }
                if let out { try write(report, evaluator.page(of: report), to: out) }
                if options.json {
                    Terminal.result(String(decoding: try report.json(), as: UTF8.self))
                } else {
                    Terminal.result(report.table)
                    let copies = report.pictures.filter { $0.isCopy && $0.set != Evaluation.real }
                    let isOne = Set(report.pictures.map(\.subject)).count == 1
                    for picture in copies {
                        let name = isOne ? picture.file : "\(picture.file) of \(picture.subject)"
                        Terminal.note("dreamcache: note: \(picture.set): \(name) repeats a reference")
                    }
                }
            }
        }
    }

    private func subject() -> Evaluator.Subject {
        let folder = references ?? ""
        return Evaluator.Subject(
            name: URL(fileURLWithPath: folder).lastPathComponent, references: folder, source: source,
            sets: sets.map { text -> (label: String, folder: String) in
                let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
                if parts.count == 2, !FileManager.default.fileExists(atPath: text) { return (parts[0], parts[1]) }
                return (URL(fileURLWithPath: text).lastPathComponent, text)
            })
    }

    private func write(_ report: Report, _ page: String, to folder: String) throws {
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let place = URL(fileURLWithPath: folder)
            try report.json().write(to: place.appendingPathComponent("report.json"), options: .atomic)
            try Data(report.csv.utf8).write(to: place.appendingPathComponent("report.csv"), options: .atomic)
            try Data(page.utf8).write(to: place.appendingPathComponent("report.html"), options: .atomic)
        } catch { throw Failure(code: .failed, message: "\(folder): \(error.localizedDescription)") }
    }
}
