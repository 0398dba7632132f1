import Application
import ArgumentParser
import Foundation
import Spool

/// Where pictures read their references.
struct AttendCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attend", abstract: "Run one manifest and show what its pictures read of their references.",
        discussion: """
            The set is made as by render. Beside each picture NNNN.png stand NNNN.attention.png (left the references and how \
            much of them was read, right the picture and how much each place read of the subject) and \
            NNNN.attention.safetensors (the maps of every site). result.json has the numbers: localisation, the share of the \
            reading that falls on the subject; leak, the share that falls on the background of its photos; coverage, the \
            share of the subject's tokens that were read at least half as much as they are in the mean; area, how much of \
            its photos the subject covers.
            """)

    @Argument(help: "The manifest, a JSON file; - reads standard input.")
    var manifest: String

    @Option(help: "Folder for the set of images; it must not exist yet.")
    var out: String

    @Option(help: "Folder of photos of the subject, or one photo.")
    var references: String

    @Option(help: "Every how many steps the attention is recorded.")
    var every = 5

    @OptionGroup var cacheOptions: CacheOptionGroup
    @OptionGroup var modelOptions: ModelOptions
    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Print result.json when done.")
    var json = false

    func validate() throws {
        guard every > 0 else { throw ValidationError("--every: found \(every), expected 1 or more") }
    }

    func run() throws {
        try Terminal.run {
            Interruption.listen()
            let run = ForegroundRun(try configuration.settings(try modelOptions.overrides()))
            let (manifest, document) = try ForegroundRun.manifest(self.manifest, try cacheOptions.settings())
            let result = try run.render(
                manifest, document: document, caches: .references(references), initialImage: nil, output: out,
                attentionInterval: every, progress: Terminal.show)
            Terminal.endProgress()
            if json { Terminal.result(result) } else { Terminal.result(out) }
        }
    }
}
