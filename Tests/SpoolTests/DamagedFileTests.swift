import Glibc
import Spool
import Testing

/// A damaged, missing or replaced file or folder of the spool stops nothing else.
@Suite struct DamagedFileTests {
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
        let spool = try TestSpool.used()
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
            try spool.dropManifest(TestSpool.keyed, "again.json")
            try spool.dropManifest(TestSpool.job, "new.json")
            try spool.dropManifest(#"{"subject": "cat", "prompt": "x"}"#, "cat.json")
            try spool.settle(turns: 60)
            #expect(try spool.isDone("new.json"))
            #expect(try spool.isDone("cat.json"))
            if !path.hasSuffix("manifest.json") { #expect(try spool.receipt("again.json").id == first) }
            #expect(try spool.receipt("dog").state == .accepted)
        }
    }

    @Test func aDamagedReceiptOfAWaitingJobHarmsItNot() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(TestSpool.job)
        try spool.settle(turns: 3)
        try Files.write(Array("{".utf8), spool.path("receipts/job.json.json"))
        try spool.dropReferences("dog")
        try spool.settle()
        #expect(try spool.isDone("job.json"))
        #expect(try spool.receipt("job.json").state == .accepted)
    }

    @Test func aCacheThatIsDamagedOrGoneIsMadeAgain() throws {
        let spool = try TestSpool.used()
        let cache = "lib/cache/" + (try #require(spool.names("lib/cache").first))
        for (number, bytes) in [[UInt8](), [1, 2, 3]].enumerated() {
            try Files.write(bytes, spool.path(cache))
            try spool.dropManifest(TestSpool.job, "\(number).json")
            try spool.settle(turns: 20)
            #expect(try spool.isDone("\(number).json"))
            #expect(try spool.read(cache).starts(with: Array("cache of".utf8)))
        }
        unlink(spool.path(cache))
        try spool.dropManifest(TestSpool.job, "gone.json")
        try spool.settle(turns: 20)
        #expect(try spool.isDone("gone.json"))
        #expect(try spool.faults() == [])
    }

    @Test func aSequenceBeyondAllNumbersIsDamage() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(TestSpool.job)
        try spool.settle(turns: 3)
        let id = try spool.receipt("job.json").id
        spool.crash()
        let path = "lib/jobs/queued/\(id)/job.json"
        // Without its seal, as records were once written: it is the number that is refused.
        let members = try #require(try spool.json(path).members).filter { $0.name != "record_sha256" }
        let record = JSON(.object(members.map { $0.name == "sequence" ? .init("sequence", .integer(.max)) : $0 }))
        try Files.write(Array(record.text().utf8), spool.path(path))
        try spool.start()
        #expect(spool.exists("lib/jobs/quarantine/\(id)/reason.json"))
    }

    @Test(arguments: ["out", "receipts", "drop/jobs", "drop/references", "cache", "lib/cache", "lib/keys", "lib/trash"])
    func aFolderOfTheLayoutThatIsGoneIsMadeAnew(_ folder: String) throws {
        let spool = try TestSpool.used()
        Files.remove(spool.path(folder))
        if !folder.hasPrefix("drop") {
            try spool.dropManifest(TestSpool.job, "before.json")
            try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "idempotency_key": "n"}"#, "keyed.json")
        }
        try spool.settle(turns: 150)
        if !folder.hasPrefix("drop") {
            #expect(try spool.isDone("before.json"))
            #expect(try spool.isDone("keyed.json"))
        }
        #expect(spool.exists(folder))
        try spool.dropManifest(TestSpool.job, "after.json")
        try spool.settle(turns: 20)
        #expect(try spool.isDone("after.json"))
        // Without its receipt a job is still known by the name it was dropped under.
        #expect(try spool.client.standing(of: "done.json") != .unknown)
        #expect(spool.names("lib/jobs/quarantine") == [])
    }

    /// The same of one in whose place a file is put, while a daemon runs and before one starts.
    @Test(
        arguments: ["out", "receipts", "cache", "lib/cache", "lib/keys", "lib/jobs/done", "lib/rejected"],
        [true, false])
    func aFileInPlaceOfAFolderStepsAside(_ folder: String, _ isRunning: Bool) throws {
        let spool = try TestSpool.used()
        if !isRunning { spool.crash() }
        Files.remove(spool.path(folder))
        try Files.write([1], spool.path(folder))
        if !isRunning { try spool.start() }
        try spool.dropManifest(TestSpool.job, "before.json")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "idempotency_key": "n"}"#, "keyed.json")
        try spool.settle(turns: 150)
        #expect(try spool.isDone("before.json") && spool.isDone("keyed.json"))
        #expect(spool.names("lib/jobs/quarantine") == [])
        #expect(Files.isFolder(spool.path(folder)))
        #expect(try Files.read(spool.path(folder) + "~1") == [1])
    }

    /// A link is no accident: whoever made it takes it away. Until then jobs wait, and no daemon starts.
    @Test(arguments: ["out", "receipts", "lib/jobs/done"]) func aLinkInPlaceOfAFolderHolds(_ folder: String) throws {
        let spool = try TestSpool.used()
        Files.remove(spool.path(folder))
        symlink("/nonexistent", spool.path(folder))
        try spool.dropManifest(TestSpool.job, "before.json")
        try spool.settle(turns: 40)
        #expect(spool.names("lib/jobs/quarantine") == [])
        spool.crash()
        let error = #expect(throws: SpoolError.self) { try spool.start() }
        #expect(error?.exitCode == 78)
        unlink(spool.path(folder))
        try spool.start()
        try spool.settle(turns: 40)
        #expect(try spool.isDone("before.json"))
        #expect(spool.names("lib/jobs/quarantine") == [])
    }
}
