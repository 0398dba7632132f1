import Glibc
import Spool
import Synchronization
import Testing

/// What belongs to a set beside its pictures never costs the set.
@Suite struct FinishedSetTests {
    /// For errors of each kind, a job is done all the same; its id and result are checked.
    private func whateverFails(
        _ spool: TestSpool, _ manifest: String, fail: (inout StubRenderer.Script, RendererError) -> Void,
        check: (JobID, JSON) throws -> Void
    ) throws {
        let errors: [RendererError] = [
            .rejected(field: nil, message: "too wide"), .transient(message: "odd"), .environment(message: "no memory"),
        ]
        try spool.start()
        try spool.dropReferences("dog")
        for (index, error) in errors.enumerated() {
            spool.renderer.script.withLock { fail(&$0, error) }
            let drop = "\(index).json"
            try spool.dropManifest(manifest, drop)
            try spool.settle(turns: 100)
            #expect(try spool.isDone(drop))
            let id = try spool.receipt(drop).id
            try check(id, try spool.json("out/\(id)/result.json"))
        }
    }

    @Test func aContactSheetNeverCostsASet() throws {
        let spool = try TestSpool()
        let manifest = #"{"subject": "dog", "prompt": "x", "output": {"grid": true}}"#
        try whateverFails(spool, manifest) { script, error in
            script.onGrid = { _ throws(RendererError) in throw error }
        } check: { _, result in
            #expect(result["grid_error"]?.string != nil)
        }
        // What the machine refuses thrice costs the page too.
        #expect(spool.renderer.log.withLock { $0.pages.map(\.sheet) } == [nil, nil])
        #expect(try spool.faults() == [])
    }

    /// Whoever takes sets away may put something in a set's place before it is there.
    @Test(arguments: ["folder", "file", "link"]) func whatLiesInASetsPlaceStepsAside(_ kind: String) throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(TestSpool.job)
        try spool.settle(turns: 3)
        let id = try spool.receipt("job.json").id
        switch kind {
        case "folder": mkdir(spool.path("out/\(id)"), 0o700)
        case "file": try Files.write([1], spool.path("out/\(id)"))
        default: symlink("/nonexistent", spool.path("out/\(id)"))
        }
        try Files.write([2], spool.path("out/\(id)~1"))
        try spool.dropReferences("dog")
        try spool.settle(turns: 20)
        #expect(try spool.isDone("job.json"))
        #expect(spool.names("out/\(id)") == ["0000.png", "index.html", "result.json"])
        #expect(spool.names("out").sorted() == [id.text, "\(id)~1", "\(id)~2"])
        #expect(try spool.faults() == [])
    }

    /// What another's folder under a job's id says of the job does not count.
    @Test(.enabled(if: getuid() == 0, "only root gives files to others")) func aForgedSetFinishesNoJob() throws {
        let spool = try TestSpool.used()
        try spool.dropManifest(#"{"subject": "cat", "prompt": "x"}"#, "waiting.json")
        try spool.settle(turns: 3)
        let (done, waiting) = (try spool.receipt("done.json").id, try spool.receipt("waiting.json").id)
        let forged = spool.path("out/\(waiting)")
        try Files.copy(spool.path("out/\(done)"), to: forged)
        let result = String(decoding: try spool.read("out/\(done)/result.json"), as: UTF8.self)
        try Files.write(Array(result.replacing(done.text, with: waiting.text).utf8), forged + "/result.json")
        try #require(chown(forged, 12_345, 12_345) == 0)
        #expect(try spool.faults() == [])
        spool.crash()
        try spool.start()
        #expect(spool.names("lib/jobs/queued") == [waiting.text])
        try spool.dropReferences("cat")
        try spool.settle(turns: 20)
        #expect(try spool.isDone("waiting.json"))
        #expect(try spool.json("out/\(waiting)/result.json")["drop"]?.string == "waiting.json")
        #expect(spool.exists("out/\(waiting)~1"))
    }

    @Test func aPageNeverCostsASet() throws {
        let spool = try TestSpool()
        try whateverFails(spool, #"{"subject": "dog", "prompt": "x"}"#) { script, error in
            script.onPage = { _ throws(RendererError) in throw error }
        } check: { id, result in
            #expect(result["page_error"]?.string != nil && result["grid_error"] == nil)
            #expect(!spool.exists("out/\(id)/index.html"))
        }
        #expect(try spool.faults() == [])
    }

    @Test func attentionStandsBesideItsPicture() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog", ["a.png": Pictures.png(), "b.jpg": Pictures.jpeg()])
        try spool.dropManifest(#"{"subject": "dog", "prompts": ["x", "y"], "output": {"attention": true}}"#)
        try spool.settle()
        let id = try spool.receipt("job.json").id
        let files = ["0000.attention.png", "0000.attention.safetensors", "0000.png"]
        #expect(spool.names("out/\(id)").filter { $0.hasPrefix("0000") } == files)
        let image = try #require(try spool.json("out/\(id)/result.json")["images"]?.array?.last)
        #expect(image["attention"]?["mean"]?["leak"]?.number == 0.3)
        #expect(
            image["beside"]?.array?.map { $0["file"]?.string } == ["0001.attention.png", "0001.attention.safetensors"])
        let page = try #require(spool.renderer.log.withLock { $0.pages.first })
        #expect(
            page.pictures.map { $0.overlay?.hasSuffix("/000\($0.seed - page.pictures[0].seed).attention.png") } == [
                true, true,
            ])
        #expect(try spool.faults(notes: true) == [])
        // What is beside a picture is of the set like the picture.
        try Files.write([1], spool.path("out/\(id)/0001.attention.safetensors"))
        #expect(try spool.faults().contains { $0.contains("0001.attention.safetensors") })
    }

    @Test func attentionNeverCostsAPicture() throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock { $0.attentionFault = "no room for maps" }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "output": {"attention": true}}"#)
        try spool.settle()
        #expect(try spool.isDone("job.json"))
        let id = try spool.receipt("job.json").id
        #expect(spool.names("out/\(id)") == ["0000.png", "index.html", "result.json"])
        let image = try #require(try spool.json("out/\(id)/result.json")["images"]?.array?.first)
        #expect(image["attention"]?["error"]?.string == "no room for maps" && image["beside"] == nil)
        #expect(spool.renderer.log.withLock { $0.pages.first }?.pictures.map(\.overlay) == [nil])
        #expect(try spool.faults(notes: true) == [])
    }

    @Test func everySetHasAPageThatSaysHowToMakeItAgain() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog", ["a.png": Pictures.png(), "b.jpg": Pictures.jpeg()])
        try spool.dropManifest(#"{"subject": "dog", "prompts": ["x", "y"], "output": {"grid": true}}"#)
        try spool.settle()
        let id = try spool.receipt("job.json").id
        let result = try spool.json("out/\(id)/result.json")
        #expect(result["page"]?["file"]?.string == "index.html")
        let request = try #require(spool.renderer.log.withLock { $0.pages.first })
        #expect(request.job == id.text && request.sheet == "grid.png" && request.references.count == 2)
        #expect(request.pictures.map(\.prompt) == ["x", "y"])
        let again = try JSONReader.read(Array(request.document.utf8))
        #expect(again["seed"] == result["seed"] && again["prompts"] == result["manifest"]?["prompts"])
        #expect(try spool.faults(notes: true) == [])
        // A page that was changed is no longer what the record names.
        try Files.write(Array("x".utf8), spool.path("out/\(id)/index.html"))
        #expect(try spool.faults().count == 1)
    }

    @Test func withoutPages() throws {
        let spool = try TestSpool(configure: { $0.pages = false })
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x"}"#)
        try spool.settle()
        let id = try spool.receipt("job.json").id
        #expect(spool.names("out/\(id)") == ["0000.png", "result.json"])
        #expect(!spool.exists("index.html") && !spool.exists("pages"))
    }
}
