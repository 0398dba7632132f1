import Bytes
import Foundation
import Logging
import Application
import Raster
import Spool

/// The work of `render` and `cache`: what the daemon's runner does, with the caller's files in place of the spool's.
struct ForegroundRun {
    /// Where the caches of a manifest come from.
    enum CacheSource {
        case references(String)
        case file(String)
        case spool
    }

    typealias Progress = (_ image: Int, _ images: Int, RenderProgress) -> Void

    private let settings: Settings
    private let runner: JobRunner

    init(_ settings: Settings) {
        self.settings = settings
        var logger = Logger(label: "renderer")
        // Users often may not write to the daemon's folder of prepared weights. That deserves no warning.
        logger.logLevel = .error
        runner = JobRunner(settings, logger: logger)
    }

    /// Bytes of a file, or of standard input for `-`.
    static func read(_ path: String) throws -> [UInt8] {
        if path == "-" { return [UInt8](try FileHandle.standardInput.readToEnd() ?? Data()) }
        return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    }

    /// A manifest, as it is to be run with these settings of the cache, and as it was written.
    static func manifest(_ path: String, _ given: CacheSettings) throws -> (JobManifest, document: JSON) {
        let bytes: [UInt8]
        do { bytes = try read(path) } catch {
            throw Failure(code: .rejected, message: "\(path): \(error.localizedDescription)")
        }
        do {
            var manifest = try JobManifest.parse(bytes, subjectRequired: false)
            if manifest.training != nil {
                throw Failure(
                    code: .rejected,
                    message:
                        "\(path): $.kind: found training, expected render; `dreamcache train` trains in the foreground")
            }
            let own = manifest.cache
            manifest.cache = CacheSettings(
                mode: given.mode ?? own.mode, seed: given.seed ?? own.seed, prompt: given.prompt ?? own.prompt,
                fit: given.fit ?? own.fit, tokens: given.tokens ?? own.tokens,
                background: given.background ?? own.background)
            return (manifest, try JSONReader.read(bytes))
        } catch let error as Failure { throw error } catch {
            throw Failure(code: .rejected, message: "\(path):\n\(error)")
        }
    }

    /// Encodes references into a file that must not exist yet.
    /// - Returns: what is to be said of the references, a sentence each, by the names that the person gave them.
    func makeCache(
        _ references: String, subject: String?, settings: CacheSettings, output: String, progress: @escaping Progress
    ) throws -> [String] {
        try refuseExisting(output)
        try refuseExisting(CutOuts.folder(beside: output))
        let name = GivenPaths.name(of: references).map { URL(fileURLWithPath: $0.printable) }
        let photos = try photos(at: references)
        try makeCache(
            photos, subject: subject ?? name?.deletingPathExtension().lastPathComponent ?? "subject", model: nil,
            settings: settings, output: output, progress: progress)
        return try CacheDescription(path: output).remarks.map { "\(photos.original(of: $0.reference)): \($0.text)" }
    }

    private func makeCache(
        _ photos: ReferenceFolder, subject: String, model: String?, settings: CacheSettings, output: String,
        progress: @escaping Progress
    ) throws {
        let request = EncodeRequest(
            subject: subject, references: photos.pictures, digests: [], model: model, settings: settings,
            output: URL(fileURLWithPath: output).path)
        try Self.translated(names: photos.original) {
            try runner.encode(request, progress: { progress(0, 1, $0) }, shouldStop: { Interruption.isRequested })
        }
    }

    private func photos(at path: String) throws -> ReferenceFolder {
        let photos = try ReferenceFolder(path, limits: settings.spool.references)
        if !photos.unused.isEmpty { Terminal.note("not used: " + photos.unused.joined(separator: ", ")) }
        return photos
    }

    /// Makes the set of a manifest in a folder that must not exist yet. It is there whole or not at all.
    /// - Parameters:
    ///   - document: the manifest as it was written, for the set's page.
    ///   - initialImage: the file of the manifest's `init_image`; nil takes it from the spool.
    ///   - attentionInterval: every how many steps what the pictures read is recorded, where the manifest asks for it.
    /// - Returns: the contents of its `result.json`.
    func render(
        _ manifest: JobManifest, document: JSON, caches source: CacheSource, initialImage: String?, output: String,
        attentionInterval: Int = AttentionRequest.interval, progress: @escaping Progress
    ) throws -> JSON {
        try refuseExisting(output)
        try Self.check(manifest.subjects, against: source)
        try Self.translated { try runner.check(manifest) }
        for note in runner.notes(on: manifest) { Terminal.note("dreamcache: note: \(note)") }
        let folder = try onFiles { () throws(FileError) in try AtomicFolder(output) }
        let subject = manifest.subjects.first?.name ?? "subject"
        let photos: ReferenceFolder? = if case .references(let path) = source { try photos(at: path) } else { nil }
        try manifest.subjects.first?.references.map { try photos?.choose($0) }
        // Beside the set, and gone before the set is published.
        let madeCache = folder.path(Self.madeCache)
        if let photos {
            try makeCache(
                photos, subject: subject, model: manifest.model, settings: manifest.cache, output: madeCache,
                progress: progress)
        }
        let set = ForegroundSet(
            manifest: manifest, document: document, seed: manifest.seed ?? Int.random(in: 0...Int(UInt32.max)),
            folder: folder, caches: try caches(of: manifest, source, subject: subject, made: madeCache),
            photos: photos?.pictures.map { GridRequest.Reference(subject: subject, path: $0) } ?? [],
            references: references(photos, subject: subject, in: folder),
            initialImage: try manifest.initialImage.map { try picture(of: $0.subject, given: initialImage) },
            attentionInterval: attentionInterval, hasPage: settings.spool.pages)
        let result = try set.make(by: runner, progress: progress)
        unlink(madeCache)
        try? FileManager.default.removeItem(atPath: CutOuts.folder(beside: madeCache))
        try onFiles { () throws(FileError) in
            try AtomicFile.write(Array((result.text() + "\n").utf8), to: folder.path("result.json"))
            try folder.commit()
        }
        return result
    }

    private static let madeCache = ".subject.dcache"

    /// What contact sheet and page show of the subject: the photos given, if there are any.
    private func references(
        _ photos: ReferenceFolder?, subject: String, in folder: AtomicFolder
    ) -> [GridRequest.Reference] {
        let cutOuts = CutOuts.folder(beside: folder.path(Self.madeCache))
        return (photos?.pictures ?? []).enumerated().map { index, path in
            GridRequest.Reference(
                subject: subject, path: path, cutOut: "\(cutOuts)/\(CutOuts.fileName(reference: index))")
        }
    }

    /// What a manifest asks of its subjects that one given subject cannot have.
    private static func check(_ subjects: [SubjectUse], against source: CacheSource) throws {
        let option: String
        switch source {
        case .spool: return
        case .references: option = "--references"
        case .file: option = "--cache"
        }
        if subjects.count > 1 {
            throw Failure(
                code: .rejected, message: "$.subjects: found \(subjects.count) of them, expected one beside \(option)")
        }
        if case .file = source, subjects.first?.references != nil {
            throw Failure(
                code: .rejected,
                message:
                    "$.subject.references: found a choice of photos, expected none beside --cache, which was made of its own"
            )
        }
    }

    private func caches(
        of manifest: JobManifest, _ source: CacheSource, subject: String, made: String
    ) throws -> [CacheUse] {
        let scale = manifest.subjects.first?.imageScale ?? manifest.imageScale
        switch source {
        case .file(let path): return [CacheUse(subject: subject, imageScale: scale, path: path)]
        case .references: return [CacheUse(subject: subject, imageScale: scale, path: made)]
        case .spool:
            return try manifest.subjects.map { use in
                let path = "\(settings.spool.root)/cache/\(use.name).dcache"
                guard FileManager.default.fileExists(atPath: path) else {
                    throw Failure(
                        code: .rejected,
                        message: "subject '\(use.name)': found no \(path), expected it, --references or --cache")
                }
                return CacheUse(subject: use.name, imageScale: use.imageScale ?? manifest.imageScale, path: path)
            }
        }
    }

    /// The picture a manifest begins with: the given file, or the spool's own.
    private func picture(of subject: String, given path: String?) throws -> InitialImage {
        if let path {
            guard FileManager.default.fileExists(atPath: path) else {
                throw Failure(
                    code: .rejected,
                    message: "--init-image: found no \(path), expected a picture (\(ImageFormat.supported))")
            }
            return InitialImage(path: URL(fileURLWithPath: path).path, sha256: try Self.digest(path))
        }
        let root = settings.spool.root
        guard let picture = try? SpoolClient(root: root).initialImage(of: subject) else {
            throw Failure(
                code: .rejected,
                message: "$.init_image: found no references of '\(subject)' in \(root), expected them or --init-image")
        }
        return picture
    }

    private func refuseExisting(_ path: String) throws {
        if FileManager.default.fileExists(atPath: path) {
            throw Failure(code: .failed, message: "\(path): exists already, expected a new name")
        }
    }

    static func digest(_ path: String) throws -> String {
        try onFiles { () throws(FileError) in try sha256(ofFile: path) }
    }

    /// The renderer's errors as the program's; `names` gives the name that a person gave to a reference.
    static func translated<R>(names: (String) -> String = { $0 }, _ work: () throws -> R) throws -> R {
        do { return try work() } catch let error as RendererError {
            switch error {
            case .rejected(let field, let message):
                let named = RendererError.rejected(field: field.map(names), message: message)
                throw Failure(code: .rejected, message: named.description)
            case .unavailable(let message): throw Failure(code: .configuration, message: message)
            case .transient(let message), .changed(let message), .environment(let message):
                throw Failure(code: .failed, message: message)
            case .stopped: throw Failure(code: .failed, message: "interrupted")
            }
        }
    }
}

/// Work on files, whose errors become the program's.
func onFiles<R>(_ work: () throws(FileError) -> R) throws -> R {
    do throws(FileError) { return try work() } catch { throw Failure(code: .failed, message: "\(error)".printable) }
}
