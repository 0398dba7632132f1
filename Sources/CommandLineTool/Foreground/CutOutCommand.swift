import Application
import ArgumentParser
import Foundation
import Spool

/// Photos to cut-outs, in the foreground.
struct CutOutCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cutout", abstract: "Cut the subject out of photos, as it is done before they are encoded.",
        discussion: """
            Of each photo it writes NAME.png, the subject in a square with alpha, and NAME_white.png, the same on white, \
            which is what the model sees. NAME.png, dropped as a reference in place of the photo, is used as it is. A \
            mask NAME_mask.png beside a photo is used in place of the program's own. What looks doubtful is said.
            """)

    @Argument(help: "Photos.")
    var photos: [String]

    @Option(help: "Folder for the cut-outs; it is made if it does not exist.")
    var out: String

    @Option(help: "remove (all photos), or auto (only those that need it).")
    var background: String = "remove"

    @Option(help: "Who computes; see render.")
    var compute: String?

    @Option(help: "Threads that compute; one a core when not given.")
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
