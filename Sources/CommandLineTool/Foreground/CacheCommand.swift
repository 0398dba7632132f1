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
            "Folder of photos (\(ImageFormat.supported)), or one photo. NAME_mask.png beside NAME.* cuts the subject out.",
        completion: .file())
    var references: String

    @Option(help: "The .dcache to write; it must not exist yet.", completion: .file(extensions: ["dcache"]))
    var out: String

    @Option(help: "Name of the subject; the folder's name when not given.")
    var subject: String?

    @OptionGroup var cacheOptions: CacheOptionGroup
    @OptionGroup var options: ForegroundOptions

    func run() throws {
        try Terminal.run {
            Interruption.listen()
            let settings = try options.settings()
            let run = ForegroundRun(settings)
            let remarks = try run.makeCache(
                references, subject: subject, settings: try cacheOptions.settings(), output: out,
                progress: Terminal.show)
            Terminal.endProgress()
            for remark in remarks { Terminal.note(remark) }
            if options.json { Terminal.result(try CacheDescription(path: out).json) } else { Terminal.result(out) }
        }
    }
}

/// How references become a cache, as options.
struct CacheOptionGroup: ParsableArguments {
    @Option(help: "Seed of the noise that each reference is given.")
    var cacheSeed: Int?

    @Option(
        help: "paper (the posterior's mean, an empty prompt) or official (as the authors' script does it).",
        completion: .list(CacheSettings.Mode.allCases.map(\.rawValue)))
    var cacheMode: String?

    @Option(help: "Prompt of the reference pass, in place of the mode's own.")
    var cachePrompt: String?

    @Option(
        help: "Which tokens are kept: all, or foreground (those that alpha or mask shows).",
        completion: .list(CacheSettings.Tokens.allCases.map(\.rawValue)))
    var tokens: String?

    @Option(
        help: """
            Whether backgrounds are removed: auto (where a photo has no alpha, no mask and no plain border), keep or remove.
            """, completion: .list(CacheSettings.Background.allCases.map(\.rawValue)))
    var background: String?

    @Option(
        help: "How a picture becomes square: pad (with white) or squash.",
        completion: .list(CacheSettings.Fit.allCases.map(\.rawValue)))
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
