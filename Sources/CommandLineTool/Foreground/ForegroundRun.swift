import Crypto
import Foundation
import Logging
import Application
import Spool

/// The renderer's work without a spool: what `render` and `cache` do. The daemon's runner does it; only the files come and
/// go elsewhere.
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
        // That the daemon's folder of prepared weights is not this user's to write is no news.
        logger.logLevel = .error
        runner = JobRunner(settings, logger: logger)
    }

    /// Bytes of a file, or of standard input for `-`.
    static func read(_ path: String) throws -> [UInt8] {
        if path == "-" { return [UInt8](FileHandle.standardInput.readDataToEndOfFile()) }
        return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    }

    /// Encodes references into a file that must not exist yet.
    func makeCache(
        _ references: String, subject: String?, settings: CacheSettings, output: String, progress: @escaping Progress
    ) throws {
        try refuseExisting(output)
        let files = try Self.pictures(at: references)
        let request = EncodeRequest(
            subject: subject ?? URL(fileURLWithPath: references).deletingPathExtension().lastPathComponent,
            references: files, digests: [], model: nil, settings: settings, output: URL(fileURLWithPath: output).path)
        try translated {
            try runner.encode(request, progress: { progress(0, 1, $0) }, shouldStop: { Interruption.isRequested })
        }
    }

    /// Makes the set of a manifest in a folder that must not exist yet.
    ///
    /// The set is made beside the folder under a hidden name and renamed into place, so that it is there whole or not at all.
    /// - Parameter initialImage: the file of the manifest's `init_image`; nil takes it from the spool.
    /// - Returns: the contents of its `result.json`.
    func render(
        _ manifest: JobManifest, caches source: CacheSource, initialImage: String?, output: String,
        progress: @escaping Progress
    ) throws -> JSON {
        try refuseExisting(output)
        try translated { try runner.check(manifest) }
        for note in runner.notes(on: manifest) { Terminal.note("dreamcache: note: \(note)") }
        let folder = URL(fileURLWithPath: output)
        let making = folder.deletingLastPathComponent().appendingPathComponent(
            ".\(folder.lastPathComponent).\(ProcessInfo.processInfo.processIdentifier)")
        do { try FileManager.default.createDirectory(at: making, withIntermediateDirectories: true) } catch {
            throw Failure(code: .failed, message: "\(making.path): \(error.localizedDescription)")
        }
        defer { try? FileManager.default.removeItem(at: making) }

        let caches = try caches(of: manifest, source, scratch: making, progress: progress)
        let initialImage = try manifest.initialImage.map { try picture(of: $0.subject, given: initialImage) }
        let seed = manifest.seed ?? Int.random(in: 0...Int(UInt32.max))
        let plans = manifest.images(seed: seed)
        var images: [JSON] = []
        for plan in plans {
            let name = manifest.fileName(image: plan.index)
            let path = making.appendingPathComponent(name).path
            let request = RenderRequest(
                job: nil, manifest: manifest, image: plan, caches: caches, initialImage: initialImage, output: path)
            let report = try translated {
                try runner.render(
                    request, progress: { progress(plan.index, plans.count, $0) },
                    shouldStop: { Interruption.isRequested })
            }
            if images.isEmpty {
                for warning in runner.modelWarnings { Terminal.note("dreamcache: warning: \(warning)") }
            }
            images.append(
                .object([
                    "file": .string(name), "sha256": .string(try Self.digest(path)), "seed": .integer(plan.seed),
                    "prompt": .string(plan.prompt),
                    "seconds": .object(report.seconds), "metadata": .object(report.metadata.mapValues(JSON.string)),
                ]))
        }
        var grid: JSON?
        if manifest.output.grid {
            let path = making.appendingPathComponent(manifest.gridFileName).path
            let files = plans.map { making.appendingPathComponent(manifest.fileName(image: $0.index)).path }
            let references = try references(of: manifest, source)
            try translated {
                try runner.makeGrid(
                    GridRequest(manifest: manifest, references: references, images: files, output: path))
            }
            grid = .object(["file": .string(manifest.gridFileName), "sha256": .string(try Self.digest(path))])
        }
        let result = JSON.object([
            "version": .integer(1), "seed": .integer(seed), "images": .array(images), "grid": grid,
        ])
        do {
            try Data((result.text() + "\n").utf8).write(to: making.appendingPathComponent("result.json"))
            try? FileManager.default.removeItem(at: making.appendingPathComponent(Self.madeCache))
            try FileManager.default.moveItem(at: making, to: folder)
        } catch { throw Failure(code: .failed, message: "\(output): \(error.localizedDescription)") }
        return result
    }

    private static let madeCache = ".subject.dcache"

    private func caches(
        of manifest: JobManifest, _ source: CacheSource, scratch: URL, progress: @escaping Progress
    ) throws -> [CacheUse] {
        let scale = manifest.subjects.first?.imageScale ?? manifest.imageScale
        let subject = Self.name(of: manifest)
        switch source {
        case .file(let path): return [CacheUse(subject: subject, imageScale: scale, path: path)]
        case .references(let path):
            let cache = scratch.appendingPathComponent(Self.madeCache).path
            try makeCache(path, subject: subject, settings: manifest.cache, output: cache, progress: progress)
            return [CacheUse(subject: subject, imageScale: scale, path: cache)]
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

    /// What the contact sheet shows on its left: the photos given, if there are any.
    private func references(of manifest: JobManifest, _ source: CacheSource) throws -> [GridRequest.Reference] {
        guard case .references(let path) = source else { return [] }
        let subject = Self.name(of: manifest)
        return try Self.pictures(at: path).map { GridRequest.Reference(subject: subject, path: $0) }
    }

    private static func name(of manifest: JobManifest) -> String { manifest.subjects.first?.name ?? "subject" }

    /// The picture a manifest begins with: the given file, or the spool's own.
    private func picture(of subject: String, given path: String?) throws -> InitialImage {
        if let path {
            guard FileManager.default.fileExists(atPath: path) else {
                throw Failure(code: .rejected, message: "--init-image: found no \(path), expected a PNG or JPEG file")
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

    /// The pictures of a folder in the order of their names, without masks and hidden files; or the one picture.
    private static func pictures(at path: String) throws -> [String] {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw Failure(code: .rejected, message: "\(path): found nothing, expected a folder of photos or a photo")
        }
        if !isFolder.boolValue { return [URL(fileURLWithPath: path).path] }
        let names: [String]
        do { names = try FileManager.default.contentsOfDirectory(atPath: path) } catch {
            throw Failure(code: .rejected, message: "\(path): \(error.localizedDescription)")
        }
        let pictures = names.filter { name in
            let lower = name.lowercased()
            return !name.hasPrefix(".") && [".png", ".jpg", ".jpeg"].contains(where: lower.hasSuffix)
                && !lower.hasSuffix("_mask.png")
        }
        guard !pictures.isEmpty else {
            throw Failure(code: .rejected, message: "\(path): found no PNG or JPEG file, expected at least one")
        }
        return pictures.sorted().map { URL(fileURLWithPath: path).appendingPathComponent($0).path }
    }

    private func refuseExisting(_ path: String) throws {
        if FileManager.default.fileExists(atPath: path) {
            throw Failure(code: .failed, message: "\(path): exists already, expected a new name")
        }
    }

    private static func digest(_ path: String) throws -> String {
        do {
            return SHA256.hash(data: try Data(contentsOf: URL(fileURLWithPath: path)))
                .map { String(format: "%02x", $0) }.joined()
        } catch { throw Failure(code: .failed, message: "\(path): \(error.localizedDescription)") }
    }

    /// The renderer's errors as the program's.
    private func translated<R>(_ work: () throws -> R) throws -> R {
        do { return try work() } catch let error as RendererError {
            switch error {
            case .rejected(let field, let message):
                throw Failure(
                    code: .rejected,
                    message: field.map { message.hasPrefix($0) ? message : "\($0): \(message)" } ?? message)
            case .unavailable(let message): throw Failure(code: .configuration, message: message)
            case .transient(let message), .environment(let message): throw Failure(code: .failed, message: message)
            case .stopped: throw Failure(code: .failed, message: "interrupted")
            }
        }
    }
}

extension JSON {
    fileprivate static func object(_ members: [String: JSON]) -> JSON {
        JSON(.object(members.sorted { $0.key < $1.key }.map { JSON.Member($0.key, $0.value) }))
    }
    fileprivate static func object(_ numbers: [String: Double]) -> JSON { object(numbers.mapValues(JSON.number)) }
}
