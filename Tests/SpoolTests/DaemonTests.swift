import Glibc
import Spool
import Synchronization
import Testing

/// The daemon as users meet it: drops in, sets, receipts and states out.
@Suite struct DaemonTests {
    static let manifest =
        #"{"subject": "dog", "prompts": ["in the snow", "on a beach"], "num_images_per_prompt": 2, "seed": 7}"#

    @Test func aDroppedFolderAndManifestBecomeASet() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog", ["b.jpg": Pictures.jpeg(), "a.png": Pictures.png()])
        try spool.dropManifest(Self.manifest)
        try spool.settle()

        #expect(try spool.receipt("dog").state == .accepted)
        #expect(spool.exists("cache/dog.dcache"))
        #expect(try !spool.read("cache/dog.dcache").isEmpty)
        let receipt = try spool.receipt("job.json")
        #expect(receipt.state == .accepted)
        let out = "out/\(receipt.id)"
        #expect(spool.names(out) == ["0000.png", "0001.png", "0002.png", "0003.png", "index.html", "result.json"])
        for (index, prompt) in ["in the snow", "in the snow", "on a beach", "on a beach"].enumerated() {
            let plan = ImagePlan(index: index, prompt: prompt, seed: 7 + index)
            #expect(try spool.read("\(out)/000\(index).png") == StubRenderer.expected(plan))
        }
        let result = try spool.json("\(out)/result.json")
        #expect(result["seed"]?.integer == 7)
        #expect(result["images"]?.array?.count == 4)
        #expect(spool.names("drop/jobs").isEmpty)
        #expect(spool.names("drop/references").isEmpty)
        #expect(spool.names("lib/tmp").isEmpty)
        spool.crash()
        #expect(try spool.faults(notes: true) == [])
    }

    @Test func aManifestBeforeItsReferencesWaitsAndSaysSo() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(Self.manifest)
        try spool.settle()
        let receipt = try spool.receipt("job.json")
        #expect(receipt.state == .waiting)
        #expect(receipt.message == "waiting for references of subject 'dog'")
        let waiting = try spool.json("status.json")["waiting"]?.array
        #expect(waiting?.first?["reason"]?.string == "waiting for references of subject 'dog'")
        try spool.dropReferences("dog")
        try spool.settle()
        #expect(try spool.receipt("job.json").state == .accepted)
        #expect(spool.exists("out/\(receipt.id)/result.json"))
    }

    @Test func aSubjectNobodyDropsFailsTheJobInTheEnd() throws {
        let spool = try TestSpool { $0.subjectLimit = 100 }
        try spool.start()
        try spool.dropManifest(Self.manifest)
        try spool.settle(turns: 60, step: 1)
        let id = try spool.receipt("job.json").id
        #expect(spool.exists("lib/jobs/queued/\(id)"))
        try spool.settle(turns: 60, step: 1)
        let outcome = try spool.client.standing(of: "job")
        #expect(outcome == .ended(.failed(id, reason: "subject 'dog' was not dropped within 100 s")))
    }

    @Test func theSeedIsChosenOnceAndKept() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x"}"#)
        try spool.settle()
        let id = try spool.receipt("job.json").id
        let seed = try #require(try spool.json("lib/jobs/queued/\(id)/job.json")["seed"]?.integer)
        spool.crash()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle()
        let plan = ImagePlan(index: 0, prompt: "x", seed: seed)
        #expect(try spool.read("out/\(id)/0000.png") == StubRenderer.expected(plan))
    }

    @Test func twoImagesOfOneManifestAreThoseOfTwoManifests() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "seed": 5, "batch_size": 2}"#, "both.json")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "seed": 5}"#, "one.json")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "seed": 6}"#, "two.json")
        try spool.settle()
        func image(_ drop: String, _ file: String) throws -> [UInt8] {
            try spool.read("out/\(try spool.receipt(drop).id)/\(file)")
        }
        #expect(try image("both.json", "0000.png") == image("one.json", "0000.png"))
        #expect(try image("both.json", "0001.png") == image("two.json", "0000.png"))
        #expect(try image("both.json", "0000.png") != image("both.json", "0001.png"))
    }

    @Test func aMalformedManifestIsRefusedWithEveryFaultAndKept() throws {
        let spool = try TestSpool()
        try spool.start()
        let text = #"{"subject": "dog", "promt": "x", "steps": 0}"#
        try spool.dropManifest(text)
        try spool.settle()
        let receipt = try spool.receipt("job.json")
        #expect(receipt.state == .rejected)
        #expect(receipt.faults.map(\.path) == ["$", "$.promt", "$.steps"])
        #expect(receipt.message.contains("exactly one of prompt, prompts"))
        #expect(try spool.read(try #require(receipt.keptAt)) == Array(text.utf8))
        #expect(try spool.client.standing(of: "job.json") == .ended(.rejected(receipt)))
    }

    @Test func aTruncatedJPEGIsRefusedByNameAndTheDaemonGoesOn() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("cat", ["good.png": Pictures.png(), "cut.jpg": Array(Pictures.jpeg().dropLast(2))])
        try spool.settle()
        let receipt = try spool.receipt("cat")
        #expect(receipt.state == .rejected)
        #expect(receipt.message == "cut.jpg: found a JPEG that ends without its EOI marker, expected a whole image")
        let kept = try #require(receipt.keptAt)
        #expect(spool.names(kept).contains("good.png"))
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.manifest)
        try spool.settle()
        #expect(spool.exists("out/\(try spool.receipt("job.json").id)"))
    }

    @Test func referencesTheRendererRefusesAreRejectedAndTheOlderGenerationStays() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle()
        spool.renderer.script.withLock {
            $0.onEncode = { _ throws(RendererError) in
                throw .rejected(field: "b.png", message: "found a damaged IDAT, expected a picture")
            }
        }
        try spool.dropReferences("dog", ["b.png": Pictures.png(payload: [9])])
        try spool.settle()
        let receipt = try spool.receipt("dog")
        #expect(receipt.state == .rejected)
        #expect(receipt.message == "b.png: found a damaged IDAT, expected a picture")
        #expect(spool.names(try #require(receipt.keptAt)) == ["b.png", "set.json"])
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x"}"#)
        try spool.settle()
        #expect(spool.exists("out/\(try spool.receipt("job.json").id)"))
    }

    @Test func aModelThatCannotBeUsedHoldsTheJobAndKeepsTheReferences() throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onEncode = { _ throws(RendererError) in throw .unavailable(message: "model.ckpt: missing tensor x") }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.manifest)
        try spool.settle()
        #expect(try spool.receipt("dog").message == "waiting to be encoded: model.ckpt: missing tensor x")
        let id = try spool.receipt("job.json").id
        #expect(try spool.receipt("job.json").state == .waiting)
        #expect(try spool.receipt("job.json").message == "held: model.ckpt: missing tensor x")
        #expect(try spool.client.list([.queued]).map(\.reason) == ["held: model.ckpt: missing tensor x"])
        #expect(
            try spool.json("status.json")["waiting"]?.array?.first?["reason"]?.string
                == "held: model.ckpt: missing tensor x")
        spool.renderer.script.withLock { $0.onEncode = { _ in } }
        spool.daemon.reload(configuration: spool.configuration)
        try spool.settle()
        #expect(try spool.json("out/\(id)/result.json")["attempts"]?.integer == 1, "no attempt was consumed")
        #expect(spool.exists("cache/dog.dcache"))
        #expect(spool.exists("out/\(id)/0003.png"))
    }

    @Test func anInterruptedSetIsCompletedWithTheSameBytes() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.manifest)
        let crashes = Mutex(0)
        spool.renderer.script.withLock {
            $0.isEager = true
            $0.onStep = { image, step throws(RendererError) in
                if image == 2, step == 2,
                    crashes.withLock({
                        $0 += 1; return $0
                    }) == 1
                {
                    throw .stopped
                }
            }
        }
        // The daemon ends in the middle of image 2 without a word.
        while crashes.withLock({ $0 }) == 0 { _ = try spool.daemon.turn() }
        spool.crash()
        try spool.start()
        try spool.settle()
        let id = try spool.receipt("job.json").id
        #expect(spool.renderer.log.withLock { $0.resumedAt } == [2])
        #expect(spool.renderer.log.withLock { $0.rendered.count } == 4)
        for index in 0..<4 {
            let plan = ImagePlan(index: index, prompt: index < 2 ? "in the snow" : "on a beach", seed: 7 + index)
            #expect(try spool.read("out/\(id)/000\(index).png") == StubRenderer.expected(plan))
        }
        #expect(try spool.faults() == [])
    }
}
