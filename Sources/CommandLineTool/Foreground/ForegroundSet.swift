import Application
import Bytes
import Foundation
import Raster
import Spool

/// A set of images that is made in the foreground: what the daemon makes of a job, in a folder of the caller's.
struct ForegroundSet {
    let manifest: JobManifest
    /// The manifest as it was written.
    let document: JSON
    let seed: Int
    let folder: AtomicFolder
    let caches: [CacheUse]
    /// The photos of the subject as they were given, and what sheet and page show of them.
    let photos: [GridRequest.Reference], references: [GridRequest.Reference]
    let initialImage: InitialImage?
    let attentionInterval: Int
    let hasPage: Bool

    /// Makes the pictures, and then their sheet and their page.
    /// - Returns: the contents of `result.json`.
    func make(by runner: JobRunner, progress: @escaping ForegroundRun.Progress) throws -> JSON {
        let plans = manifest.images(seed: seed)
        var images: [JSON] = []
        var pictures: [PageRequest.Picture] = []
        var tuning: Tuning?
        for plan in plans {
            let (picture, entry) = try image(plan, tuning, by: runner) { progress(plan.index, plans.count, $0) }
            if images.isEmpty {
                for warning in runner.modelWarnings { Terminal.note("dreamcache: warning: \(warning)") }
            }
            tuning = picture.report.tuning ?? tuning
            pictures.append(picture)
            images.append(entry)
        }
        func show(_ step: RenderProgress) { progress(plans.count - 1, plans.count, step) }
        let grid = manifest.output.grid ? try grid(of: pictures, by: runner, show) : nil
        let page = hasPage ? try page(of: pictures, hasSheet: grid != nil, by: runner, show) : nil
        return JSON.object([
            "version": .integer(1), "seed": .integer(seed), "tuning": tuning?.record, "images": .array(images),
            "grid": grid, "page": page,
        ])
    }

    /// Makes one picture.
    /// - Parameter tuning: what the first picture's pilot chose.
    /// - Returns: what the page shows of it, and its entry in `result.json`.
    private func image(
        _ plan: ImagePlan, _ tuning: Tuning?, by runner: JobRunner, progress: @escaping (RenderProgress) -> Void
    ) throws -> (PageRequest.Picture, JSON) {
        let name = manifest.fileName(image: plan.index)
        let files = AttentionRequest.fileNames(beside: name)
        let request = RenderRequest(
            job: nil, manifest: manifest, image: plan, caches: caches, initialImage: initialImage, photos: photos,
            output: folder.path(name),
            attention: manifest.output.attention && !caches.isEmpty
                ? AttentionRequest(
                    references: references, interval: attentionInterval, overlay: folder.path(files.overlay),
                    maps: folder.path(files.maps)) : nil,
            tuning: tuning)
        let report = try ForegroundRun.translated {
            try runner.render(
                request, checkpoint: .none, progress: progress, shouldStop: { Interruption.isRequested })
        }
        if let error = report.attention?.error { Terminal.note("dreamcache: no attention of \(name): \(error)") }
        let beside = try (request.attention.map { [$0.overlay, $0.maps] } ?? []).filter {
            FileManager.default.fileExists(atPath: $0)
        }.map { try Self.file($0) }
        let seed = report.choice?.chosen.seed ?? plan.seed
        var entry: [String: JSON] = [
            "file": .string(name), "sha256": .string(try ForegroundRun.digest(folder.path(name))),
            "seed": .integer(seed), "prompt": .string(plan.prompt),
            "seconds": .object(report.seconds), "metadata": .object(report.metadata.mapValues(JSON.string)),
        ]
        entry["candidates"] = try report.choice.map { .array(try candidates($0, request)) }
        entry["attention"] = report.attention?.json
        entry["beside"] = beside.isEmpty ? nil : .array(beside)
        let picture = PageRequest.Picture(
            path: folder.path(name), prompt: plan.prompt, seed: seed, report: report,
            overlay: beside.isEmpty ? nil : request.attention?.overlay)
        return (picture, .object(entry))
    }

    private func grid(
        of pictures: [PageRequest.Picture], by runner: JobRunner, _ show: @escaping (RenderProgress) -> Void
    ) throws -> JSON? {
        try sheet(manifest.gridFileName, "contact sheet") { output in
            try runner.makeGrid(
                GridRequest(
                    manifest: manifest, references: references, images: pictures.map(\.path),
                    remarks: pictures.compactMap { $0.report.choice?.summary }, output: output),
                progress: show, shouldStop: { Interruption.isRequested })
        }
    }

    private func page(
        of pictures: [PageRequest.Picture], hasSheet: Bool, by runner: JobRunner,
        _ show: @escaping (RenderProgress) -> Void
    ) throws -> JSON? {
        try sheet(PageRequest.fileName, "page") { output in
            try runner.makePage(
                PageRequest(
                    job: nil, manifest: manifest, document: PageRequest.document(document, seed: seed),
                    references: references, pictures: pictures, sheet: hasSheet ? manifest.gridFileName : nil,
                    output: output),
                progress: show, shouldStop: { Interruption.isRequested })
        }
    }

    /// What `result.json` says of an image's candidates. Those that are kept go where a set has them.
    private func candidates(_ choice: Choice, _ request: RenderRequest) throws -> [JSON] {
        try choice.candidates.enumerated().map { number, candidate in
            var entry: [String: JSON] = ["seed": .integer(candidate.seed), "scores": Choice.json(candidate.scores)]
            if number == choice.best { entry["chosen"] = .bool(true) }
            guard number != choice.best, request.manifest.select?.keepsAll == true else { return .object(entry) }
            let name = request.manifest.fileName(image: request.image.index, candidate: number)
            let place = "\(Selection.folder)/\(name)"
            do {
                try FileManager.default.createDirectory(
                    atPath: folder.path(Selection.folder), withIntermediateDirectories: true)
                try FileManager.default.moveItem(atPath: request.output(candidate: number), toPath: folder.path(place))
            } catch { throw Failure(code: .failed, message: "\(place): \(error.localizedDescription)") }
            entry["file"] = .string(place)
            entry["sha256"] = .string(try ForegroundRun.digest(folder.path(place)))
            return .object(entry)
        }
    }

    /// Makes a contact sheet or a page: a convenience, which never costs a set.
    private func sheet(
        _ name: String, _ what: String, _ make: (_ output: String) throws -> Void
    ) throws -> JSON? {
        let output = folder.path(name)
        do {
            try make(output)
            return try Self.file(output)
        } catch RendererError.stopped {
            throw Failure(code: .failed, message: "interrupted")
        } catch {
            unlink(output)
            Terminal.note("dreamcache: no \(what): \(error)")
            return nil
        }
    }

    /// A file of the set, as `result.json` has it.
    private static func file(_ path: String) throws -> JSON {
        .object([
            "file": .string(URL(fileURLWithPath: path).lastPathComponent),
            "sha256": .string(try ForegroundRun.digest(path)),
        ])
    }
}

extension JSON {
    fileprivate static func object(_ members: [String: JSON]) -> JSON {
        JSON(.object(members.sorted { $0.key < $1.key }.map { JSON.Member($0.key, $0.value) }))
    }
    fileprivate static func object(_ numbers: [String: Double]) -> JSON { object(numbers.mapValues(JSON.number)) }
}
