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
            is then used as it is. A mask NAME_mask beside a photo is used in place of the program's own, as in a dropped \
            folder. The command says where a cut-out looks doubtful. Photos with the same name get cut-outs with names of \
            their own: a-heic.png beside a.png.
            """)

    @Argument(help: "Photos, or folders of photos.", completion: .file())
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
            let settings = try configuration.settings(overrides)
            do {
                try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
            } catch { throw Failure(code: .failed, message: "\(out): \(error.localizedDescription)") }
            let folders = try photos.map {
                try ReferenceFolder($0, limits: settings.spool.references, takesMask: true)
            }
            let cutter = PhotoCutter(
                settings, background: CacheSettings.Background(rawValue: background) ?? .remove, into: out,
                given: folders.flatMap(\.pictures))
            var made: [JSON] = []
            for folder in folders {
                if !folder.unused.isEmpty { Terminal.note("not used: " + folder.unused.joined(separator: ", ")) }
                for picture in folder.pictures { made.append(try cut(picture, of: folder, with: cutter)) }
            }
            if json { Terminal.result(JSON.array(made)) }
        }
    }

    private func cut(_ picture: String, of folder: ReferenceFolder, with cutter: PhotoCutter) throws -> JSON {
        let name = folder.original(of: URL(fileURLWithPath: picture).lastPathComponent)
        let result = try ForegroundRun.translated(names: folder.original) {
            try cutter.cut(
                picture, name: name, progress: { Terminal.show(image: 0, images: 1, $0) },
                shouldStop: { Interruption.isRequested })
        }
        Terminal.endProgress()
        for remark in result.remarks { Terminal.note("\(name): \(remark)") }
        if !json { Terminal.result("\(out)/\(result.json["on_white"]?.string ?? "")") }
        return result.json
    }
}
