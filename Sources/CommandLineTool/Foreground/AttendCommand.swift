import Application
import ArgumentParser
import Foundation
import Spool

/// Where pictures read their references.
struct AttendCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attend", abstract: "Run one manifest and show what its pictures read of their references.",
        discussion: """
            The set is made as by render, and its manifest's output.attention is true. Beside each picture NNNN.png there is \
            NNNN.attention.png, on the left the references and how much of them was read, on the right the picture and how \
            much each place read of the subject; and NNNN.attention.safetensors, the maps of every site. result.json has the \
            numbers, in the mean and of every site: localisation, the share of the reading that falls on the subject; leak, \
            the share that falls on the background of its photos; area, how much of its photos the subject covers; coverage, \
            the share of the subject's tokens that were read at least half as much as they are in the mean; background, the \
            share of the reading of the subject that is done by the picture's background; background_area, how much of the \
            picture is background.
            """)

    @Argument(help: "The manifest, a JSON file; - reads standard input.", completion: .file(extensions: ["json"]))
    var manifest: String

    @Option(help: "Folder for the set of images; it must not exist yet.", completion: .directory)
    var out: String

    @Option(help: "Folder of photos of the subject, or one photo.", completion: .file())
    var references: String?

    @Option(
        help: "A .dcache of the subject. The references are then not shown.", completion: .file(extensions: ["dcache"]))
    var cache: String?

    @Option(help: "Every how many steps the attention is recorded.")
    var every = AttentionRequest.interval

    @OptionGroup var cacheOptions: CacheOptionGroup
    @OptionGroup var options: ForegroundOptions

    func validate() throws {
        guard every > 0 else { throw ValidationError("--every: found \(every), expected 1 or more") }
        guard (references == nil) != (cache == nil) else {
            throw ValidationError("expected one of --references and --cache")
        }
    }

    func run() throws {
        try Terminal.run {
            Interruption.listen()
            let run = ForegroundRun(try options.settings())
            let (read, document) = try ForegroundRun.manifest(manifest, try cacheOptions.settings())
            var parsed = read
            parsed.output.attention = true
            let result = try run.render(
                parsed, document: document, caches: references.map { .references($0) } ?? .file(cache ?? ""),
                initialImage: nil, output: out, attentionInterval: every, progress: Terminal.show)
            Terminal.endProgress()
            if options.json { Terminal.result(result) } else { Terminal.result(out) }
        }
    }
}
