import Glibc
import Spool
import Synchronization
import SystemPackage
import Testing

/// Ends the process at calls of a kind, for good, until it is started anew.
private final class StickyDeath: Sendable {
    private let isDead = Mutex(false)
    private let isDeadly: @Sendable (SystemCall) -> Bool

    init(_ isDeadly: @escaping @Sendable (SystemCall) -> Bool) { self.isDeadly = isDeadly }

    func revive() { isDead.withLock { $0 = false } }

    var gate: SystemGate {
        SystemGate { [self] call in
            isDead.withLock { isDead in
                if isDeadly(call) { isDead = true }
                return isDead ? .stop : .proceed
            }
        }
    }
}

/// One person's drop, one damaged file or one bad hour of the machine harms nothing else.
@Suite struct NeighbourTests {
    private static let job = #"{"subject": "dog", "prompt": "x", "seed": 1}"#
    private static let keyed = #"{"subject": "dog", "prompt": "x", "idempotency_key": "k"}"#

    private func isDone(_ spool: TestSpool, _ drop: String) throws -> Bool {
        if case .ended(.done) = try spool.client.standing(of: drop) { true } else { false }
    }

    /// A spool with one finished job, `done.json`.
    private func used(_ script: StubRenderer.Script = .init(), gate: SystemGate? = nil) throws -> TestSpool {
        let spool = try TestSpool(gate: gate, script: script)
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.keyed, "done.json")
        try spool.settle(turns: 5)
        try #require(try isDone(spool, "done.json"))
        return spool
    }

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
        DropTests.raw(Array(spool.path("drop/references/.claim~a1~").utf8) + [0xFF]) {
            close(open($0, O_CREAT | O_WRONLY, 0o644))
        }
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.job)
        try spool.settle()
        #expect(try isDone(spool, "job.json"))
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
        try Files.write(Array(Self.job.utf8), spool.path("drop/jobs/.claim~\(id)~late.json"))
        try Files.write([], spool.path("drop/jobs/.claim~\(id)~late.json~\u{1B}forged"))
        mkdir(spool.path("drop/references/.kept~\(id)~cat"), 0o755)
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle()
        #expect(try isDone(spool, "late.json"))
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
        try spool.dropManifest(Self.job)
        try spool.settle()
        #expect(try isDone(spool, "job.json"))
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
        try spool.dropManifest(Self.job)
        try Files.write(Array("[]".utf8), spool.path("drop/jobs/wrong.json"))
        try spool.settle()
        #expect(try isDone(spool, "job.json"))
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
        try spool.dropManifest(Self.job)
        try spool.settle()
        let id = try spool.receipt("job.json").id
        mkdir(spool.path("drop/jobs/\(id).retry"), 0o755)
        try spool.settle(turns: 60)
        #expect(try spool.receipt("\(id).retry").state == .rejected)
        #expect(spool.exists("lib/jobs/failed/\(id)"))
        #expect(spool.renderer.log.withLock { $0.encoded } == ["dog"])
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

    // MARK: - Poison

    /// Ends the process when references are about to be encoded, as the kernel does that is out of memory.
    @Test func referencesThatEndTheDaemonAreRefusedAndNobodyWaitsForThem() throws {
        let death = StickyDeath { call in
            if case .create(let path) = call { path.string.hasSuffix("poison.dcache") } else { false }
        }
        let spool = try TestSpool(gate: death.gate)
        try spool.start()
        try spool.dropReferences("poison", ["a.png": Pictures.png(payload: [6])])
        let first = #expect(throws: SpoolError.self) { try spool.settle(turns: 5) }
        #expect(first?.code == .processStopped)
        spool.crash()
        death.revive()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.job)
        try spool.start()
        // Others go first now.
        try spool.settle(turns: 5)
        #expect(try isDone(spool, "job.json"))
        var deaths = 1
        for _ in 0..<10 where try spool.receipt("poison").state != .rejected {
            do {
                try spool.settle(turns: 200)
            } catch let error as SpoolError where error.code == .processStopped {
                deaths += 1
                spool.crash()
                death.revive()
                try spool.start()
            }
        }
        #expect(deaths == 3)
        #expect(try spool.receipt("poison").state == .rejected)
        #expect(try spool.receipt("poison").message.contains("3 times"))
        #expect(try spool.faults() == [])
    }

    @Test func anEncodingThatFailsIsTriedThrice() throws {
        let spool = try TestSpool()
        let tries = Mutex(0)
        spool.renderer.script.withLock {
            $0.onEncode = { _ throws(RendererError) in
                tries.withLock { $0 += 1 }
                throw .transient(message: "out of luck")
            }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle(turns: 600)
        #expect(tries.withLock { $0 } == 3)
        #expect(try spool.receipt("dog").message == "3 attempts to encode it failed; the last: out of luck")
    }

    @Test func aClaimThatEndsTheDaemonIsRefusedAndOthersAreTaken() throws {
        let death = StickyDeath { call in
            if case .openForReading(let path) = call {
                path.string.hasPrefix("lib/claims") && path.string.hasSuffix("poison.json")
            } else {
                false
            }
        }
        let spool = try TestSpool(gate: death.gate)
        try spool.start()
        try spool.dropManifest(Self.job, "poison.json")
        try spool.dropManifest(Self.job, "aaa.json")
        try spool.dropManifest(Self.job, "zzz.json")
        var deaths = 0
        while deaths < 20, !spool.exists("receipts/poison.json.json") {
            do { try spool.settle(turns: 30) } catch let error as SpoolError where error.code == .processStopped {
                deaths += 1
                spool.crash()
                death.revive()
                try spool.start()
            }
        }
        #expect(deaths == 5)
        #expect(try spool.receipt("poison.json").state == .rejected)
        #expect(try spool.receipt("poison.json").message.contains("without coming to an end"))
        for name in ["aaa.json", "zzz.json"] { #expect(try spool.receipt(name).state == .waiting) }
    }

    @Test func aContactSheetNeverCostsASet() throws {
        let spool = try TestSpool()
        let errors: [RendererError] = [
            .rejected(field: nil, message: "too wide"), .transient(message: "odd"), .environment(message: "no memory"),
        ]
        try spool.start()
        try spool.dropReferences("dog")
        for (index, error) in errors.enumerated() {
            spool.renderer.script.withLock { $0.onGrid = { _ throws(RendererError) in throw error } }
            let drop = "\(index).json"
            try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "output": {"grid": true}}"#, drop)
            try spool.settle(turns: 100)
            #expect(try isDone(spool, drop))
            let id = try spool.receipt(drop).id
            #expect(try spool.json("out/\(id)/result.json")["grid_error"]?.string != nil)
        }
        // What the machine refuses thrice costs the page too.
        #expect(spool.renderer.log.withLock { $0.pages.map(\.sheet) } == [nil, nil])
        #expect(try spool.faults() == [])
    }

    /// Whoever takes sets away may put something in a set's place before it is there.
    @Test(arguments: ["folder", "file", "link"]) func whatLiesInASetsPlaceStepsAside(_ kind: String) throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(Self.job)
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
        #expect(try isDone(spool, "job.json"))
        #expect(spool.names("out/\(id)") == ["0000.png", "index.html", "result.json"])
        #expect(spool.names("out").sorted() == [id.text, "\(id)~1", "\(id)~2"])
        #expect(try spool.faults() == [])
    }

    /// What another's folder under a job's id says of the job does not count.
    @Test func aForgedSetFinishesNoJob() throws {
        let spool = try used()
        try spool.dropManifest(#"{"subject": "cat", "prompt": "x"}"#, "waiting.json")
        try spool.settle(turns: 3)
        let (done, waiting) = (try spool.receipt("done.json").id, try spool.receipt("waiting.json").id)
        let forged = spool.path("out/\(waiting)")
        try Files.copy(spool.path("out/\(done)"), to: forged)
        let result = String(decoding: try spool.read("out/\(done)/result.json"), as: UTF8.self)
        try Files.write(Array(result.replacing(done.text, with: waiting.text).utf8), forged + "/result.json")
        guard chown(forged, 12_345, 12_345) == 0 else { return }
        #expect(try spool.faults() == [])
        spool.crash()
        try spool.start()
        #expect(spool.names("lib/jobs/queued") == [waiting.text])
        try spool.dropReferences("cat")
        try spool.settle(turns: 20)
        #expect(try isDone(spool, "waiting.json"))
        #expect(try spool.json("out/\(waiting)/result.json")["drop"]?.string == "waiting.json")
        #expect(spool.exists("out/\(waiting)~1"))
    }

    @Test func aPageNeverCostsASet() throws {
        let spool = try TestSpool()
        let errors: [RendererError] = [
            .rejected(field: nil, message: "too wide"), .transient(message: "odd"), .environment(message: "no memory"),
        ]
        try spool.start()
        try spool.dropReferences("dog")
        for (index, error) in errors.enumerated() {
            spool.renderer.script.withLock { $0.onPage = { _ throws(RendererError) in throw error } }
            let drop = "\(index).json"
            try spool.dropManifest(#"{"subject": "dog", "prompt": "x"}"#, drop)
            try spool.settle(turns: 100)
            #expect(try isDone(spool, drop))
            let id = try spool.receipt(drop).id
            let result = try spool.json("out/\(id)/result.json")
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
        #expect(try isDone(spool, "job.json"))
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

    // MARK: - Damage

    struct Damage: Sendable, CustomStringConvertible {
        let file: String
        let bytes: [UInt8]
        var description: String { "\(file) \(bytes.count)" }
    }

    /// Small files of the daemon's own, damaged: the same drops again, and new ones, go on.
    @Test(arguments: [
        Damage(file: "receipts/dog.json", bytes: Array("{\"drop\"".utf8)), Damage(file: "receipts/dog.json", bytes: []),
        Damage(file: "receipts/done.json.json", bytes: [0xFF]), Damage(file: "lib/keys/*", bytes: []),
        Damage(file: "lib/keys/*", bytes: [0, 1, 2]), Damage(file: "lib/jobs/done/*/job.json", bytes: Array("{}".utf8)),
        Damage(file: "lib/jobs/done/*/manifest.json", bytes: Array("{}".utf8)),
        Damage(file: "lib/subjects/dog.json", bytes: []), Damage(file: "status.json", bytes: [1]),
        Damage(file: "lib/cache/*", bytes: []), Damage(file: "lib/cache/*", bytes: [1, 2, 3]),
    ]) func aDamagedFileStopsNothingElse(_ damage: Damage) throws {
        let spool = try used()
        let first = try spool.receipt("done.json").id
        var path = ""
        for part in damage.file.split(separator: "/") {
            path += (path.isEmpty ? "" : "/") + (part == "*" ? try #require(spool.names(path).first) : String(part))
        }
        for restart in [false, true] {
            try Files.write(damage.bytes, spool.path(path))
            if restart {
                spool.crash()
                try spool.start()
            }
            try spool.dropReferences("dog", ["new\(restart).png": Pictures.png(payload: [restart ? 4 : 5])])
            try spool.dropReferences("cat")
            try spool.dropManifest(Self.keyed, "again.json")
            try spool.dropManifest(Self.job, "new.json")
            try spool.dropManifest(#"{"subject": "cat", "prompt": "x"}"#, "cat.json")
            try spool.settle(turns: 60)
            #expect(try isDone(spool, "new.json"))
            #expect(try isDone(spool, "cat.json"))
            if !path.hasSuffix("manifest.json") { #expect(try spool.receipt("again.json").id == first) }
            #expect(try spool.receipt("dog").state == .accepted)
        }
    }

    @Test func aDamagedReceiptOfAWaitingJobHarmsItNot() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(Self.job)
        try spool.settle(turns: 3)
        try Files.write(Array("{".utf8), spool.path("receipts/job.json.json"))
        try spool.dropReferences("dog")
        try spool.settle()
        #expect(try isDone(spool, "job.json"))
        #expect(try spool.receipt("job.json").state == .accepted)
    }

    @Test func aCacheThatIsDamagedOrGoneIsMadeAgain() throws {
        let spool = try used()
        let cache = "lib/cache/" + (try #require(spool.names("lib/cache").first))
        for (number, bytes) in [[UInt8](), [1, 2, 3]].enumerated() {
            try Files.write(bytes, spool.path(cache))
            try spool.dropManifest(Self.job, "\(number).json")
            try spool.settle(turns: 20)
            #expect(try isDone(spool, "\(number).json"))
            #expect(try spool.read(cache).starts(with: Array("cache of".utf8)))
        }
        unlink(spool.path(cache))
        try spool.dropManifest(Self.job, "gone.json")
        try spool.settle(turns: 20)
        #expect(try isDone(spool, "gone.json"))
        #expect(try spool.faults() == [])
    }

    @Test func aSequenceBeyondAllNumbersIsDamage() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(Self.job)
        try spool.settle(turns: 3)
        let id = try spool.receipt("job.json").id
        spool.crash()
        let path = "lib/jobs/queued/\(id)/job.json"
        let record = String(decoding: try spool.read(path), as: UTF8.self)
        try Files.write(
            Array(record.replacing("\"sequence\": 1", with: "\"sequence\": 9223372036854775807").utf8), spool.path(path)
        )
        try spool.start()
        #expect(spool.exists("lib/jobs/quarantine/\(id)/reason.json"))
    }

    @Test(arguments: ["out", "receipts", "drop/jobs", "drop/references", "cache", "lib/cache", "lib/keys", "lib/trash"])
    func aFolderOfTheLayoutThatIsGoneIsMadeAnew(_ folder: String) throws {
        let spool = try used()
        Files.remove(spool.path(folder))
        if !folder.hasPrefix("drop") {
            try spool.dropManifest(Self.job, "before.json")
            try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "idempotency_key": "n"}"#, "keyed.json")
        }
        try spool.settle(turns: 150)
        if !folder.hasPrefix("drop") {
            #expect(try isDone(spool, "before.json"))
            #expect(try isDone(spool, "keyed.json"))
        }
        #expect(spool.exists(folder))
        try spool.dropManifest(Self.job, "after.json")
        try spool.settle(turns: 20)
        #expect(try isDone(spool, "after.json"))
        // Without its receipt a job is still known by the name it was dropped under.
        #expect(try spool.client.standing(of: "done.json") != .unknown)
        #expect(spool.names("lib/jobs/quarantine") == [])
    }

    /// The same of one in whose place a file is put, while a daemon runs and before one starts.
    @Test(
        arguments: ["out", "receipts", "cache", "lib/cache", "lib/keys", "lib/jobs/done", "lib/rejected"],
        [true, false])
    func aFileInPlaceOfAFolderStepsAside(_ folder: String, _ isRunning: Bool) throws {
        let spool = try used()
        if !isRunning { spool.crash() }
        Files.remove(spool.path(folder))
        try Files.write([1], spool.path(folder))
        if !isRunning { try spool.start() }
        try spool.dropManifest(Self.job, "before.json")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "idempotency_key": "n"}"#, "keyed.json")
        try spool.settle(turns: 150)
        #expect(try isDone(spool, "before.json") && isDone(spool, "keyed.json"))
        #expect(spool.names("lib/jobs/quarantine") == [])
        #expect(Files.isFolder(spool.path(folder)))
        #expect(try Files.read(spool.path(folder) + "~1") == [1])
    }

    /// A link is no accident: whoever made it takes it away. Until then jobs wait, and no daemon starts.
    @Test(arguments: ["out", "receipts", "lib/jobs/done"]) func aLinkInPlaceOfAFolderHolds(_ folder: String) throws {
        let spool = try used()
        Files.remove(spool.path(folder))
        symlink("/nonexistent", spool.path(folder))
        try spool.dropManifest(Self.job, "before.json")
        try spool.settle(turns: 40)
        #expect(spool.names("lib/jobs/quarantine") == [])
        spool.crash()
        let error = #expect(throws: SpoolError.self) { try spool.start() }
        #expect(error?.exitCode == 78)
        unlink(spool.path(folder))
        try spool.start()
        try spool.settle(turns: 40)
        #expect(try isDone(spool, "before.json"))
        #expect(spool.names("lib/jobs/quarantine") == [])
    }

    // MARK: - The machine

    @Test func aModelThatIsMissingHoldsItsJobsAndNoOthers() throws {
        let isMissing = Mutex(true)
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onStep = { _, _ in }
            $0.onRender = { request throws(RendererError) in
                if request.manifest.model == "gone", isMissing.withLock({ $0 }) {
                    throw .unavailable(message: "gone.ckpt: no such file")
                }
            }
        }
        try spool.start()
        try spool.dropReferences("dog")
        for number in 0..<6 {
            try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "model": "gone"}"#, "gone\(number).json")
        }
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "model": "here"}"#, "here.json")
        try spool.settle(turns: 20)
        #expect(try isDone(spool, "here.json"))
        #expect(spool.names("lib/jobs/queued").count == 6)
        for number in 0..<6 {
            #expect(try spool.receipt("gone\(number).json").message == "held: gone.ckpt: no such file")
        }
        isMissing.withLock { $0 = false }
        try spool.settle(turns: 700)
        for number in 0..<6 {
            #expect(try isDone(spool, "gone\(number).json"))
            let id = try spool.receipt("gone\(number).json").id
            #expect(try spool.json("out/\(id)/result.json")["attempts"]?.integer == 1)
        }
    }

    @Test func troubleOfTheMachineHoldsEverythingAndIsProbedWithPatience() throws {
        let isTroubled = Mutex(true)
        let tries = Mutex(0)
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onRender = { _ throws(RendererError) in
                tries.withLock { $0 += 1 }
                if isTroubled.withLock({ $0 }) { throw .environment(message: "too many open files") }
            }
        }
        try spool.start()
        try spool.dropReferences("dog")
        for number in 0..<8 { try spool.dropManifest(Self.job, "\(number).json") }
        try spool.settle(turns: 300)
        #expect(tries.withLock { $0 } < 20, "probed \(tries.withLock { $0 }) times in 300 s")
        #expect(spool.names("lib/jobs/queued").count == 8)
        isTroubled.withLock { $0 = false }
        try spool.settle(turns: 900)
        for number in 0..<8 {
            let id = try spool.receipt("\(number).json").id
            #expect(try spool.json("out/\(id)/result.json")["attempts"]?.integer == 1)
        }
    }

    @Test func aSpoolThatWasMovedHoldsItsJobs() throws {
        let spool = try TestSpool()
        let system = try SystemCalls(root: spool.root)
        spool.renderer.script.withLock {
            $0.onRender = { request throws(RendererError) in
                // As a renderer finds it: absolute paths lead nowhere.
                if !system.isInPlace { throw .rejected(field: nil, message: "no such file") }
            }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle(turns: 3)
        rename(spool.root, spool.root + "-moved")
        try Files.write(Array(Self.job.utf8), spool.root + "-moved/drop/jobs/job.json")
        try spool.settle(turns: 40)
        rename(spool.root + "-moved", spool.root)
        try spool.settle(turns: 40)
        #expect(try isDone(spool, "job.json"))
        #expect(try spool.json("out/\(try spool.receipt("job.json").id)/result.json")["attempts"]?.integer == 1)
    }

    @Test(arguments: SpoolConfiguration.ModelChange.allCases)
    func aModelThatChangesInTheMiddleOfASetIsNoticed(_ policy: SpoolConfiguration.ModelChange) throws {
        let adapter = Mutex("a")
        let spool = try TestSpool { $0.onModelChange = policy }
        spool.renderer.script.withLock {
            $0.pictureIdentity = { adapter.withLock { $0 } }
            $0.onStep = { image, _ in if image == 1 { adapter.withLock { $0 = "b" } } }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompts": ["a", "b", "c"], "seed": 1}"#)
        try spool.settle(turns: 10)
        let id = try spool.receipt("job.json").id
        if policy == .hold {
            #expect(try spool.receipt("job.json").message.hasPrefix("held: "))
            spool.renderer.script.withLock { $0.onStep = { _, _ in } }
            adapter.withLock { $0 = "a" }
            spool.daemon.reload(configuration: spool.configuration)
            try spool.settle(turns: 10)
        }
        let result = try spool.json("out/\(id)/result.json")
        #expect((result["restarts"]?.array?.count ?? 0) == (policy == .restart ? 1 : 0))
        #expect(result["attempts"]?.integer == 1)
        #expect(try spool.faults() == [])
    }

    // MARK: - Many

    /// Whoever drops thousands does not delay whoever drops one.
    @Test func ownersTakeTurns() throws {
        let spool = try TestSpool { $0.acceptBatch = 10 }
        try spool.start()
        for number in 0..<200 { try spool.dropManifest(Self.job, "a\(number).json") }
        try spool.dropManifest(Self.job, "z.json")
        guard chown(spool.path("drop/jobs/z.json"), 12_345, 12_345) == 0 else { return }
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
        #expect(try isDone(spool, "job.json"))
        #expect(try spool.faults() == [])
    }
}
