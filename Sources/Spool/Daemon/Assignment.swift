import Synchronization
import SystemPackage

/// A piece of work as the worker gets it: everything needed, and nothing of the queue.
enum Assignment: Sendable {
    case cache(CacheOrder)
    case image(ImageOrder)
    case training(AdapterOrder)
    case sheets(SheetOrder)

    /// What came of it; temporary files are for the spool to commit.
    enum Outcome: Sendable {
        /// The cache of that key is there already, or in the temporary file.
        case cache(key: String, temporary: SpoolPath?)
        /// The files beside the picture may not be there.
        case image(RenderedImage, temporary: SpoolPath, beside: [SpoolPath])
        /// The files that go into the set beside the adapter are copies.
        case adapter(metadata: [String: String], temporary: SpoolPath, files: [(name: String, temporary: SpoolPath)])
        case sheets(grid: Sheet?, page: Sheet?)

        var temporaries: [SpoolPath] {
            switch self {
            case .cache(_, let temporary): temporary.map { [$0] } ?? []
            case .image(_, let temporary, let beside): [temporary] + beside
            case .adapter(_, let temporary, let files): [temporary] + files.map(\.temporary)
            case .sheets(let grid, let page): [grid, page].compactMap { $0?.temporary }
            }
        }
    }

    /// Carries it out, on the worker's thread.
    func perform(
        _ renderer: any Renderer, _ system: SystemCalls, progress: (RenderProgress) -> Void, shouldYield: () -> Bool,
        shouldStop: () -> Bool
    ) throws(RendererError) -> Outcome {
        if shouldStop() { throw .stopped }
        switch self {
        case .cache(let order):
            let identity = try renderer.cacheIdentity(
                model: order.model, settings: order.settings, progress: progress, shouldStop: shouldStop)
            let key = Digest.sha256((order.digests + [identity]).joined(separator: "\n"))
            let existing = SpoolLayout.cache(key)
            if (try? system.statusIfAny(existing)) != nil, renderer.isSound(cache: system.absolute(existing)) {
                return .cache(key: key, temporary: nil)
            }
            try expectIntact(order, system, progress, shouldStop)
            let request = EncodeRequest(
                subject: order.subject, references: order.references, digests: order.imageDigests, model: order.model,
                settings: order.settings, output: system.absolute(order.temporary))
            try renderer.encode(request, progress: progress, shouldStop: shouldStop)
            try expect(order.temporary, system)
            return .cache(key: key, temporary: order.temporary)
        case .image(let order):
            if let initial = order.initial {
                let path = SpoolLayout.referenceSet(initial.references).appending(initial.file)
                try expectIntact(
                    path, initial.sha256, field: "$.init_image", "the picture of '\(initial.subject)'", system)
            }
            for photos in order.photos { try expectIntact(photos, system, progress, shouldStop) }
            let report = try renderer.render(
                order.request, checkpoint: order.checkpoint, progress: progress, shouldStop: shouldStop)
            for file in order.files(report) { try expect(file, system) }
            return .image(report, temporary: order.temporary, beside: order.beside)
        case .training(let order):
            try expectWhole(order.dataset, DurableStore(system))
            let adapter = try renderer.train(
                order.request, checkpoint: order.checkpoint, progress: progress, shouldYield: shouldYield,
                shouldStop: shouldStop)
            try expect(order.temporary, system)
            return .adapter(
                metadata: adapter.metadata, temporary: order.temporary, files: try order.copy(adapter.files, system))
        case .sheets(let order):
            let grid = try order.grid.map { (order) throws(RendererError) in
                try sheet(order.temporary, system) { () throws(RendererError) in
                    try renderer.makeGrid(order.request, progress: progress, shouldStop: shouldStop)
                }
            }
            let page = try order.page.map { (order) throws(RendererError) in
                var request = order.request
                if case .failed = grid { request.sheet = nil }
                return try sheet(order.temporary, system) { () throws(RendererError) in
                    try renderer.makePage(request, progress: progress, shouldStop: shouldStop)
                }
            }
            return .sheets(grid: grid, page: page)
        }
    }

    /// Makes one of the sheets. It never costs the set; but what the machine refuses is worth another try.
    private func sheet(
        _ temporary: SpoolPath, _ system: SystemCalls, _ make: () throws(RendererError) -> Void
    ) throws(RendererError) -> Sheet {
        do throws(RendererError) {
            try make()
            try expect(temporary, system)
            return .made(temporary)
        } catch {
            switch error {
            case .environment, .stopped: throw error
            case .rejected, .unavailable, .transient, .changed: return .failed(error.description)
            }
        }
    }

    /// Checks that all files of a data set are there. The trainer's state is bound to what is in them.
    private func expectWhole(_ dataset: JobRecord.Dataset, _ store: DurableStore) throws(RendererError) {
        do throws(SpoolError) {
            if let list = try store.datasetList(dataset.digest), try store.isWhole(list) { return }
        } catch { throw .environment(message: "\(error)") }
        throw .rejected(
            field: "$.dataset",
            message: "the data set '\(dataset.name)' was damaged in the spool; drop it and the manifest again")
    }

    /// Checks that references are still those that were dropped.
    private func expectIntact(
        _ order: CacheOrder, _ system: SystemCalls, _ progress: (RenderProgress) -> Void, _ shouldStop: () -> Bool
    ) throws(RendererError) {
        for (index, file) in order.files.enumerated() {
            if shouldStop() { throw .stopped }
            progress(RenderProgress(phase: "reading", step: index, steps: order.files.count))
            try expectIntact(
                SpoolLayout.referenceSet(order.set).appending(file.name), file.sha256, field: file.name,
                "the file", system)
        }
    }

    /// Checks that a file is still the one that was dropped. Otherwise pictures of something else would be made.
    private func expectIntact(
        _ path: SpoolPath, _ sha256: String, field: String, _ what: String, _ system: SystemCalls
    ) throws(RendererError) {
        do throws(SpoolError) {
            if try system.status(path).kind == .regular, try system.digest(of: path).sha256 == sha256 { return }
        } catch  where error.errno == .permissionDenied || error.errno == .notPermitted {
            // The renderer reads it next, and its error says so.
            return
        } catch  where !error.tellsOfDamage {
            throw .environment(message: "\(error)")
        } catch {
            // A file that is gone counts like one whose bytes have changed.
        }
        throw .rejected(field: field, message: "\(what) was damaged in the spool; drop it again")
    }

    private func expect(_ path: SpoolPath, _ system: SystemCalls) throws(RendererError) {
        let status: SystemCalls.FileStatus?
        do throws(SpoolError) {
            status = try system.statusIfAny(path)
        } catch {
            throw .environment(message: "\(error)")
        }
        guard let status, status.kind == .regular, status.size > 0 else {
            throw .transient(message: "the renderer left no file at \(path)")
        }
    }

    /// The digest of the set of references that is read; nil where none is.
    var references: String? {
        switch self {
        case .cache(let order): order.set
        case .image(let order): order.initial?.references ?? order.photos.first?.set
        case .training, .sheets: nil
        }
    }

    /// The files the renderer writes.
    var temporaries: [SpoolPath] {
        switch self {
        case .cache(let order): [order.temporary]
        case .image(let order): [order.temporary] + order.beside + order.others
        case .training(let order): [order.temporary]
        case .sheets(let order): [order.grid?.temporary, order.page?.temporary].compactMap(\.self)
        }
    }
}

/// An image to have in a set, and what goes beside it.
struct ImageOrder: Sendable {
    let request: RenderRequest
    let checkpoint: CheckpointSlot
    let initial: JobRecord.InitialImage?
    /// The references that the request names as photos.
    let photos: [CacheOrder]
    let temporary: SpoolPath
    /// Where the files of `request.attention` are written.
    let beside: [SpoolPath]

    /// Files of candidates that are kept, as far as there are any.
    var others: [SpoolPath] {
        guard let select = request.manifest.select, select.keepsAll else { return [] }
        return (0..<select.candidates).map(other)
    }

    /// The files that the renderer must have written.
    func files(_ report: RenderedImage) -> [SpoolPath] {
        guard let choice = report.choice, request.manifest.select?.keepsAll == true else { return [temporary] }
        return [temporary] + choice.candidates.indices.filter { $0 != choice.best }.map(other)
    }

    private func other(_ candidate: Int) -> SpoolPath { SpoolPath("\(temporary).\(candidate)") }
}

/// An adapter to have in a set, and what goes beside it.
struct AdapterOrder: Sendable {
    let request: TrainingRequest
    let checkpoint: CheckpointSlot
    /// What is trained on.
    let dataset: JobRecord.Dataset
    /// The folder of `request.folder`, as the spool names it.
    let folder: SpoolPath
    let temporary: SpoolPath

    /// Copies files of the run's folder: the run may have to go on with its own, should the set not come about.
    func copy(
        _ files: [AdapterReport.File], _ system: SystemCalls
    ) throws(RendererError) -> [(name: String, temporary: SpoolPath)] {
        var copies: [(name: String, temporary: SpoolPath)] = []
        do throws(SpoolError) {
            for (index, file) in files.enumerated() where DropName.isPlain(file.name) {
                let copy = SpoolPath("\(temporary).\(index)")
                copies.append((file.name, copy))
                let new = try system.create(copy)
                try system.stream(folder.appending(file.path)) { (piece) throws(SpoolError) in
                    try new.write(Array(piece))
                }
                try new.closeChecked()
            }
            return copies
        } catch {
            for copy in copies { try? system.unlink(copy.temporary) }
            throw .environment(message: "\(error)")
        }
    }
}

/// What shows a set as a whole, as far as it is wanted: its contact sheet, and its page.
struct SheetOrder: Sendable {
    let grid: (request: GridRequest, temporary: SpoolPath)?
    let page: (request: PageRequest, temporary: SpoolPath)?
}

/// What became of a contact sheet or a page.
enum Sheet: Sendable {
    case made(SpoolPath)
    case failed(String)

    var temporary: SpoolPath? { if case .made(let temporary) = self { temporary } else { nil } }
}

/// References to have in the cache, for one model.
struct CacheOrder: Sendable {
    let subject: String
    /// Absolute paths and digests of the images.
    let references: [String], imageDigests: [String]
    /// The set they are of, and its files that are read, masks included.
    let set: String, files: [ReferenceSet.File]
    /// Digests of everything read, masks included, in order.
    let digests: [String]
    let model: String?
    let settings: CacheSettings
    let temporary: SpoolPath
}

/// How the worker is doing, for whoever wants to know: written by the worker, read by the loop.
final class WorkerState: Sendable {
    private struct State: Sendable {
        var progress: RenderProgress?
        var ticks = 0
        var shouldYield = false
        var shouldStop = false
    }

    private let state = Mutex(State())

    var shouldStop: Bool { state.withLock { $0.shouldStop } }
    var shouldYield: Bool { state.withLock { $0.shouldYield } }
    var progress: RenderProgress? { state.withLock { $0.progress } }
    /// Grows with each report, so that a worker that hangs can be told.
    var ticks: Int { state.withLock { $0.ticks } }

    func begin() {
        state.withLock {
            $0.progress = nil
            $0.shouldYield = false
            $0.shouldStop = false
            $0.ticks += 1
        }
    }

    func yield() { state.withLock { $0.shouldYield = true } }

    func stop() { state.withLock { $0.shouldStop = true } }

    func report(_ progress: RenderProgress) {
        state.withLock {
            let last = $0.progress?.preview
            $0.progress = progress
            if progress.preview == nil { $0.progress?.preview = last }
            $0.ticks += 1
        }
    }
}
