import Spool
import Synchronization
import Testing

/// Jobs that begin with a picture (img2img): it comes into the spool like any reference, and the manifest names it by the
/// subject it was dropped as.
@Suite struct InitialImageTests {
    private static let sketch = Pictures.png(payload: [4, 5, 6])
    private static let manifest =
        #"{"subject": "dog", "prompt": "x", "seed": 1, "init_image": "sketch", "strength": 0.75}"#
    private static let plan = ImagePlan(index: 0, prompt: "x", seed: 1)

    @Test func strengthIsTheManifestsOrTheDefault() throws {
        func parse(_ text: String) throws -> JobManifest { try JobManifest.parse(Array(text.utf8)) }
        #expect(
            try parse(Self.manifest).initialImage == InitialImageUse(subject: "sketch", strength: 0.75))
        let plain = try parse(#"{"subject": "dog", "prompt": "x", "init_image": "sketch"}"#)
        #expect(plain.initialImage?.strength == 0.8)
        #expect(try parse(#"{"subject": "dog", "prompt": "x"}"#).initialImage == nil)
        let alone = try #require(
            #expect(throws: ManifestError.self) {
                try parse(#"{"subject": "dog", "prompt": "x", "strength": 0.5}"#)
            })
        #expect(alone.description.contains("found strength without init_image, expected both or neither"))
        let none = try #require(
            #expect(throws: ManifestError.self) {
                try parse(#"{"subject": "dog", "prompt": "x", "init_image": "a", "strength": 0.09, "steps": 10}"#)
            })
        #expect(none.description.contains("$.strength (line 1,"))
        #expect(none.description.contains("found 0.09, which leaves none of 10 steps, expected at least 0.1"))
    }

    @Test func theJobWaitsForItsPictureAndBeginsWithIt() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle()
        try spool.dropManifest(Self.manifest)
        try spool.settle()
        let receipt = try spool.receipt("job.json")
        #expect(receipt.message == "waiting for references of subject 'sketch'")
        // Of several pictures the first by name.
        try spool.dropReferences("sketch", ["b.png": Pictures.png(payload: [9]), "a.png": Self.sketch])
        try spool.settle()
        let out = "out/\(receipt.id)"
        #expect(
            try spool.read("\(out)/0000.png") == StubRenderer.expected(Self.plan, initial: (Self.sketch, 0.75)))
        #expect(try spool.read("\(out)/0000.png") != StubRenderer.expected(Self.plan))
        let result = try spool.json("\(out)/result.json")
        #expect(result["init_image"]?["subject"]?.string == "sketch")
        #expect(result["init_image"]?["file"]?.string == "a.png")
        #expect(result["caches"]?.array?.count == 1, "no cache of the picture is used")
        #expect(!result.text().contains(spool.root), "a path would tell where the spool is")
        #expect(try spool.faults() == [])
    }

    @Test func aSubjectCanBeItsOwnPicture() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog", ["a.png": Self.sketch])
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "seed": 1, "init_image": "dog"}"#)
        try spool.settle()
        let out = "out/\(try spool.receipt("job.json").id)"
        #expect(try spool.read("\(out)/0000.png") == StubRenderer.expected(Self.plan, initial: (Self.sketch, 0.8)))
    }

    /// A new generation of the picture, and retention, come between two images of a job; it stays with what it began with.
    @Test func aRunningJobKeepsItsPicture() throws {
        let spool = try TestSpool { $0.retention.unreferenced = 1 }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropReferences("sketch", ["a.png": Self.sketch])
        try spool.dropManifest(
            #"{"subject": "dog", "prompts": ["x", "y"], "seed": 1, "init_image": "sketch", "strength": 0.75}"#)
        while spool.renderer.log.withLock({ $0.rendered.count }) < 1 { _ = try spool.daemon.turn() }
        let before = spool.names("lib/references")
        spool.crash()
        // The newer pictures are in before the job goes on; then everything else is old enough to go.
        spool.renderer.script.withLock {
            $0.onStep = { _, _ throws(RendererError) in throw .environment(message: "not yet") }
        }
        try spool.start()
        try spool.dropReferences("sketch", ["a.png": Pictures.png(payload: [1, 1])])
        try spool.settle(turns: 5)
        spool.clock.setWall(SpoolClock.system.wall() + 2000)
        try spool.settle(turns: 2, step: 4000)
        #expect(Set(before).isSubset(of: spool.names("lib/references")), "the running job's picture was removed")
        spool.renderer.script.withLock { $0.onStep = { _, _ in } }
        try spool.settle(turns: 30)
        let out = "out/\(try spool.receipt("job.json").id)"
        for (index, prompt) in ["x", "y"].enumerated() {
            let plan = ImagePlan(index: index, prompt: prompt, seed: 1 + index)
            #expect(
                try spool.read("\(out)/000\(index).png")
                    == StubRenderer.expected(plan, initial: (Self.sketch, 0.75)))
        }
        // With the job done nothing names the old picture any more.
        spool.clock.setWall(SpoolClock.system.wall() + 20_000)
        try spool.settle(turns: 2, step: 4000)
        #expect(!Set(before).isSubset(of: spool.names("lib/references")))
        #expect(try spool.faults() == [])
    }

    /// A checkpoint made from one picture is none of an image that begins with another.
    @Test func aCheckpointBelongsToItsPicture() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropReferences("sketch", ["a.png": Self.sketch])
        spool.renderer.script.withLock {
            $0.isEager = true
            $0.onStep = { _, step throws(RendererError) in if step == 2 { throw .environment(message: "not yet") } }
        }
        try spool.dropManifest(Self.manifest)
        try spool.settle(turns: 5)
        let id = try spool.receipt("job.json").id
        spool.crash()
        let folder = try #require(["active", "queued"].first { spool.exists("lib/jobs/\($0)/\(id)/checkpoint") })
        let path = "lib/jobs/\(folder)/\(id)/job.json"
        let text = String(decoding: try spool.read(path), as: UTF8.self)
        let digest = try #require(try spool.json(path)["init_image"]?["sha256"]?.string)
        try Files.write(
            Array(text.replacing(digest, with: String(repeating: "0", count: 64)).utf8), spool.path(path))
        spool.renderer.script.withLock { $0.onStep = { _, _ in } }
        try spool.start()
        try spool.settle()
        #expect(spool.renderer.log.withLock { $0.resumedAt } == [])
    }

    @Test func jobsOfOneSecondAreListedAsTheyWereAccepted() throws {
        let spool = try TestSpool()
        try spool.start()
        for name in ["c", "a", "b", "e", "d"] {
            try spool.dropManifest(#"{"subject": "nobody", "prompt": "\#(name)"}"#, "\(name).json")
            _ = try spool.daemon.turn()
        }
        #expect(try spool.client.list().map(\.drop) == ["c.json", "a.json", "b.json", "e.json", "d.json"])
    }
}
