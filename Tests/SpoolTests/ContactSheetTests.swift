import Spool
import Synchronization
import Testing

/// What the contact sheet of a set is made of.
@Suite struct ContactSheetTests {
    @Test func itShowsTheReferencesThatTheJobUses() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog", ["a.png": Pictures.png(), "b.png": Pictures.png(payload: [1])])
        try spool.dropReferences("cat")
        try spool.dropManifest(
            #"""
            {"subjects": [{"name": "dog", "references": ["b.png"]}, {"name": "cat"}], "prompts": ["x", "y"], "seed": 1,
             "output": {"grid": true}}
            """#)
        try spool.settle()
        let sheets = spool.renderer.log.withLock { $0.sheets }
        let sheet = try #require(sheets.first)
        #expect(sheets.count == 1)
        #expect(sheet.references.map(\.subject) == ["dog", "cat"])
        #expect(sheet.references.map { $0.path.split(separator: "/").last } == ["b.png", "a.png"])
        #expect(sheet.references.allSatisfy { Files.exists($0.path) })
        #expect(sheet.images.count == 2)
        #expect(try spool.faults() == [])
    }
}
