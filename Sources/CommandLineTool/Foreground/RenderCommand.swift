import ArgumentParser
import Foundation
import Application
import Spool

/// One manifest, without a daemon.
struct RenderCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "render", abstract: "Run one manifest in the foreground, without a daemon.",
        discussion: """
            The subject's cache comes from --cache, or is made from --references. With neither, the spool's cache of the \
            manifest's subject is used; a manifest without a subject is run on the plain model. A picture to begin with \
            comes from --init-image, or else from the spool, by the name in the manifest's init_image.

            A manifest's select makes several candidates of each image and puts the best into the set. Encoders that look at \
            photos need --references.
            """)

    @Argument(help: "The manifest, a JSON file; - reads standard input.", completion: .file(extensions: ["json"]))
    var manifest: String

    @Option(help: "Folder for the set of images; it must not exist yet.", completion: .directory)
    var out: String

    @Option(help: "Folder of photos of the subject, or one photo.", completion: .file())
    var references: String?

    @Option(help: "A .dcache of the subject.", completion: .file(extensions: ["dcache"]))
    var cache: String?

    @Option(
        help: "The picture to begin with instead of noise. It takes the place of the manifest's init_image.",
        completion: .file())
    var initImage: String?

    @Option(
        help: "How much of --init-image is replaced, above 0 to 1. Without it: the manifest's strength, or 0.8.")
    var strength: Double?

    @OptionGroup var cacheOptions: CacheOptionGroup
    @OptionGroup var options: ForegroundOptions

    func validate() throws {
        if let strength {
            guard initImage != nil else {
                throw ValidationError("--strength: found \(strength) without --init-image, expected both or neither")
            }
            guard strength > 0, strength <= 1 else {
                throw ValidationError("--strength: found \(strength), expected above 0 to 1")
            }
        }
        if references != nil, cache != nil { throw ValidationError("--references and --cache exclude each other") }
    }

    func run() throws {
        try Terminal.run {
            Interruption.listen()
            let run = ForegroundRun(try options.settings())
            let (read, document) = try ForegroundRun.manifest(manifest, try cacheOptions.settings())
            var parsed = read
            let source: ForegroundRun.CacheSource =
                if let references { .references(references) } else if let cache { .file(cache) } else { .spool }
            if let initImage {
                // As the spool would call it, were it dropped there: `replay` then gives a manifest for both.
                let stem = URL(fileURLWithPath: initImage).deletingPathExtension().lastPathComponent
                let named = parsed.initialImage
                parsed.initialImage = InitialImageUse(
                    subject: named?.subject ?? (DropName.isPlain(stem) ? stem : "picture"),
                    strength: strength ?? named?.strength ?? InitialImageUse.defaultStrength)
            }
            let result = try run.render(
                parsed, document: document, caches: source, initialImage: initImage, output: out,
                progress: Terminal.show)
            Terminal.endProgress()
            if options.json { Terminal.result(result) } else { Terminal.result(out) }
        }
    }
}
