import Spool
import Synchronization

/// A renderer that obeys the interface and paints nothing: an image's bytes are a chain of hashes, one link a step, so
/// that a wrong resume shows as a wrong image.
final class StubRenderer: Renderer {
    struct Script: Sendable {
        var steps = 3
        /// Called at each step with the image's index and the step; may throw.
        var onStep: @Sendable (_ image: Int, _ step: Int) throws(RendererError) -> Void = { _, _ in }
        var onEncode: @Sendable (EncodeRequest) throws(RendererError) -> Void = { _ in }
        var onRender: @Sendable (RenderRequest) throws(RendererError) -> Void = { _ in }
        var pictureIdentity: @Sendable () -> String? = { nil }
        var onGrid: @Sendable (GridRequest) throws(RendererError) -> Void = { _ in }
        var onPage: @Sendable (PageRequest) throws(RendererError) -> Void = { _ in }
        var check: @Sendable (JobManifest) throws(RendererError) -> Void = { _ in }
        var notes: [String] = []
        var identity = "stub"
        /// Saves a checkpoint at each step instead of when one is due.
        var isEager = false
        /// Leaves a cut-out beside each cache.
        var cutsOut = false
        /// Why there is no attention of any picture.
        var attentionFault: String?
    }

    struct Log: Sendable {
        var rendered: [String] = []
        var encoded: [String] = []
        var sheets: [GridRequest] = []
        var pages: [PageRequest] = []
        var resumedAt: [Int] = []
        /// At which step each training began, in order of beginning.
        var trainedFrom: [Int] = []
        /// The scale that each picture was asked for with, of one that a pilot has chosen before.
        var tuned: [Double?] = []
    }

    let script: Mutex<Script>
    let log = Mutex(Log())
    let system: SystemCalls

    /// Writes through `system`, so that its writes pass the gate too.
    init(_ system: SystemCalls, _ script: Script = Script()) {
        self.system = system
        self.script = Mutex(script)
    }

    func check(_ manifest: JobManifest) throws(RendererError) { try script.withLock { $0 }.check(manifest) }

    func notes(on manifest: JobManifest) -> [String] { script.withLock { $0.notes } }

    func cacheIdentity(
        model: String?, settings: CacheSettings, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) -> String {
        script.withLock { $0.identity } + (model ?? "")
    }

    func encode(
        _ request: EncodeRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) {
        try script.withLock { $0 }.onEncode(request)
        progress(RenderProgress(phase: "encoding", step: 1, steps: 1))
        if script.withLock({ $0.cutsOut }) { try cutOut(request) }
        try write(Self.cache(request.digests), to: request.output)
        log.withLock { $0.encoded.append(request.subject) }
    }

    /// What stands beside a cache in the end.
    static let cutOut = Pictures.png(payload: [9, 9, 9])
    private static let cutOutList = """
        {"version": 1, "references": [{"name": "a.png", "file": "0000.png", "remarks": ["it is doubtful"], "sha256": \
        "6d5d03db7d825136ff239211a70c136e93c0f161145e63a161eb0934ee1895e7"}]}
        """

    private func cutOut(_ request: EncodeRequest) throws(RendererError) {
        do throws(SpoolError) { try system.makeDirectory(Self.relative(request.cutOuts, system)) } catch {
            throw .environment(message: "\(error)")
        }
        try write(Self.cutOut, to: "\(request.cutOuts)/\(CutOuts.fileName(reference: 0))")
        try write(Array(Self.cutOutList.utf8), to: "\(request.cutOuts)/\(CutOuts.listFile)")
    }

    func render(
        _ request: RenderRequest, checkpoint: CheckpointSlot, progress: (RenderProgress) -> Void,
        shouldStop: () -> Bool
    ) throws(RendererError) -> RenderedImage {
        let script = script.withLock { $0 }
        try script.onRender(request)
        let identity = script.pictureIdentity()
        if let expected = request.identity, expected != identity {
            throw .changed(message: "found \(identity ?? "none"), expected \(expected)")
        }
        if let select = request.manifest.select { return try choose(request, select, script, shouldStop) }
        var state = try Self.start(request, system)
        var step = 0
        if let saved = checkpoint.load(), saved.count == 16 {
            step = Int(saved[0])
            state = saved[8...].reduce(0) { $0 << 8 | UInt64($1) }
            log.withLock { $0.resumedAt.append(step) }
        }
        while step < script.steps {
            if shouldStop() { throw .stopped }
            try script.onStep(request.image.index, step)
            state = Self.next(state, step)
            step += 1
            progress(RenderProgress(phase: "denoising", step: step, steps: script.steps))
            if script.isEager || checkpoint.isDue() {
                checkpoint.save([UInt8(step), 0, 0, 0, 0, 0, 0, 0] + Self.bytes(state), step)
            }
        }
        try write(Self.picture(state), to: request.output)
        log.withLock { $0.rendered.append("\(request.job ?? "") \(request.image.index)") }
        log.withLock { $0.tuned.append(request.tuning?.imageScale) }
        let needsPilot = request.manifest.tunesImageScale && request.tuning == nil
        var report = RenderedImage(
            seconds: ["denoise": 0.5], metadata: ["model": "stub"], identity: identity,
            tuning: needsPilot ? Self.tuning : nil)
        if let attention = request.attention { report.attention = try self.attention(attention, state, script) }
        return report
    }

    /// What a picture reads of its references, by its last state.
    private func attention(
        _ request: AttentionRequest, _ state: UInt64, _ script: Script
    ) throws(RendererError) -> AttentionReport {
        if let fault = script.attentionFault { return AttentionReport(error: fault) }
        try write(Self.picture(~state), to: request.overlay)
        try write(Self.bytes(state), to: request.maps)
        let numbers = ["localisation": 0.7, "leak": 0.3]
        return AttentionReport(steps: 1, mean: numbers, sites: [.init(name: "middle_block.1", numbers: numbers)])
    }

    /// The overlay of a plan's picture.
    static func expectedOverlay(_ plan: ImagePlan, steps: Int = 3) -> [UInt8] {
        var state = start(prompt: plan.prompt, seed: plan.seed, initial: nil)
        for step in 0..<steps { state = next(state, step) }
        return picture(~state)
    }

    /// What every pilot chooses.
    static let tuning = Tuning(
        imageScale: 2, trials: [.init(imageScale: 1, scores: ["subject": 0.5]), .init(imageScale: 2, scores: [:])],
        pictures: 2, steps: 8, evaluations: 50, seconds: 1.25)

    /// Chooses among candidates: the one of the greatest last byte.
    private func choose(
        _ request: RenderRequest, _ select: Selection, _ script: Script, _ shouldStop: () -> Bool
    ) throws(RendererError) -> RenderedImage {
        let plans = request.manifest.candidates(of: request.image)
        let pictures = plans.map { Self.expected($0, steps: script.steps) }
        let candidates = zip(plans, pictures).map { plan, picture in
            Choice.Candidate(seed: plan.seed, scores: ["subject": Double(picture[picture.count - 17]) / 256])
        }
        let scores = candidates.map { $0.scores["subject"] ?? 0 }
        let best = scores.indices.max { scores[$0] < scores[$1] } ?? 0
        for (number, picture) in pictures.enumerated() {
            if shouldStop() { throw .stopped }
            try script.onStep(request.image.index, number)
            if number == best { try write(picture, to: request.output) }
            if number != best, select.keepsAll { try write(picture, to: request.output(candidate: number)) }
        }
        log.withLock { $0.rendered.append("\(request.job ?? "") \(request.image.index)") }
        return RenderedImage(identity: script.pictureIdentity(), choice: Choice(best: best, candidates: candidates))
    }

    // MARK: - Training

    let trainingSettings = Schema.object([
        .init("steps", .integer(1...1000), "Steps."), .init("seed", .integer(0...1000), "Seed."),
        .init("start", .choice(["self", "random"]), "Start."),
    ])

    /// An adapter's bytes are a chain of hashes over the data set, one link a step. The state is kept after each step.
    func train(
        _ request: TrainingRequest, checkpoint: CheckpointSlot, progress: (RenderProgress) -> Void,
        shouldYield: () -> Bool, shouldStop: () -> Bool
    ) throws(RendererError) -> AdapterReport {
        let script = script.withLock { $0 }
        let data = try onSystem { () throws(SpoolError) in
            try Self.content(of: Self.relative(request.dataset, system), system)
        }
        if String(decoding: data, as: UTF8.self).contains("fault") {
            throw .rejected(field: "$.dataset", message: "a/0_caption.txt: it is a fault\na/1_caption.txt: another")
        }
        let steps = request.order.steps ?? 3
        let place = Self.relative(request.folder, system).appending("state")
        var (step, state) = (0, Self.hash(data))
        let saved = try onSystem { () throws(SpoolError) in
            try system.statusIfAny(place) == nil ? nil : try system.read(place)
        }
        if let saved {
            step = Int(saved[0])
            state = saved[8...].reduce(0) { $0 << 8 | UInt64($1) }
        }
        log.withLock { $0.trainedFrom.append(step) }
        while step < steps {
            if shouldStop() { throw .stopped }
            try script.onStep(0, step)
            state = Self.next(state, step)
            step += 1
            var shown = RenderProgress(phase: "training", step: step, steps: steps)
            (shown.loss, shown.secondsLeft) = (1 / Double(step), Double(steps - step))
            progress(shown)
            let bytes = [UInt8(step), 0, 0, 0, 0, 0, 0, 0] + Self.bytes(state)
            try onSystem { () throws(SpoolError) in
                let temporary = place.parent.appending("state.new")
                if try system.statusIfAny(temporary) != nil { try system.unlink(temporary) }
                let file = try system.create(temporary)
                try file.write(bytes)
                try file.syncAndClose()
                try system.rename(temporary, to: place, replacing: true)
                try system.syncDirectory(place.parent)
            }
            checkpoint.save([], step)
            if step < steps, shouldYield() { throw .stopped }
        }
        try write(Self.adapter(state), to: request.output)
        return AdapterReport(
            metadata: ["steps": "\(steps)"], files: [AdapterReport.File(path: "state", name: "train.jsonl")])
    }

    /// What the adapter of a data set must be, were it made in one go.
    static func expectedAdapter(_ files: [[UInt8]], steps: Int = 3) -> [UInt8] {
        var state = hash(files.flatMap(\.self))
        for step in 0..<steps { state = next(state, step) }
        return adapter(state)
    }

    private static func adapter(_ state: UInt64) -> [UInt8] { Array("adapter ".utf8) + bytes(state) }

    private static func content(of folder: SpoolPath, _ system: SystemCalls) throws(SpoolError) -> [UInt8] {
        var bytes: [UInt8] = []
        for name in try system.list(folder) {
            let path = folder.appending(name)
            bytes += try system.status(path).kind == .folder ? content(of: path, system) : system.read(path)
        }
        return bytes
    }

    private func onSystem<R>(_ body: () throws(SpoolError) -> R) throws(RendererError) -> R {
        do { return try body() } catch { throw .environment(message: "\(error)") }
    }

    func isSound(cache path: String) -> Bool {
        (try? system.read(Self.relative(path, system))).map(Self.isCache) ?? false
    }

    private static func cache(_ digests: [String]) -> [UInt8] {
        let body = Array("cache of \(digests)".utf8)
        return body + bytes(hash(body))
    }

    /// Whether bytes are those of a cache as it was written.
    static func isCache(_ bytes: [UInt8]) -> Bool {
        bytes.starts(with: Array("cache of ".utf8)) && bytes.suffix(8) == self.bytes(hash(bytes.dropLast(8)))[...]
    }

    private static func hash(_ bytes: some Sequence<UInt8>) -> UInt64 {
        bytes.reduce(14_695_981_039_346_656_037) { ($0 ^ UInt64($1)) &* 1_099_511_628_211 }
    }

    func makeGrid(
        _ request: GridRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) {
        try script.withLock { $0 }.onGrid(request)
        try write(Self.picture(UInt64(request.images.count)), to: request.output)
        log.withLock { $0.sheets.append(request) }
    }

    func makePage(
        _ request: PageRequest, progress: (RenderProgress) -> Void, shouldStop: () -> Bool
    ) throws(RendererError) {
        try script.withLock { $0 }.onPage(request)
        try write(Array("page of \(request.pictures.count)".utf8), to: request.output)
        log.withLock { $0.pages.append(request) }
    }

    /// What the image of a plan must be, were it made in one go.
    ///
    /// - Parameter initial: what a picture to begin with adds to the state: its bytes and how much of it is replaced.
    static func expected(_ plan: ImagePlan, steps: Int = 3, initial: (bytes: [UInt8], strength: Double)? = nil)
        -> [UInt8]
    {
        var state = start(prompt: plan.prompt, seed: plan.seed, initial: initial)
        for step in 0..<steps { state = next(state, step) }
        return picture(state)
    }

    private static func start(_ request: RenderRequest, _ system: SystemCalls) throws(RendererError) -> UInt64 {
        var initial: (bytes: [UInt8], strength: Double)?
        if let image = request.initialImage, let use = request.manifest.initialImage {
            do throws(SpoolError) {
                initial = (try system.read(relative(image.path, system)), use.strength)
            } catch {
                throw .transient(message: "\(error)")
            }
        }
        return start(prompt: request.image.prompt, seed: request.image.seed, initial: initial)
    }

    private static func start(
        prompt: String, seed: Int, initial: (bytes: [UInt8], strength: Double)?
    ) -> UInt64 {
        let text = "\(prompt) \(seed)" + (initial.map { " \($0.strength)" } ?? "")
        return hash(Array(text.utf8) + (initial?.bytes ?? []))
    }

    private static func relative(_ path: String, _ system: SystemCalls) -> SpoolPath {
        SpoolPath(String(path.dropFirst(system.rootPath.utf8.count + 1)))
    }

    private static func next(_ state: UInt64, _ step: Int) -> UInt64 {
        (state ^ UInt64(step + 1)) &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    }

    private static func bytes(_ value: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * $0)) }
    }

    private static func picture(_ state: UInt64) -> [UInt8] { Pictures.png(payload: bytes(state)) }

    private func write(_ bytes: [UInt8], to path: String) throws(RendererError) {
        do throws(SpoolError) {
            let file = try system.create(Self.relative(path, system))
            try file.write(bytes)
            try file.closeChecked()
        } catch {
            throw .environment(message: "\(error)")
        }
    }
}

/// The smallest files that are whole by structure.
enum Pictures {
    static func png(width: UInt8 = 8, payload: [UInt8] = [1, 2, 3]) -> [UInt8] {
        func chunk(_ type: String, _ data: [UInt8]) -> [UInt8] {
            [0, 0, 0, UInt8(data.count)] + Array(type.utf8) + data + [0, 0, 0, 0]
        }
        return [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
            + chunk("IHDR", [0, 0, 0, width, 0, 0, 0, 8, 8, 2, 0, 0, 0]) + chunk("IDAT", payload) + chunk("IEND", [])
    }

    static func jpeg(payload: [UInt8] = [1, 2, 3]) -> [UInt8] {
        [0xFF, 0xD8, 0xFF, 0xC0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]
            + payload + [0xFF, 0x00, 0xFF, 0xD0, 7, 0xFF, 0xD9]
    }
}
