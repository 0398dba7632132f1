import Spool
import Synchronization
import Testing

/// Cut-outs beside caches. That they survive kills, power cuts and full disks is the campaigns' to show, whose run has one.
@Suite struct CutOutTests {
    private func encoded() throws -> (TestSpool, cutOuts: String, cache: String) {
        let spool = try TestSpool(script: .init(cutsOut: true))
        try spool.start()
        try spool.dropReferences("dog")
        try spool.settle()
        let cache = try #require(spool.names("lib/cache").first { $0.hasSuffix(".dcache") })
        return (spool, "lib/cache/\(cache.dropLast(7)).cutouts", "lib/cache/\(cache)")
    }

    @Test func theyStandBesideTheirCacheAndTheReceiptSaysWhatIsDoubtful() throws {
        let (spool, cutOuts, _) = try encoded()
        #expect(spool.names(cutOuts) == ["0000.png", "cutouts.json"])
        #expect(try spool.read("\(cutOuts)/0000.png") == StubRenderer.cutOut)
        #expect(try spool.receipt("dog").message.contains("a.png: it is doubtful"))
        #expect(try spool.faults(notes: true) == [])
        #expect(spool.names("lib/tmp") == [])
    }

    enum Damage: CaseIterable { case otherBytes, pictureGone, listGone, listTorn, all }

    @Test(arguments: Damage.allCases) func whatIsDamagedIsSaidAndMadeAnewWithItsCache(_ damage: Damage) throws {
        let (spool, cutOuts, cache) = try encoded()
        let (picture, list) = (spool.path("\(cutOuts)/0000.png"), spool.path("\(cutOuts)/cutouts.json"))
        switch damage {
        case .otherBytes: try Files.write([1, 2, 3], picture)
        case .pictureGone: Files.remove(picture)
        case .listGone: Files.remove(list)
        case .listTorn: try Files.write(Array("{\"version\": 1, ".utf8), list)
        case .all: Files.remove(spool.path(cutOuts))
        }
        // Without its folder a cache is one whose photos were kept.
        #expect(try spool.faults(notes: true).isEmpty == (damage == .all))
        spool.daemon.abandon()
        Files.remove(spool.path(cache))
        _ = try spool.client.repaired()
        spool.crash()
        try spool.start()
        try spool.settle()
        #expect(spool.exists(cache))
        #expect(try spool.read("\(cutOuts)/0000.png") == StubRenderer.cutOut)
        #expect(try spool.faults(notes: true) == [])
    }

    @Test func aSecondCacheOfTheSameReferencesLeavesThemAsTheyAre() throws {
        let (spool, cutOuts, cache) = try encoded()
        let list = try spool.read("\(cutOuts)/cutouts.json")
        spool.daemon.abandon()
        Files.remove(spool.path(cache))
        _ = try spool.client.repaired()
        spool.renderer.script.withLock { $0.cutsOut = false }
        spool.crash()
        try spool.start()
        try spool.settle()
        #expect(spool.exists(cache))
        #expect(try spool.read("\(cutOuts)/cutouts.json") == list)
    }
}
