import Checkpoint
import Foundation
import Golden
import Raster
import TensorEngine
import Testing

@testable import Diffusion
@testable import DreamCache

/// A base that reads caches by itself, against the formula in plain loops.
@Suite struct SelfReadingTests {
    /// A tiny base with its parameters.
    private struct Base {
        let engine: Engine
        let model: StableDiffusion
        let store: ParameterStore

        init(_ folder: String, _ path: ComputePath = .oneDNNFP32) throws {
            engine = try Engine(path: path)
            var stores: [ParameterStore] = []
            model = try StableDiffusion.load(checkpoint: folder, engine: engine) { stores.append($0) }
            store = try #require(stores.first)
        }

        /// Decodes one picture under an empty prompt, half full of noise, through a tap.
        @discardableResult
        func decode(_ tap: (any InjectionTap)?, height: Int = 8, width: Int = 8, phase: Double = 0.3) throws -> [Float]
        {
            let text = try model.unet.textKeys(try model.encode(prompt: ""))
            let time = try model.unet.timeEmbeddings([481])[0]
            let x = try model.latentTensor(wave(4 * height * width, phase: phase), height: height, width: width)
            let features = try model.unet.encode(x, time: time, text: text)
            return engine.floats(
                try model.unet.decode(features, time: time, text: text, tap: tap, tappedRows: tap == nil ? 0 : 1))
        }

        /// What enters the sites while a picture is decoded.
        func tokens(phase: Double) throws -> [InjectionSite: [Float]] {
            let recorder = Recorder(engine)
            try decode(recorder, phase: phase)
            return recorder.tokens
        }
    }

    private final class Recorder: InjectionTap {
        private let engine: Engine
        var tokens: [InjectionSite: [Float]] = [:]
        init(_ engine: Engine) { self.engine = engine }
        func record(_ x: Tensor, at site: InjectionSite) { tokens[site] = engine.floats(x) }
        func mixes(at site: InjectionSite) -> Bool { false }
        func mix(_ x: Tensor, attention: SelfAttention, at site: InjectionSite) {}
    }

    /// Remembers what a memory makes of which tokens.
    private final class Witness: InjectionTap {
        private let engine: Engine
        private let memory: SubjectMemory
        var changes: [InjectionSite: (before: [Float], after: [Float])] = [:]

        init(_ memory: SubjectMemory, _ engine: Engine) { (self.memory, self.engine) = (memory, engine) }
        func record(_ x: Tensor, at site: InjectionSite) {}
        func mixes(at site: InjectionSite) -> Bool { memory.mixes(at: site) }
        func mix(_ x: Tensor, attention: SelfAttention, at site: InjectionSite) throws(EngineError) {
            let before = engine.floats(x)
            try memory.mix(x, attention: attention, at: site)
            changes[site] = (before, engine.floats(x))
        }
    }

    /// A site's block in plain loops, in double precision.
    private struct PlainSite {
        let site: InjectionSite
        let scope: ParameterScope
        let groups: Int
        var c: Int { site.channels }

        init(_ base: Base, _ site: InjectionSite) {
            self.site = site
            scope = base.store.scoped("model.diffusion_model.\(site.name).")
            groups = base.model.unet.configuration.normGroups
        }

        private func vector(_ name: String) -> [Double] { scope.take(name, shape: [c]).floats().map(Double.init) }

        func map(_ rows: [[Double]], _ name: String, bias: Bool = false) -> [[Double]] {
            let weight = scope.take("\(name).weight", shape: [c, c], orShape: [c, c, 1, 1]).floats().map(Double.init)
            let offset = bias ? vector("\(name).bias") : [Double](repeating: 0, count: c)
            return rows.map { row in
                (0..<c).map { o in (0..<c).reduce(offset[o]) { $0 + weight[o * c + $1] * row[$1] } }
            }
        }

        private func normalised(_ values: [Double], _ epsilon: Double) -> [Double] {
            let mean = values.reduce(0, +) / Double(values.count)
            let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
            return values.map { ($0 - mean) / (variance + epsilon).squareRoot() }
        }

        func norm1(_ rows: [[Double]]) -> [[Double]] {
            let (weight, bias) = (
                vector("transformer_blocks.0.norm1.weight"), vector("transformer_blocks.0.norm1.bias")
            )
            return rows.map { row in zip(normalised(row, 1e-5), zip(weight, bias)).map { $0 * $1.0 + $1.1 } }
        }

        /// GroupNorm over one reference's tokens, proj_in, norm1.
        func entered(_ tokens: [Float]) -> [[Double]] {
            let (weight, bias) = (vector("norm.weight"), vector("norm.bias"))
            let count = tokens.count / c
            var rows = (0..<count).map { token in (0..<c).map { Double(tokens[token * c + $0]) } }
            let width = c / groups
            for group in 0..<groups {
                let channels = group * width..<(group + 1) * width
                let flat = normalised(rows.flatMap { $0[channels] }, 1e-6)
                for token in 0..<count {
                    for (place, channel) in channels.enumerated() {
                        rows[token][channel] = flat[token * width + place] * weight[channel] + bias[channel]
                    }
                }
            }
            return norm1(map(rows, "proj_in", bias: true))
        }

        /// Scores of a head, e^(q k / sqrt(d)).
        func exponentials(_ query: [Double], _ keys: [[Double]], head: Int) -> [Double] {
            let d = c / site.heads
            return keys.map { key in
                exp((head * d..<(head + 1) * d).reduce(0) { $0 + query[$1] * key[$1] } / Double(d).squareRoot())
            }
        }

        /// What a row of the picture becomes, of the memory's tokens and whether each shows the subject.
        func mixed(
            _ before: [Float], memory: [[Double]], shows: [Bool], weight: Double
        ) -> [Float] {
            let rows = (0..<before.count / c).map { token in (0..<c).map { Double(before[token * c + $0]) } }
            let block = "transformer_blocks.0.attn1."
            let own = norm1(rows)
            let (q, k, v) = (map(own, block + "to_q"), map(own, block + "to_k"), map(own, block + "to_v"))
            let (mk, mv) = (map(memory, block + "to_k"), map(memory, block + "to_v"))
            let d = c / site.heads
            let read = q.map { query -> [Double] in
                let memories = (0..<site.heads).map { exponentials(query, mk, head: $0) }
                // How much of what each head finds in the memory shows the subject; the mean of the heads counts for all.
                let found = memories.map { m in m.indices.reduce(0) { $0 + (shows[$1] ? m[$1] : 0) } }
                let share = zip(found, memories).reduce(0) { $0 + $1.0 / $1.1.reduce(0, +) } / Double(site.heads)
                return (0..<site.heads).flatMap { head -> [Double] in
                    let e = exponentials(query, k, head: head)
                    let ownSum = e.reduce(0, +)
                    return (head * d..<(head + 1) * d).map { i in
                        let ownRead = zip(e, v).reduce(0) { $0 + $1.0 * $1.1[i] } / ownSum
                        let subject = mv.indices.reduce(0) { $0 + (shows[$1] ? memories[head][$1] * mv[$1][i] : 0) }
                        return ownRead + weight * share * (subject / found[head] - ownRead)
                    }
                }
            }
            let added = map(read, block + "to_out.0", bias: true)
            return zip(rows, added).flatMap { zip($0, $1).map { Float($0 + $1) } }
        }
    }

    @Test(arguments: Family.all) func whatIsReadIsTheFormula(_ family: Family) throws {
        let base = try Base(family.folder)
        let references = try [base.tokens(phase: 0.9), base.tokens(phase: 1.7)]
        var reading = SelfReading()
        reading.weight = 0.3
        // Of the second reference a part is background.
        func shares(_ site: InjectionSite) -> [Float] {
            (0..<(references[1][site]?.count ?? 0) / site.channels).map { $0 % 3 == 0 ? 0.2 : 0.8 }
        }
        let memory = try SubjectMemory(
            references: { site in
                [
                    [
                        CachedTokens(tokens: references[0][site] ?? [], foreground: nil),
                        CachedTokens(tokens: references[1][site] ?? [], foreground: shares(site)),
                    ]
                ]
            }, reading: reading, of: base.model.unet, engine: base.engine)
        let witness = Witness(memory, base.engine)
        try base.decode(witness)
        #expect(witness.changes.count == base.model.unet.sites.count)
        for (site, change) in witness.changes {
            let plain = PlainSite(base, site)
            let first = plain.entered(try #require(references[0][site]))
            let second = plain.entered(try #require(references[1][site]))
            let expected = plain.mixed(
                change.before, memory: first + second,
                shows: first.map { _ in true } + shares(site).map { $0 >= 0.4 }, weight: 0.3)
            func effect(_ values: [Float]) -> [Float] { zip(values, change.before).map { $0 - $1 } }
            let error = relativeError(effect(change.after), effect(expected))
            #expect(error < 1e-4, "\(site.name): \(error)")
        }
    }

    /// A picture that reads itself reads what it would have read anyway.
    @Test(arguments: Family.all) func ownTokensChangeNothing(_ family: Family) throws {
        let base = try Base(family.folder)
        let own = try base.tokens(phase: 0.3)
        let expected = try base.decode(nil)
        let memory = try SubjectMemory(
            references: { [[CachedTokens(tokens: own[$0] ?? [], foreground: nil)]] }, reading: SelfReading(),
            of: base.model.unet, engine: base.engine)
        #expect(relativeError(try base.decode(memory), expected) < 1e-5)
    }

    // MARK: Pictures

    private func pipeline(_ reading: SelfReading = SelfReading(), _ path: ComputePath = .oneDNNFP32) throws -> Pipeline
    {
        var files = ModelFiles(checkpoint: Golden.path("tiny-sd2.ckpt"))
        files.selfReading = reading
        return try Pipeline(files: files, path: path)
    }

    private func cache(_ pipeline: Pipeline) throws -> FeatureCache {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).dcache").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        let picture = try Raster.decode(path: Golden.path("reference.png"))
        try pipeline.makeCache(of: [picture], subject: "s", options: CacheOptions()).write(toPath: file)
        return try FeatureCache.open(file)
    }

    private func request(_ caches: [FeatureCache]) -> ImageRequest {
        var request = ImageRequest(prompt: "a photo of a backpack, on the beach", seed: 3)
        request.steps = 3
        request.caches = caches
        return request
    }

    @Test func withoutAnAdapterTheBaseReadsTheSubject() throws {
        let pipeline = try pipeline()
        let cache = try cache(pipeline)
        let plain = try pipeline.denoised(request([])).latent
        let personal = try pipeline.denoised(request([cache])).latent
        #expect(relativeError(personal, plain) > 1e-3)
        #expect(pipeline.adapterName == SelfReading().description)
        // As many evaluations as with an adapter: two per step without a subject, three with one.
        #expect(pipeline.evaluations == 3 * 2 + 3 * 3)
        // Keys and values of the subject are made once.
        let profile = EngineProfile()
        pipeline.model.engine.profile = profile
        #expect(try pipeline.denoised(request([cache])).latent == personal)
        var other = request([cache])
        other.seed = 4
        _ = try pipeline.denoised(other)
        pipeline.model.engine.profile = nil
        // A picture's GroupNorm has rows and columns, a cache's only tokens.
        #expect(!profile.entries.keys.contains { $0.hasPrefix("group norm") && $0.contains(", 1, ") })
        #expect(profile.entries.keys.contains { $0.hasPrefix("blend") })
    }

    @Test func picturesDependOnHowItIsRead() throws {
        var other = SelfReading()
        other.weight = ScaleSchedule(start: 0.9, end: 0.1)
        let (first, second) = (try pipeline(), try pipeline(other))
        #expect(first.identity != second.identity)
        #expect(second.identity.contains("self"))
        let cache = try cache(first)
        #expect(try first.denoised(request([cache])).latent != second.denoised(request([cache])).latent)
        // An adapter's pictures do not.
        var files = ModelFiles(
            checkpoint: Golden.path("tiny-sd2.ckpt"), adapter: Golden.path("cross_attention-199999.pt"))
        let trained = try Pipeline(files: files, path: .oneDNNFP32)
        files.selfReading = other
        #expect(try Pipeline(files: files, path: .oneDNNFP32).identity == trained.identity)
        #expect(trained.adapterName == nil)
    }

    @Test func threadsChangeNothing() throws {
        let before = Engine.threadCount
        defer { Engine.threadCount = before }
        let pipeline = try pipeline()
        let cache = try cache(pipeline)
        Engine.threadCount = 1
        let one = try pipeline.denoised(request([cache])).latent
        Engine.threadCount = 3
        #expect(try pipeline.denoised(request([cache])).latent == one)
    }

    @Test func theWeightMayChangeOverTheRun() throws {
        var reading = SelfReading()
        reading.weight = ScaleSchedule(start: 0.8, end: 0, from: 0.5, to: 0.5)
        let changing = try pipeline(reading)
        let cache = try cache(changing)
        reading.weight = 0.8
        let constant = try pipeline(reading)
        func states(_ pipeline: Pipeline) throws -> [[Float]] {
            var states: [[Float]] = []
            _ = try pipeline.denoised(request([cache])) { _, state in
                states.append(
                    DenoisingState(decoding: state(), identity: pipeline.identity, latentCount: 4 * 16 * 16)?.latent
                        ?? [])
            }
            return states
        }
        let (a, b) = (try states(changing), try states(constant))
        // Of three evaluations, at 0, 1/2 and 1, the first alone comes before the change.
        #expect(a[0] == b[0] && a[1] != b[1])
    }

    // MARK: The linear form

    @Test(arguments: Family.all) func anAdapterOfTheBaseReadsNearlyAlike(_ family: Family) throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())").path
        defer { for end in [".safetensors", ".pt"] { try? FileManager.default.removeItem(atPath: file + end) } }
        try SelfAdapter.write(for: ModelFiles(checkpoint: family.folder), to: file + ".safetensors", weight: 0.4)
        let base = try Base(family.folder)
        let made = try AdapterFile(path: file + ".safetensors")
        #expect(made.checkpoint.tensors.count == 9 * base.model.unet.sites.count)
        try made.writeTorch(to: file + ".pt")
        let references = try base.tokens(phase: 0.9)
        var reading = SelfReading()
        reading.weight = 0.4
        let exact = Witness(
            try SubjectMemory(
                references: { [[CachedTokens(tokens: references[$0] ?? [], foreground: nil)]] }, reading: reading,
                of: base.model.unet, engine: base.engine), base.engine)
        try base.decode(exact)
        let plain = try base.decode(nil)
        for end in [".safetensors", ".pt"] {
            let adapter = try Adapter(path: file + end, for: base.model, engine: base.engine)
            let memory = try SubjectMemory(tokens: { [references[$0] ?? []] }, adapter: adapter, engine: base.engine)
            let linear = Witness(memory, base.engine)
            #expect(relativeError(try base.decode(linear), plain) > 1e-3)
            // At the first site both begin with the same tokens; below, each goes its own way.
            let site = base.model.unet.sites[0]
            let (a, b) = (try #require(exact.changes[site]), try #require(linear.changes[site]))
            func effect(_ change: (before: [Float], after: [Float])) -> [Float] {
                zip(change.after, change.before).map { $0 - $1 }
            }
            let error = relativeError(effect(b), effect(a))
            // A random base's tokens vary otherwise than those of the pictures that the spreads were taken from.
            #expect(error < 0.5, "\(error)")
        }
    }

    @Test func theWholeOfTheLinearFormIsWhatItSays() throws {
        let family = Family("sd2")
        let base = try Base(family.folder)
        let sample = [try base.tokens(phase: 0.9)]
        let made = try SelfAdapter.parameters(
            of: base.store, base.model.unet, sample: sample, weight: 0.25, engine: base.engine)
        let site = base.model.unet.sites[0]
        let c = site.channels
        func values(_ name: String) throws -> [Float] {
            try #require(made.first { $0.name == "diffusion_model.\(site.name).transformer_blocks.0.\(name)" }).values
        }
        func stored(_ name: String) -> [Float] {
            base.store.take("model.diffusion_model.\(site.name).transformer_blocks.0.\(name)", shape: [c, c]).floats()
        }
        #expect(try values("attn_mem.to_q.weight") == stored("attn1.to_q.weight"))
        #expect(try values("attn_mem.to_out.0.weight") == stored("attn1.to_out.0.weight"))
        let cat = try values("linear_cat.weight")
        for o in 0..<c {
            for i in 0..<2 * c {
                let expected: Float = [o: 0.75, o + c: 0.25][i] ?? 0
                #expect(cat[o * 2 * c + i] == expected)
            }
        }
        #expect(try values("linear_cat.bias").allSatisfy { $0 == 0 })
    }

    /// The pictures that spreads are taken from look like references: a disc on white.
    @Test func samplesAreDiscsOnWhite() {
        let pictures = SelfAdapter.samplePictures(side: 64)
        #expect(pictures.count == 4 && pictures[0] != pictures[1])
        for picture in pictures {
            #expect(picture.hasPlainBorder)
            let middle = (0..<3).map { picture.pixels[(32 * 64 + 32) * 3 + $0] }
            #expect(middle != [255, 255, 255])
        }
    }
}
