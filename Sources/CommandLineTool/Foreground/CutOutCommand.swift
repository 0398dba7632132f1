import Application
import ArgumentParser
import Foundation
import Spool
import TensorEngine

/// Photos to cut-outs, in the foreground.
struct CutOutCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cutout", abstract: "Cut the subject out of photos, as is done before they are encoded.",
        discussion: """
            The command writes two files per photo: NAME.png, the subject in a square with alpha, and NAME_white.png, the \
            same on white, which is what the model sees. NAME.png can be dropped as a reference in place of the photo and \
            is then used as it is. A mask NAME_mask.png beside a photo is used in place of the program's own. The command \
            says where a cut-out looks doubtful.
            """)

    @Argument(help: "Photos.", completion: .file())
    var photos: [String]

    @Option(help: "Folder for the cut-outs; it is made if it does not exist.", completion: .directory)
    var out: String

    @Option(
        help: "remove (from all photos), or auto (only where it is needed).", completion: .list(["auto", "remove"]))
    var background: String = "remove"

    @Option(
        help: "Compute path: \(ComputePath.choices.joined(separator: ", ")).", completion: .list(ComputePath.choices))
    var compute: String?

    @Option(help: "Number of threads; one per core when not given.")
    var threads: Int?

    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Print a JSON list of what was made.")
    var json = false

    func validate() throws {
        guard ["auto", "remove"].contains(background) else {
            throw ValidationError("--background: found '\(background)', expected auto or remove")
        }
        if photos.isEmpty { throw ValidationError("found no photos, expected at least one") }
    }

    func run() throws {
        try Terminal.run {
            Interruption.listen()
            var overrides: [String: String] = [:]
            overrides["compute"] = compute
            overrides["threads"] = threads.map(String.init)
            let cutter = PhotoCutter(
                try configuration.settings(overrides),
                background: CacheSettings.Background(rawValue: background) ?? .remove
            )
            do {
                try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
            } catch { throw Failure(code: .failed, message: "\(out): \(error.localizedDescription)") }
            var made: [JSON] = []
            for photo in photos {
                let result = try ForegroundRun.translated {
                    try cutter.cut(
                        photo, into: out, progress: { Terminal.show(image: 0, images: 1, $0) },
                        shouldStop: { Interruption.isRequested })
                }
                Terminal.endProgress()
                made.append(result.json)
                for remark in result.remarks { Terminal.note("\(photo): \(remark)") }
                if !json { Terminal.result("\(out)/\(result.json["on_white"]?.string ?? "")") }
            }
            if json { Terminal.result(JSON.array(made)) }
        }
    }
}
