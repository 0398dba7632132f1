import Checkpoint
import Foundation
import Golden
import Raster
import Testing

@testable import Diffusion
@testable import DreamCache
@testable import TensorEngine

/// What a picture reads of its references, on the golden model.
@Suite struct AttentionReadingTests {
    private static func pipeline(isSelf: Bool) throws -> Pipeline {
        try Pipeline(
            files: ModelFiles(
                checkpoint: Golden.path("tiny-sd2.ckpt"),
                adapter: isSelf ? nil : Golden.path("cross_attention-199999.pt")), path: .oneDNNFP32)
    }

    /// A picture on white, of which it is known where the subject is, and one that is full.
    private static func references() throws -> [Reference] {
        var pixels = [UInt8](repeating: 255, count: 64 * 64 * 3)
        for y in 16..<48 { for x in 12..<40 { pixels[(y * 64 + x) * 3] = UInt8(4 * x) } }
        let drawn = Raster(width: 64, height: 64, channels: 3, pixels: pixels)
        return [
            Reference(name: "a.png") { drawn },
            Reference(name: "b.png") { try Raster.decode(path: Golden.path("reference.png")) },
        ]
    }

    private static func request(
        _ pipeline: Pipeline, _ folder: URL, subject: String = "toy", _ references: [Reference]? = nil
    ) throws -> ImageRequest {
        let path = folder.appendingPathComponent(UUID().uuidString + ".dcache").path
        try pipeline.makeCache(of: try references ?? Self.references(), subject: subject, options: CacheOptions())
            .write(toPath: path)
        var request = ImageRequest(prompt: "a toy", seed: 3)
        request.steps = 4
        request.caches = [try FeatureCache.open(path)]
        return request
    }

    private func inFolder(_ body: (URL) throws -> Void) throws {
        let folder = URL(fileURLWithPath: NSTemporaryDirectory()).appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try body(folder)
    }

    @Test(arguments: [false, true]) func recordingChangesNothing(isSelf: Bool) throws {
        try inFolder { folder in
            let pipeline = try Self.pipeline(isSelf: isSelf)
            var request = try Self.request(pipeline, folder)
            let plain = try pipeline.generate(request)
            #expect(pipeline.attention == nil)
            request.attentionInterval = 2
            #expect(try pipeline.generate(request) == plain)
            let reading = try #require(try pipeline.takeAttention()?.get())
            #expect(pipeline.attention == nil)
            #expect(reading.steps == 2 && reading.sites.map(\.name) == pipeline.model.unet.sites.map(\.name))
            for site in reading.sites {
                #expect(site.parts.map(\.reference) == [0, 1] && site.parts.allSatisfy { $0.grid?.count == $0.tokens })
                #expect(site.parts[0].foreground != nil && site.parts[1].foreground == nil)
                for cell in 0..<site.cells.count {
                    let sum = site.parts.reduce(Float(0)) { sum, part in
                        sum + part.weights[(cell * part.tokens)..<((cell + 1) * part.tokens)].reduce(0, +)
                    }
                    // What a base without an adapter would read of the background, it does not.
                    #expect(isSelf ? sum > 0 && sum < 1 : abs(sum - 1) < 1e-4)
                }
            }
            // Another picture reads anew.
            request.attentionInterval = nil
            _ = try pipeline.generate(request)
            #expect(pipeline.attention == nil)
        }
    }

    /// A picture that goes on after an interruption has the maps of one that was never interrupted, to the last bit.
    @Test(arguments: [false, true]) func resumedMapsAreTheSame(isSelf: Bool) throws {
        try inFolder { folder in
            let pipeline = try Self.pipeline(isSelf: isSelf)
            var request = try Self.request(pipeline, folder)
            request.attentionInterval = 2
            var states: [[UInt8]] = []
            let whole = try pipeline.generate(request, checkpoint: { _, state in states.append(state()) })
            let maps = try #require(try pipeline.takeAttention()?.get()).sites.map { $0.parts.map(\.weights) }
            for state in states {
                #expect(try pipeline.generate(request, resume: state) == whole)
                let found = try #require(try pipeline.takeAttention()?.get())
                #expect(found.steps == 2 && found.sites.map { $0.parts.map(\.weights) } == maps)
            }
            // A state of other recorded steps is none of this request's: the picture begins anew, and is the same.
            request.attentionInterval = 1
            #expect(try pipeline.generate(request, resume: states[2]) == whole)
            #expect(try #require(try pipeline.takeAttention()?.get()).steps == 4)
        }
    }

    /// Decodes a picture, and keeps the queries at every site.
    private final class Witness: InjectionTap {
        let memory: SubjectMemory
        let query: (Tensor, SelfAttention, InjectionSite) throws(EngineError) -> [Float]
        var queries: [InjectionSite: [Float]] = [:]

        init(
            _ memory: SubjectMemory,
            _ query: @escaping (Tensor, SelfAttention, InjectionSite) throws(EngineError) -> [Float]
        ) { (self.memory, self.query) = (memory, query) }

        func record(_ x: Tensor, at site: InjectionSite) {}
        func mixes(at site: InjectionSite) -> Bool { memory.mixes(at: site) }
        func mix(_ x: Tensor, attention: SelfAttention, at site: InjectionSite) throws(EngineError) {
            queries[site] = try query(x, attention, site)
            try memory.mix(x, attention: attention, at: site)
        }
    }

    /// The maps of golden weights are softmax by its formula, in double precision.
    @Test(arguments: [false, true]) func mapsAreSoftmax(isSelf: Bool) throws {
        try inFolder { folder in
            let pipeline = try Self.pipeline(isSelf: isSelf)
            let (engine, unet) = (pipeline.model.engine, pipeline.model.unet)
            let cache = try #require(try Self.request(pipeline, folder).caches.first)
            let memory =
                if let adapter = pipeline.adapter {
                    try SubjectMemory(groups: [[cache]], adapter: adapter, engine: engine)
                } else {
                    try SubjectMemory(groups: [[cache]], reading: SelfReading(), of: unet, engine: engine)
                }
            let recorder = AttentionRecorder(unet.sites, latent: (8, 8), interval: 1)
            memory.recorder = recorder
            recorder.begin(step: 0)
            let witness = Witness(memory) { x, attention, site throws(EngineError) in
                guard let weights = pipeline.adapter?.sites[site] else {
                    let (rows, c) = (attention.queries.tensor.rows, site.channels)
                    let all = engine.floats(attention.queries.tensor)
                    return (0..<rows).flatMap { all[($0 * 3 * c)..<($0 * 3 * c + c)] }
                }
                return engine.floats(try engine.product(try engine.layerNorm(x, weights.norm), weights.toQ))
            }
            let text = try unet.textKeys(try pipeline.model.encode(prompt: ""))
            let time = try unet.timeEmbeddings([481])[0]
            let x = try pipeline.model.latentTensor((0..<256).map { sin(Float($0) * 0.7) }, height: 8, width: 8)
            _ = try unet.decode(
                try unet.encode(x, time: time, text: text), time: time, text: text, tap: witness, tappedRows: 1)
            let reading = recorder.reading(
                (0..<2).map { reference in
                    AttentionRecorder.Source(
                        number: reference, subject: "toy",
                        tokens: { cache.tokenCount(at: $0, reference: reference) },
                        foreground: { cache.foreground(at: $0, reference: reference) })
                }, side: 8)
            #expect(recorder.fault == nil && reading.sites.count == unet.sites.count)
            for (site, found) in zip(unet.sites, reading.sites) {
                let keys = try keys(of: cache, at: site, pipeline)
                let expected = softmax(try #require(witness.queries[site]), keys.keys, site, reads: keys.reads)
                let weights = (0..<found.cells.count).flatMap { cell in
                    found.parts.flatMap { $0.weights[(cell * $0.tokens)..<((cell + 1) * $0.tokens)] }
                }
                #expect(weights.count == expected.count)
                for (a, b) in zip(weights, expected) { #expect(abs(a - b) < 2e-5) }
            }
        }
    }

    /// The keys of all cached tokens, and which of them are read.
    private func keys(
        of cache: FeatureCache, at site: InjectionSite, _ pipeline: Pipeline
    ) throws -> (keys: [Float], reads: [Bool]) {
        let (engine, c) = (pipeline.model.engine, site.channels)
        var keys: [Float] = []
        var reads: [Bool] = []
        for reference in cache.references(at: site) {
            let count = reference.tokens.count / c
            let tokens = try engine.tensor(reference.tokens, shape: [1, count, c])
            if let weights = pipeline.adapter?.sites[site] {
                let all = engine.floats(try engine.product(tokens, weights.toKV))
                keys += (0..<count).flatMap { all[($0 * 2 * c)..<($0 * 2 * c + c)] }
                reads += [Bool](repeating: true, count: count)
            } else {
                let all = engine.floats(try pipeline.model.unet.selfQKV(tokens, at: site))
                keys += (0..<count).flatMap { all[((3 * $0 + 1) * c)..<((3 * $0 + 2) * c)] }
                let shares = reference.foreground ?? [Float](repeating: 1, count: count)
                let least = 0.5 * min(1, shares.max() ?? 1)
                reads += shares.map { $0 >= least }
            }
        }
        return (keys, reads)
    }

    private func softmax(_ queries: [Float], _ keys: [Float], _ site: InjectionSite, reads: [Bool]) -> [Float] {
        let (c, d, count) = (site.channels, site.channels / site.heads, keys.count / site.channels)
        var mean = [Double](repeating: 0, count: queries.count / c * count)
        for i in 0..<(queries.count / c) {
            for head in 0..<site.heads {
                let scores = (0..<count).map { j in
                    (0..<d).reduce(0.0) {
                        $0 + Double(queries[i * c + head * d + $1]) * Double(keys[j * c + head * d + $1])
                    } / Double(d).squareRoot()
                }
                let total = scores.reduce(0) { $0 + exp($1) }
                for j in 0..<count where reads[j] { mean[i * count + j] += exp(scores[j]) / total / Double(site.heads) }
            }
        }
        return mean.map(Float.init)
    }

    /// A recorder that cannot go on leaves the picture as it is, and says why.
    @Test(arguments: [false, true]) func aFaultCostsNoPicture(isSelf: Bool) throws {
        try inFolder { folder in
            let pipeline = try Self.pipeline(isSelf: isSelf)
            let (engine, unet) = (pipeline.model.engine, pipeline.model.unet)
            let cache = try #require(try Self.request(pipeline, folder).caches.first)
            func decoded(_ recorder: AttentionRecorder?) throws -> [Float] {
                let memory =
                    if let adapter = pipeline.adapter {
                        try SubjectMemory(groups: [[cache]], adapter: adapter, engine: engine)
                    } else {
                        try SubjectMemory(groups: [[cache]], reading: SelfReading(), of: unet, engine: engine)
                    }
                memory.recorder = recorder
                recorder?.begin(step: 0)
                let text = try unet.textKeys(try pipeline.model.encode(prompt: ""))
                let time = try unet.timeEmbeddings([481])[0]
                let x = try pipeline.model.latentTensor([Float](repeating: 0.5, count: 256), height: 8, width: 8)
                return engine.floats(
                    try unet.decode(
                        try unet.encode(x, time: time, text: text), time: time, text: text, tap: memory, tappedRows: 1))
            }
            let wrong = AttentionRecorder(unet.sites, latent: (6, 8), interval: 1)
            #expect(try decoded(wrong) == decoded(nil))
            #expect(wrong.fault != nil)
        }
    }

    /// Nothing is read where the subject's weight is zero, which is said.
    @Test func whatIsNotReadIsSaid() throws {
        try inFolder { folder in
            let pipeline = try Self.pipeline(isSelf: true)
            var request = try Self.request(pipeline, folder)
            request.caches = []
            request.attentionInterval = 1
            _ = try pipeline.generate(request)
            let found = try #require(pipeline.attention)
            #expect(throws: DreamCacheError.self) { try found.get() }
        }
    }

    @Test func mapsAreWrittenAndDrawn() throws {
        try inFolder { folder in
            let pipeline = try Self.pipeline(isSelf: false)
            let name = "<script>\"../\u{202E}x\u{1F}"
            var request = try Self.request(pipeline, folder, subject: name)
            request.attentionInterval = 1
            let picture = try pipeline.generate(request)
            let reading = try #require(try pipeline.takeAttention()?.get())
            let path = folder.appendingPathComponent("maps.safetensors").path
            try reading.writer().write(toPath: path)
            let file = try Checkpoint.open(path)
            #expect(file.tensors.count == 3 * reading.sites.count)
            #expect(file.metadata["dreamcache.subject.0"] == name && file.metadata["dreamcache.attention_steps"] == "4")
            for site in reading.sites {
                for part in site.parts {
                    let name = "sites.\(site.name).\(part.reference)"
                    let tensor = try #require(file.tensors[name])
                    #expect(tensor.shape == [site.cells.height, site.cells.width, part.tokens])
                    for (a, b) in zip(tensor.floats(), part.weights) { #expect(abs(a - b) <= max(1e-7, b / 1024)) }
                    #expect(file.metadata["\(name).grid"] != nil)
                }
            }
            let references = try Self.references().map { try $0.load().fitted(toSquare: 64) }
            let drawn = try #require(
                AttentionOverlay(reading, references: [0: references[0], 1: references[1]]).picture(picture))
            // Two references and the picture in a row; a row for each resolution.
            let rows = Set(reading.sites.map(\.cells)).count
            #expect(drawn.width == 3 * (128 + 8) + 24 && drawn.height == rows * (128 + 8) + 8)
            let alone = try #require(AttentionOverlay(reading, references: [:]).picture(picture))
            #expect(alone.width == 128 + 16 && alone.height == drawn.height)
        }
    }

    @Test func theNumbersAreThoseOfTheirFormulas() throws {
        // Two cells, four tokens, of which the second and third show the subject.
        let part = AttentionReading.Part(
            reference: 0, subject: "s", tokens: 4, grid: .init(height: 1, width: 4),
            weights: [0.1, 0.6, 0.1, 0.2, 0.5, 0.3, 0.1, 0.1], foreground: [0, 1, 1, 0])
        let site = AttentionReading.Site(name: "x", cells: .init(height: 1, width: 2), steps: 1, parts: [part])
        let reading = AttentionReading(sites: [site])
        let numbers = try #require(reading.numbers(site, picture: Plane(width: 2, height: 1, values: [1, 0])))
        #expect(abs(numbers.localisation - 1.1 / 2) < 1e-6 && abs(numbers.leak - 0.9 / 2) < 1e-6)
        // Of 0.45 and 0.1 the second is less than half their mean.
        #expect(numbers.area == 0.5 && numbers.coverage == 0.5)
        #expect(abs(try #require(numbers.background) - 0.4 / 1.1) < 1e-6 && numbers.backgroundArea == 0.5)
        var unknown = reading
        unknown.sites[0].parts[0].foreground = nil
        #expect(unknown.numbers(unknown.sites[0]) == nil && !unknown.isForegroundKnown(of: 0))
        unknown.setForeground(
            of: 0, by: Plane(width: 8, height: 2, values: [0, 0, 1, 1, 1, 1, 0, 0] + [0, 0, 1, 1, 1, 1, 0, 0]))
        #expect(unknown.isForegroundKnown(of: 0))
        #expect(try #require(unknown.numbers(unknown.sites[0])).localisation > 0.5)
    }

    /// However many tokens the references have, a map stays small.
    @Test func cellsArePooled() {
        let site = InjectionSite(name: "x", channels: 8, heads: 1, level: 0)
        for (tokens, cells) in [(4096, 32 * 32), (4096 * 4, 16 * 16), (4096 * 200, 2 * 2)] {
            let recorder = AttentionRecorder([site], latent: (64, 64), interval: 1)
            #expect(recorder.cells(of: site, keys: tokens).size.count == cells)
        }
        #expect(AttentionRecorder([site], latent: (1, 1), interval: 1).cells(of: site, keys: 1 << 30).size.count == 1)
    }
}
