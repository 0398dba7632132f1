import Glibc
import Spool
import Synchronization
import Testing

/// The oracle finds everything at once, and repairing does what a start-up would.
@Suite struct VerificationTests {
    private static let job = #"{"subject": "dog", "prompt": "x", "seed": 1, "idempotency_key": "k"}"#

    /// A spool with two finished jobs and no daemon.
    private func used() throws -> TestSpool {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(Self.job, "a.json")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "y", "seed": 2}"#, "b.json")
        try spool.settle(turns: 5)
        spool.crash()
        #expect(try spool.faults(notes: true) == [])
        return spool
    }

    private func flip(_ path: String, _ spool: TestSpool) throws {
        var bytes = try spool.read(path)
        bytes[bytes.count / 2] ^= 4
        try Files.write(bytes, spool.path(path))
    }

    private func kinds(_ spool: TestSpool) throws -> [Finding.Kind] { try spool.client.findings().map(\.kind) }

    @Test func everyDamageIsReportedWhateverElseIsDamaged() throws {
        let spool = try used()
        let (a, b) = (try spool.receipt("a.json").id, try spool.receipt("b.json").id)
        try Files.write(Array("{".utf8), spool.path("lib/jobs/done/\(a)/job.json"))
        try flip("out/\(b)/0000.png", spool)
        try Files.write(Array("99\n".utf8), spool.path("lib/VERSION"))
        try Files.write([], spool.path("receipts/dog.json"))
        try Files.write([], spool.path("lib/keys/" + (try #require(spool.names("lib/keys").first))))
        try flip("lib/cache/" + (try #require(spool.names("lib/cache").first)), spool)
        try flip("lib/subjects/dog.json", spool)
        Files.remove(spool.path("lib/rejected"))
        #expect(
            Set(try kinds(spool)).isSuperset(of: [
                .jobDamaged, .imageDamaged, .version, .receiptDamaged, .keyDamaged, .cacheDamaged, .subjectDamaged,
                .folderMissing,
            ]))
    }

    @Test func aRecordWithOneOtherByteIsDamaged() throws {
        let spool = try used()
        let path = "lib/jobs/done/\(try spool.receipt("a.json").id)/job.json"
        let text = String(decoding: try spool.read(path), as: UTF8.self)
        #expect(text.contains("\"seed\": 1"))
        try Files.write(Array(text.replacing("\"seed\": 1", with: "\"seed\": 3").utf8), spool.path(path))
        #expect(try kinds(spool) == [.jobDamaged])
    }

    @Test func nothingReachesATerminalUnescaped() throws {
        let spool = try used()
        try Files.write([], spool.path("out/\u{1B}[2J\n\u{202E}x"))
        let findings = try spool.client.findings()
        #expect(findings.map(\.path) == ["out/\\u{1b}[2J\\u{a}\\u{202e}x"])
        #expect(findings.first?.json["kind"]?.string == "set_unknown")
    }

    /// The repository's own spool keeps its empty folders so, and people's file managers look into them.
    @Test func whatKeepsAFolderIsNoDamage() throws {
        let spool = try used()
        for folder in ["cache", "receipts", "out", "drop/jobs", "lib"] {
            for name in [".gitignore", ".DS_Store"] { try Files.write([], spool.path("\(folder)/\(name)")) }
        }
        #expect(try kinds(spool) == [])
    }

    @Test func repairingWaitsForNoDaemon() throws {
        let spool = try used()
        try spool.start()
        let error = #expect(throws: SpoolError.self) { try spool.client.repaired() }
        #expect(error?.exitCode == 75)
    }

    @Test func whatCanBeMadeAgainIsMadeAgainAndTheRestIsSaid() throws {
        let spool = try used()
        let (a, b) = (try spool.receipt("a.json").id, try spool.receipt("b.json").id)
        let cache = "lib/cache/" + (try #require(spool.names("lib/cache").first))
        let key = "lib/keys/" + (try #require(spool.names("lib/keys").first))
        try flip(cache, spool)
        try Files.write([0], spool.path(key))
        unlink(spool.path("receipts/b.json.json"))
        try Files.write([1], spool.path("receipts/a.json.json"))
        unlink(spool.path("cache/dog.dcache"))
        Files.remove(spool.path("lib/trash"))
        try Files.copy(spool.path("lib/jobs/done/\(a)"), to: spool.path("lib/jobs/queued/\(a)"))
        try Files.write([], spool.path("lib/jobs/done/\(a)/images/0000.json"))
        try Files.write(Array("{}".utf8), spool.path("lib/jobs/done/\(b)/job.json"))
        try flip("out/\(a)/0000.png", spool)
        let repair = try spool.client.repaired()
        #expect(
            Set(repair.repaired.map(\.kind)).isSuperset(of: [
                .cacheDamaged, .keyDamaged, .receiptDamaged, .receiptMissing, .folderMissing, .jobTwin, .jobDamaged,
            ]))
        #expect(repair.left.map(\.kind) == [.imageDamaged])
        #expect(repair.refusals == [])
        #expect(try spool.client.repaired().repaired == [])
        #expect(try spool.read(key) == Array(a.text.utf8))
        #expect(try spool.receipt("a.json").id == a)
        #expect(try spool.receipt("b.json").id == b)
        #expect(spool.names("lib/rejected").contains { $0.hasPrefix("queued~\(a)") })
        #expect(try spool.client.list().map(\.state) == [.done, .done])
        try spool.start()
        try spool.settle(turns: 5)
        #expect(spool.exists(cache))
        #expect(Files.target(of: spool.path("cache/dog.dcache")) == "../" + cache)
        #expect(try kinds(spool) == [.imageDamaged])
    }

    /// A picture that has changed on the disk is not taken for the one that was dropped.
    @Test func damagedReferencesAreNeverEncoded() throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onEncode = { _ throws(RendererError) in throw .environment(message: "later") }
        }
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle(turns: 2)
        let set = "lib/references/" + (try #require(spool.names("lib/references").first))
        try flip(set + "/a.png", spool)
        spool.renderer.script.withLock { $0.onEncode = { _ in } }
        try spool.settle(turns: 60)
        #expect(try spool.receipt("dog").state == .rejected)
        #expect(try spool.receipt("dog").message == "a.png: the file was damaged in the spool; drop it again")
        try spool.dropReferences("dog")
        try spool.settle(turns: 5)
        #expect(try spool.receipt("dog").state == .accepted)
        #expect(try spool.faults() == [])
    }
}
