import Glibc
import Spool
import Synchronization
import SystemPackage
import Testing

/// One person's drop harms nobody else's.
@Suite struct NeighbourTests {
    // MARK: - Names

    /// Forged names of claims stopped all intake for ever.
    @Test func namesLikeTheDaemonsOwnAreLeftAlone() throws {
        let spool = try TestSpool { $0.rescanInterval = 2 }
        try spool.start()
        for name in [
            ".claim~a~x.json", ".claim~b~x.json", ".claim~a~\u{1B}[2J\n", "1~a~x.json", ".kept~a~b", "claims",
            ".claim~c~" + String(repeating: "n", count: 240),
        ] {
            try Files.write([], spool.path("drop/jobs/" + name))
            try Files.write([], spool.path("drop/references/" + name))
        }
        HostileDropTests.raw(Array(spool.path("drop/references/.claim~a1~").utf8) + [0xFF]) {
            close(open($0, O_CREAT | O_WRONLY, 0o644))
        }
        try spool.dropReferences("dog")
        try spool.dropManifest(TestSpool.job)
        try spool.settle()
        #expect(try spool.isDone("job.json"))
        for name in spool.names("receipts") {
            #expect(name.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F }, "\(name)")
        }
        #expect(try spool.faults() == [])
    }

    @Test func claimsOfTheLayoutBeforeAreTakenOver() throws {
        let spool = try TestSpool()
        try spool.start()
        spool.crash()
        let id = "20260101-000000-0123456789abcdef"
        try Files.write(Array("1\n".utf8), spool.path("lib/VERSION"))
        try Files.write(Array(TestSpool.job.utf8), spool.path("drop/jobs/.claim~\(id)~late.json"))
        try Files.write([], spool.path("drop/jobs/.claim~\(id)~late.json~\u{1B}forged"))
        mkdir(spool.path("drop/references/.kept~\(id)~cat"), 0o755)
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle()
        #expect(try spool.isDone("late.json"))
        #expect(try spool.receipt("late.json").id.text == id)
        #expect(spool.names("lib/rejected").contains("\(id)~cat"))
        #expect(try spool.read("lib/VERSION") == Array("2\n".utf8))
    }

    @Test func imagesRecordedByTheLayoutBeforeCount() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        spool.renderer.script.withLock {
            $0.onStep = { image, _ throws(RendererError) in if image == 1 { throw .environment(message: "later") } }
        }
        try spool.dropManifest(#"{"subject": "dog", "prompts": ["a", "b"], "seed": 1}"#)
        try spool.settle(turns: 5)
        let id = try spool.receipt("job.json").id
        spool.crash()
        // As it was: the images inside the record.
        let folder = "lib/jobs/queued/\(id)/"
        let pages = try spool.json(folder + "images/0000.json")["images"]
        var record = try #require(try spool.json(folder + "job.json").members).filter { $0.name != "record_sha256" }
        record.append(.init("images", try #require(pages)))
        try Files.write(Array(JSON(.object(record)).text().utf8), spool.path(folder + "job.json"))
        Files.remove(spool.path(folder + "images"))
        try Files.write(Array("1\n".utf8), spool.path("lib/VERSION"))
        spool.renderer.script.withLock { $0.onStep = { _, _ in } }
        spool.renderer.log.withLock { $0.rendered = [] }
        try spool.start()
        try spool.settle()
        #expect(spool.renderer.log.withLock { $0.rendered } == ["\(id) 1"])
        #expect(try spool.faults() == [])
    }

    // MARK: - Drops

    /// A folder within a dropped folder is somebody's; removing it was what failed at every later start.
    @Test func foldersWithinADropAreKept() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog", ready: false)
        mkdir(spool.path("drop/references/dog/.hidden"), 0o755)
        try Files.write([7], spool.path("drop/references/dog/.hidden/mine"))
        try Files.write([], spool.path("drop/references/dog/.ready"))
        try spool.settle()
        let receipt = try spool.receipt("dog")
        #expect(receipt.state == .accepted)
        #expect(try spool.read(try #require(receipt.keptAt) + "/.hidden/mine") == [7])
        spool.crash()
        try spool.start()
    }

    @Test func whatIsInTheTrashNeverKeepsTheDaemonFromStarting() throws {
        let isStubborn = Mutex(true)
        let gate = SystemGate { call in
            guard isStubborn.withLock({ $0 }) else { return .proceed }
            switch call {
            case .list(let path) where path.string.hasSuffix("stubborn"): return .fail(.permissionDenied)
            default: return .proceed
            }
        }
        let spool = try TestSpool(gate: gate)
        try spool.start()
        spool.crash()
        for folder in ["lib/tmp/1-stubborn", "lib/trash/stubborn"] {
            mkdir(spool.path(folder), 0o755)
            try Files.write([1], spool.path(folder + "/x"))
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(TestSpool.job)
        try spool.settle()
        #expect(try spool.isDone("job.json"))
        isStubborn.withLock { $0 = false }
        spool.crash()
        try spool.start()
        #expect(spool.names("lib/trash") == [])
    }

    /// A mount, another's folder: it is worked on where it lies, once, and taken away when that is allowed.
    @Test(arguments: [Errno.permissionDenied, .notPermitted, .resourceBusy, .improperLink])
    func whatCannotBeMovedIsTakenOnceAndRemembered(_ errno: Errno) throws {
        let isFixed = Mutex(true)
        let gate = SystemGate { call in
            if case .rename(let from, _, _) = call, from.string.hasPrefix("drop/"), isFixed.withLock({ $0 }) {
                return .fail(errno)
            }
            return .proceed
        }
        let spool = try TestSpool(gate: gate) { $0.rescanInterval = 3 }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(TestSpool.job)
        try Files.write(Array("[]".utf8), spool.path("drop/jobs/wrong.json"))
        try spool.settle()
        #expect(try spool.isDone("job.json"))
        #expect(try spool.receipt("wrong.json").keptAt == "drop/jobs/wrong.json")
        spool.crash()
        try spool.start()
        try spool.settle()
        #expect(try spool.client.list().count == 1, "taken twice")
        #expect(try spool.json("lib/subjects/dog.json")["generations"]?.array?.count == 1)
        #expect(spool.names("lib/leftovers").count == 3)
        // Another look is another drop.
        try Files.write(Pictures.png(payload: [9]), spool.path("drop/references/dog/b.png"))
        try spool.settle()
        #expect(try spool.json("lib/subjects/dog.json")["generations"]?.array?.count == 2)
        isFixed.withLock { $0 = false }
        try spool.settle()
        #expect(spool.names("drop/references") == [])
        // What was refused stays where its receipt says.
        #expect(spool.names("drop/jobs") == ["wrong.json"])
        #expect(spool.names("lib/leftovers").count == 1)
        #expect(try spool.faults() == [])
    }

    @Test func onlyWhatWasMovedInCountsAsMovedIn() throws {
        let spool = try TestSpool { $0.minimumFreeBytes = Int.max / 2 }
        try spool.start()
        try spool.dropReferences("dog", ready: false)
        spool.daemon.deliver(.movedIn(folder: .references, name: "dog"))
        try spool.settle(turns: 2)
        Files.remove(spool.path("drop/references/dog"))
        try spool.dropReferences("dog", ["other.png": Pictures.png(payload: [5])], ready: false)
        var roomy = spool.configuration
        roomy.minimumFreeBytes = 0
        spool.daemon.reload(configuration: roomy)
        try spool.settle(turns: 3)
        #expect(spool.exists("drop/references/dog"), "a slow copy was taken for one that was moved in")
        try spool.settle(turns: 30)
        #expect(!spool.exists("drop/references/dog"))
    }

    @Test func aFolderAsARequestIsRefusedOnce() throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onStep = { _, _ throws(RendererError) in throw .rejected(field: "$.x", message: "never") }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(TestSpool.job)
        try spool.settle()
        let id = try spool.receipt("job.json").id
        mkdir(spool.path("drop/jobs/\(id).retry"), 0o755)
        try spool.settle(turns: 60)
        #expect(try spool.receipt("\(id).retry").state == .rejected)
        #expect(spool.exists("lib/jobs/failed/\(id)"))
        #expect(spool.renderer.log.withLock { $0.encoded } == ["dog"])
    }

    /// Other pictures of a subject, dropped under another name before the first are encoded: both drops are answered.
    @Test func picturesThatWereReplacedBeforeTheyWereEncodedAreAnsweredToo() throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onEncode = { _ throws(RendererError) in throw .environment(message: "not yet") }
        }
        try spool.start()
        try spool.dropReferences("dog", ["dog.png": Pictures.png()])
        try spool.settle(turns: 2)
        try Files.write(Pictures.png(payload: [7]), spool.path("drop/references/dog.png"))
        spool.daemon.deliver(.movedIn(folder: .references, name: "dog.png"))
        try spool.settle(turns: 2)
        spool.renderer.script.withLock { $0.onEncode = { _ in } }
        try spool.settle(turns: 40)
        #expect(try spool.receipt("dog.png").message.hasPrefix("encoded as"))
        let first = try spool.receipt("dog")
        #expect(first.state == .accepted && first.message.hasPrefix("replaced by"))
        // The same pictures once more are new ones again.
        try spool.dropReferences("dog", ["dog.png": Pictures.png()])
        try spool.settle(turns: 40)
        #expect(try spool.receipt("dog").message.hasPrefix("encoded as"))
        #expect(try spool.faults() == [])
    }

    @Test func theSamePicturesUnderASecondNameAreAnsweredToo() throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onEncode = { _ throws(RendererError) in throw .environment(message: "not yet") }
        }
        try spool.start()
        try spool.dropReferences("dog", ["dog.png": Pictures.png()])
        try spool.settle(turns: 2)
        try Files.write(Pictures.png(), spool.path("drop/references/dog.png"))
        spool.daemon.deliver(.movedIn(folder: .references, name: "dog.png"))
        try spool.settle(turns: 2)
        spool.renderer.script.withLock { $0.onEncode = { _ in } }
        try spool.settle(turns: 40)
        #expect(try spool.receipt("dog").state == .accepted)
        #expect(try spool.receipt("dog.png").state == .accepted)
    }

    // MARK: - Many

    /// Whoever drops thousands does not delay whoever drops one.
    /// Everybody can read the ids of all jobs; only who dropped one, or root, ends it or has it tried again.
    @Test(.enabled(if: getuid() == 0, "only root gives files to others")) func nobodyEndsAnothersJob() throws {
        let spool = try TestSpool()
        try spool.start()
        func drop(_ name: String, _ text: String, of owner: UInt32) throws {
            try spool.moveIn(Array(text.utf8), to: .jobs, as: name, of: owner)
            try spool.settle(turns: 3)
        }
        try drop("ann.json", TestSpool.job, of: 1001)
        let id = try spool.receipt("ann.json").id
        try drop("\(id).cancel", "", of: 1002)
        let refusal = try spool.receipt("\(id).cancel")
        #expect(refusal.state == .rejected)
        #expect(refusal.message.hasPrefix("found a request of user 1002, expected one of user 1001"))
        #expect(spool.names("lib/jobs/queued") == [id.text])
        try drop("\(id).cancel", "", of: 1001)
        #expect(spool.names("lib/jobs/failed") == [id.text])
        try drop("\(id).retry", "", of: 1002)
        #expect(spool.names("lib/jobs/failed") == [id.text])
        try drop("\(id).retry", "", of: 0)
        #expect(spool.names("lib/jobs/queued") == [id.text])
        #expect(try spool.faults() == [])
    }

    /// Another's photos under a name that is taken would show up in everybody's pictures of that subject.
    @Test(.enabled(if: getuid() == 0, "only root gives files to others")) func nobodyReplacesAnothersSubject() throws {
        let spool = try TestSpool()
        try spool.start()
        func drop(_ payload: UInt8, of owner: UInt32) throws {
            try spool.moveIn(Pictures.png(payload: [payload]), to: .references, as: "dog.png", of: owner)
            try spool.settle(turns: 5)
        }
        func generations() throws -> Int { try spool.json("lib/subjects/dog.json")["generations"]?.array?.count ?? 0 }
        try drop(1, of: 1001)
        try drop(2, of: 1002)
        let refusal = try spool.receipt("dog.png")
        #expect(refusal.state == .rejected)
        #expect(
            refusal.message == "found the subject 'dog', whose photos user 1001 dropped, expected a name of your own")
        #expect(spool.exists(try #require(refusal.keptAt)))
        #expect(try generations() == 1)
        // The same photos replace nothing; the owner's own and root's do.
        try drop(1, of: 1002)
        #expect(try spool.receipt("dog.png").state == .accepted && generations() == 1)
        try drop(3, of: 1001)
        try drop(4, of: 0)
        #expect(try spool.receipt("dog.png").state == .accepted && generations() == 3)
        #expect(try spool.faults() == [])
    }

    /// Two users choose one idempotency key: each has a job of his own, and each is answered with his own.
    @Test(.enabled(if: getuid() == 0, "only root gives files to others")) func keysBelongToTheirOwners() throws {
        let spool = try TestSpool()
        try spool.start()
        let other = TestSpool.keyed.replacing(#""x""#, with: #""y""#)
        for (drop, manifest, owner) in [
            ("a.json", TestSpool.keyed, 0), ("b.json", other, 12_345), ("a2.json", TestSpool.keyed, 0),
            ("b2.json", other, 12_345),
        ] as [(String, String, UInt32)] {
            try spool.moveIn(Array(manifest.utf8), to: .jobs, as: drop, of: owner)
            try spool.settle(turns: 3)
        }
        let ids = try ["a.json", "a2.json", "b.json", "b2.json"].map { try spool.receipt($0).id }
        #expect(ids[0] == ids[1] && ids[2] == ids[3] && ids[0] != ids[2])
        #expect(spool.names("lib/jobs/queued").count == 2 && spool.names("lib/keys").count == 2)
        #expect(try spool.faults() == [])
    }

    @Test(.enabled(if: getuid() == 0, "only root gives files to others")) func ownersTakeTurns() throws {
        let spool = try TestSpool { $0.acceptBatch = 10 }
        try spool.start()
        for number in 0..<200 { try spool.dropManifest(TestSpool.job, "a\(number).json") }
        try spool.dropManifest(TestSpool.job, "z.json")
        try #require(chown(spool.path("drop/jobs/z.json"), 12_345, 12_345) == 0)
        try spool.dropReferences("dog")
        _ = try spool.daemon.turn()
        #expect(spool.exists("receipts/z.json.json"), "the one of another owner is in the first batch")
        while !spool.exists("out/\(try spool.receipt("z.json").id)") {
            spool.clock.advance(1)
            _ = try spool.daemon.turn()
        }
        #expect(spool.names("out").count < 5, "and among the first to be done")
    }

    @Test func manyRefusedDropsLeaveNothingBehindAndAStopIsHeard() throws {
        let spool = try TestSpool()
        try spool.start()
        for number in 0..<300 { try Files.write([1], spool.path("drop/jobs/\(number).txt")) }
        spool.daemon.requestStop()
        #expect(try spool.daemon.turn() == false)
        #expect(spool.names("receipts").count < 5, "a stop waits for at most one drop")
    }

    @Test func whatAnImageCostsDoesNotGrowWithTheSet() throws {
        let bytes = Mutex((first: 0, last: 0))
        let image = Mutex(0)
        let gate = SystemGate { call in
            if case .write(let path, let data) = call, !path.string.contains("status.json"),
                !path.string.contains("progress.json")
            {
                let index = image.withLock { $0 }
                bytes.withLock {
                    if (65..<129).contains(index) { $0.first += data.count }
                    if (449..<513).contains(index) { $0.last += data.count }
                }
            }
            return .proceed
        }
        let spool = try TestSpool(gate: gate)
        spool.renderer.script.withLock { $0.onStep = { index, _ in image.withLock { $0 = index } } }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "num_images_per_prompt": 600, "seed": 1}"#)
        try spool.settle(turns: 3)
        let (first, last) = bytes.withLock { ($0.first, $0.last) }
        #expect(Double(last) < 1.1 * Double(first), "\(first) bytes for 64 images, later \(last)")
        #expect(try spool.isDone("job.json"))
        #expect(try spool.faults() == [])
    }
}
