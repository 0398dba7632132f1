import Spool
import Synchronization
import Testing

/// The best of several candidates: `select` of a manifest, and what the spool makes of it.
@Suite struct SelectionTests {
    private static let manifest = """
        {"subject": "dog", "prompts": ["x", "y"], "seed": 10, "select": {"best_of": 4, "keep": "all"},
         "output": {"grid": true}}
        """

    private func parse(_ text: String) throws -> JobManifest { try JobManifest.parse(Array(text.utf8)) }

    private func fault(_ select: String, _ more: String = "") throws -> String {
        let error = #expect(throws: ManifestError.self) {
            try parse(#"{"subject": "dog", "prompt": "x", "select": \#(select)\#(more)}"#)
        }
        return try #require(error).description
    }

    @Test func itIsRead() throws {
        let manifest = try parse(Self.manifest)
        #expect(manifest.select == Selection(candidates: 4, criterion: .subject, keepsAll: true))
        let plain = try parse(#"{"subject": "dog", "prompt": "x", "select": {"best_of": 2, "by": "dino-s8"}}"#)
        #expect(plain.select == Selection(candidates: 2, criterion: .encoder("dino-s8")))
        #expect(try parse(#"{"subject": "dog", "prompt": "x"}"#).select == nil)
    }

    /// The first candidates are the images of a set without a choice, and no two of a job are the same.
    @Test func candidatesHaveSeedsOfTheirOwn() throws {
        let manifest = try parse(Self.manifest)
        let seeds = manifest.images(seed: 10).map { manifest.candidates(of: $0).map(\.seed) }
        #expect(seeds == [[10, 12, 14, 16], [11, 13, 15, 17]])
        #expect(manifest.fileName(image: 1, candidate: 2) == "0001-2.png")
    }

    @Test func boundsAreNamed() throws {
        #expect(try fault("{}").contains("$.select.best_of"))
        #expect(try fault(#"{"best_of": 17}"#).contains("found 17, expected an integer from 1 to 16"))
        #expect(try fault(#"{"best_of": 2, "by": "a b"}"#).contains("$.select.by"))
        #expect(try fault(#"{"best_of": 2, "keep": "some"}"#).contains("$.select.keep"))
        let many = try fault(#"{"best_of": 4}"#, #", "num_images_per_prompt": 2501"#)
        #expect(many.contains("$.select.best_of"))
        #expect(many.contains("found 2501 images of 4 candidates, expected at most 10000 candidates in all"))
        let large = try fault(#"{"best_of": 16, "keep": "all"}"#, #", "width": 4096, "height": 4096"#)
        #expect(large.contains("$.select.keep") && large.contains("expected at most 64 megapixels, or best"))
        let maps = try fault(#"{"best_of": 2}"#, #", "output": {"attention": true}"#)
        #expect(maps.contains("$.output.attention") && maps.contains("found true beside select"))
    }

    @Test func theBestAreTheSetAndTheOthersLieBeside() throws {
        let spool = try TestSpool { $0.pages = true }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.manifest)
        try spool.settle()
        let id = try spool.receipt("job.json").id
        let (out, manifest) = ("out/\(id)", try parse(Self.manifest))
        let images = try #require(try spool.json("\(out)/result.json")["images"]?.array)
        #expect(images.count == 2)
        for (index, image) in images.enumerated() {
            let candidates = try #require(image["candidates"]?.array)
            let scores = candidates.compactMap { $0["scores"]?["subject"]?.number }
            let best = try #require(candidates.firstIndex { $0["chosen"]?.bool == true })
            #expect(scores.count == 4 && scores[best] == scores.max())
            #expect(image["seed"]?.integer == candidates[best]["seed"]?.integer)
            let plans = manifest.candidates(of: manifest.plan(image: index, seed: 10))
            #expect(try spool.read("\(out)/000\(index).png") == StubRenderer.expected(plans[best]))
            for (number, plan) in plans.enumerated() where number != best {
                let file = try #require(candidates[number]["file"]?.string)
                #expect(file == "candidates/000\(index)-\(number).png")
                #expect(try spool.read("\(out)/\(file)") == StubRenderer.expected(plan))
            }
        }
        #expect(spool.names("\(out)/candidates").count == 6)
        let sheet = try #require(spool.renderer.log.withLock { $0.sheets.first })
        #expect(sheet.images.count == 2 && sheet.remarks.count == 2)
        #expect(sheet.remarks[0].hasSuffix(", best of 4") && sheet.remarks[0].hasPrefix("subject 0."))
        #expect(try spool.faults() == [])
        // What was lost of the job's own record is in the set.
        try Files.write(Array("{".utf8), spool.path("lib/jobs/done/\(id)/job.json"))
        spool.crash()
        _ = try spool.client.repaired()
        #expect(try spool.faults() == [])
    }

    /// A candidate that was kept is as much a part of an unfinished set as its images are.
    @Test func aKeptCandidateThatIsLostIsMadeAgain() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.manifest)
        while spool.renderer.log.withLock({ $0.rendered.count }) < 2 { _ = try spool.daemon.turn() }
        spool.crash()
        let id = try #require(spool.names("lib/jobs/active").first)
        let candidates = "lib/jobs/active/\(id)/set/candidates"
        let name = try #require(spool.names(candidates).first { $0.hasPrefix("0000") })
        Files.remove(spool.path("\(candidates)/\(name)"))
        try Files.write([1], spool.path("\(candidates)/stray.png"))
        try spool.start()
        try spool.settle()
        #expect(spool.names("out/\(id)/candidates").count == 6)
        #expect(spool.names("out/\(id)/candidates").contains(name))
        #expect(try spool.faults() == [])
    }

    /// Without `keep: all` nothing of the others is left.
    @Test func theOthersGoWhereNobodyAskedForThem() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "seed": 1, "select": {"best_of": 3}}"#)
        try spool.settle()
        let id = try spool.receipt("job.json").id
        #expect(!spool.names("out/\(id)").contains("candidates"))
        let image = try spool.json("out/\(id)/result.json")["images"]?.array?.first
        #expect(image?["candidates"]?.array?.count == 3)
        #expect(try spool.faults() == [])
    }

    /// A damaged encoder holds the jobs that need it, and nobody else's, although they name one model.
    @Test func aDamagedEncoderHoldsOnlyTheJobsThatNeedIt() throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onRender = { request throws(RendererError) in
                if request.manifest.select != nil { throw .unavailable(message: "clip: damaged") }
            }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(
            #"{"subject": "dog", "prompt": "x", "seed": 1, "select": {"best_of": 2, "by": "text"}}"#, "chosen.json")
        try spool.settle(turns: 10)
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "seed": 1}"#, "plain.json")
        try spool.settle(turns: 10)
        #expect(spool.names("out") == [try spool.receipt("plain.json").id.text])
        let held = try spool.receipt("chosen.json")
        #expect(held.state == .waiting && held.message == "held: clip: damaged")
        spool.renderer.script.withLock { $0.onRender = { _ in } }
        try spool.settle(turns: 2000, step: 10)
        #expect(spool.names("out").contains(held.id.text))
    }

    // MARK: - image_scale: auto

    @Test func autoIsAScale() throws {
        let manifest = try parse(
            #"{"subject": {"name": "dog", "image_scale": 1}, "prompt": "x", "image_scale": "auto"}"#)
        #expect(manifest.tunesImageScale && manifest.subjects[0].imageScale == 1)
        #expect(try !parse(#"{"subject": "dog", "prompt": "x", "image_scale": 2}"#).tunesImageScale)
        let error = #expect(throws: ManifestError.self) {
            try parse(#"{"subject": "dog", "prompt": "x", "image_scale": "best"}"#)
        }
        #expect(error?.description.contains("$.image_scale") == true && error?.description.contains("auto") == true)
        let request = RenderRequest(
            job: nil, manifest: manifest, image: manifest.plan(image: 0, seed: 1),
            caches: ["dog", "cat"].map { CacheUse(subject: $0, imageScale: 1, path: "/\($0)") }, output: "/o")
        // A subject that has a scale of its own keeps it.
        #expect(request.tuned(to: 4).caches.map(\.imageScale) == [1, 4])
        #expect(request.tuned(to: 4).manifest.imageScale == 4 && !request.tuned(to: 4).manifest.tunesImageScale)
    }

    /// The pilot's choice is kept with the first picture: those after it are asked for with it, also by the next daemon.
    @Test func aPilotIsAskedOnce() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(
            #"{"subject": "dog", "prompts": ["x", "y", "z"], "seed": 1, "image_scale": "auto"}"#)
        while spool.renderer.log.withLock({ $0.rendered.count }) < 1 { _ = try spool.daemon.turn() }
        while try spool.receipt("job.json").message == "started" { _ = try spool.daemon.turn() }
        spool.crash()
        try spool.start()
        try spool.settle()
        let receipt = try spool.receipt("job.json")
        #expect(receipt.message == "started; \(StubRenderer.tuning.summary)")
        #expect(receipt.message.contains("image_scale 2.0 was chosen by a pilot of 2 pictures (50 evaluations)"))
        let tuned = spool.renderer.log.withLock { $0.tuned }
        #expect(tuned.first == .some(nil) && tuned.dropFirst().allSatisfy { $0 == 2 } && tuned.count >= 3)
        let result = try spool.json("out/\(receipt.id)/result.json")
        #expect(result["tuning"]?["image_scale"]?.number == 2 && result["tuning"]?["seconds"]?.number == 1.25)
        #expect(result["tuning"]?["trials"]?.array?.count == 2)
        #expect(try spool.faults() == [])
        try Files.write(Array("{".utf8), spool.path("lib/jobs/done/\(receipt.id)/job.json"))
        spool.crash()
        _ = try spool.client.repaired()
        #expect(try spool.faults() == [])
    }

    /// A set that begins anew with another model asks the pilot again.
    @Test func anotherModelNeedsAnotherPilot() throws {
        let spool = try TestSpool()
        let model = Mutex("one")
        spool.renderer.script.withLock { $0.pictureIdentity = { model.withLock { $0 } } }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompts": ["x", "y"], "seed": 1, "image_scale": "auto"}"#)
        while spool.renderer.log.withLock({ $0.rendered.count }) < 1 { _ = try spool.daemon.turn() }
        model.withLock { $0 = "two" }
        try spool.settle()
        #expect(spool.renderer.log.withLock { $0.tuned } == [nil, nil, 2])
        #expect(try spool.faults() == [])
    }

    // MARK: - What judges

    /// An encoder looks at the photos; they are the job's own, and whole.
    @Test func photosAreGivenWhereTheyAreLookedAt() throws {
        let spool = try TestSpool()
        let photos = Mutex<[[String]]>([])
        spool.renderer.script.withLock {
            $0.onRender = { request throws(RendererError) in
                photos.withLock { $0.append(request.photos.map { String($0.path.split(separator: "/").last ?? "") }) }
            }
        }
        try spool.start()
        try spool.dropReferences("dog", ["a.png": Pictures.png(), "b.png": Pictures.png(payload: [7])])
        for by in ["subject", "dino"] {
            try spool.dropManifest(
                #"{"subject": "dog", "prompt": "x", "seed": 1, "select": {"best_of": 2, "by": "\#(by)"}}"#, "\(by).json"
            )
            try spool.settle()
        }
        #expect(photos.withLock { $0 } == [[], ["a.png", "b.png"]])
        let set = try #require(spool.names("lib/references").first)
        try Files.write(Pictures.png(payload: [1]), spool.path("lib/references/\(set)/a.png"))
        try spool.dropManifest(
            #"{"subject": "dog", "prompt": "x", "seed": 2, "select": {"best_of": 2, "by": "dino"}}"#, "late.json")
        try spool.settle()
        let id = try spool.receipt("late.json").id
        let reason = try spool.json("lib/jobs/failed/\(id)/reason.json")["reason"]?.string
        #expect(reason?.contains("a.png: the file was damaged in the spool; drop it again") == true)
    }
}
