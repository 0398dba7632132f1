import ArgumentParser
import Foundation
import Application
import Raster
import Spool

/// References to a `.dcache`, in the foreground.
struct CacheCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cache", abstract: "Turn a folder of photos of one subject, or one photo, into a .dcache.")

    @Argument(
        help:
            "Folder of photos (\(ImageFormat.supported)), or one photo. NAME_mask.png beside NAME.* cuts the subject out."
    )
    var references: String

    @Option(help: "The .dcache to write; it must not exist yet.")
    var out: String

    @Option(help: "Name of the subject; the folder's name when not given.")
    var subject: String?

    @OptionGroup var cacheOptions: CacheOptionGroup
    @OptionGroup var modelOptions: ModelOptions
    @OptionGroup var configuration: ConfigurationOptions

    @Flag(help: "Print a JSON description of the cache.")
    var json = false

    func run() throws {
        try Terminal.run {
            Interruption.listen()
            let settings = try configuration.settings(try modelOptions.overrides())
            let run = ForegroundRun(settings)
            try run.makeCache(
                references, subject: subject, settings: try cacheOptions.settings(), output: out,
                progress: Terminal.show)
            Terminal.endProgress()
            let description = try CacheDescription(path: out)
            for remark in description.remarks { Terminal.note(remark) }
            if json { Terminal.result(description.json) } else { Terminal.result(out) }
        }
    }
}

/// How references become a cache, as options.
struct CacheOptionGroup: ParsableArguments {
    @Option(help: "Seed of the noise each reference is given.")
    var cacheSeed: Int?

    @Option(help: "paper (mean of the posterior, empty prompt) or official (as the authors' script).")
    var cacheMode: String?

    @Option(help: "Prompt of the reference pass, in place of the mode's own.")
    var cachePrompt: String?

    @Option(help: "Which tokens are kept: all, or foreground (by alpha or mask).")
    var tokens: String?

    @Option(
        help: """
            Whether backgrounds are removed: auto (where a photo has neither alpha, mask nor plain border), keep or remove.
            """)
    var background: String?

    @Option(help: "How a picture becomes square: pad (white) or squash.")
    var fit: String?

    func settings() throws -> CacheSettings {
        func value<T: RawRepresentable & CaseIterable>(_ option: String, _ text: String?) throws -> T?
        where T.RawValue == String {
            guard let text else { return nil }
            guard let value = T(rawValue: text) else {
                let choices = T.allCases.map(\.rawValue).joined(separator: " or ")
                throw ValidationError("--\(option): found '\(text)', expected \(choices)")
            }
            return value
        }
        if let cacheSeed, cacheSeed < 0 {
            throw ValidationError("--cache-seed: found \(cacheSeed), expected 0 or more")
        }
        return CacheSettings(
            mode: try value("cache-mode", cacheMode), seed: cacheSeed, prompt: cachePrompt, fit: try value("fit", fit),
            tokens: try value("tokens", tokens), background: try value("background", background))
    }
}
