import Spool
import Synchronization
import Testing

/// Files are stored under plain names. Whoever dropped them reads the names they gave.
@Suite struct OriginalNamesTests {
    private static let picture = "Фото 1\u{1B}.png"
    private static let shown = "Фото 1\\u{1B}.png"

    private static func lastPart(_ path: String) -> String { String(path.split(separator: "/").last ?? "") }

    /// Throws what a renderer says of a reference, which it knows by its stored name.
    private static func refuse(_ path: String, _ ending: String = "") throws(RendererError) {
        let stored = lastPart(path)
        let name = ending.isEmpty ? stored : ReferenceNames.maskName(of: stored)
        throw .rejected(field: name, message: "found fog, expected a subject")
    }

    @Test(arguments: [("", OriginalNamesTests.shown), ("_mask", "фото 1\\u{1B}_MASK.png")])
    func aRefusedReference(ending: String, name: String) throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onEncode = { request throws(RendererError) in try Self.refuse(request.references[0], ending) }
        }
        try spool.start()
        try spool.dropReferences(
            "dog", [Self.picture: Pictures.png(), "фото 1\u{1B}_MASK.png": Pictures.png(payload: [1])])
        try spool.settle(turns: 5)
        #expect(try spool.receipt("dog").state == .rejected)
        #expect(try spool.receipt("dog").message == "\(name): found fog, expected a subject")
    }

    @Test func aJobThatCannotHaveItsCache() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog", [Self.picture: Pictures.png()])
        try spool.settle(turns: 5)
        #expect(try spool.receipt("dog").state == .accepted)
        spool.renderer.script.withLock {
            $0.onEncode = { request throws(RendererError) in try Self.refuse(request.references[0]) }
        }
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "model": "another"}"#)
        try spool.settle(turns: 5)
        let id = try spool.receipt("job.json").id
        #expect(
            try spool.json("lib/jobs/failed/\(id)/reason.json")["reason"]?.string
                == "\(Self.shown): found fog, expected a subject")
    }

    @Test func aPictureToBeginWith() throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onRender = { request throws(RendererError) in try Self.refuse(request.initialImage?.path ?? "") }
        }
        try spool.start()
        try spool.dropReferences("sketch", [Self.picture: Pictures.png()])
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x", "init_image": "sketch"}"#)
        try spool.settle(turns: 5)
        let id = try spool.receipt("job.json").id
        #expect(
            try spool.json("lib/jobs/failed/\(id)/reason.json")["reason"]?.string
                == "\(Self.shown): found fog, expected a subject")
    }

    @Test func remarksOnReferences() throws {
        let spool = try TestSpool()
        let root = spool.root
        spool.renderer.script.withLock {
            $0.onEncode = { request throws(RendererError) in
                let list = JSON.object([
                    "references": .array([
                        .object([
                            "name": .string(Self.lastPart(request.references[0])),
                            "remarks": .array([.string("two parts")]),
                        ])
                    ])
                ])
                let system = try? SystemCalls(root: root)
                let folder = SpoolPath(String(request.cutOuts.dropFirst(root.count + 1)))
                guard let system, (try? system.makeDirectory(folder)) != nil,
                    let file = try? system.create(folder.appending(CutOuts.listFile)),
                    (try? file.write(Array(list.text().utf8))) != nil, (try? file.syncAndClose()) != nil
                else { throw .transient(message: "the stub could not write its list") }
            }
        }
        try spool.start()
        try spool.dropReferences("dog", [Self.picture: Pictures.png()])
        try spool.settle(turns: 5)
        #expect(try spool.receipt("dog").state == .accepted)
        #expect(try spool.receipt("dog").message.hasSuffix("; \(Self.shown): two parts"))
    }

    /// A file that changed on the disk is named so too.
    @Test func aDamagedReference() throws {
        let spool = try TestSpool()
        spool.renderer.script.withLock {
            $0.onEncode = { _ throws(RendererError) in throw .environment(message: "later") }
        }
        try spool.start()
        try spool.dropReferences("dog", [Self.picture: Pictures.png()])
        try spool.settle(turns: 2)
        let set = "lib/references/" + (try #require(spool.names("lib/references").first))
        let stored = try #require(spool.names(set).first { $0.hasSuffix(".png") })
        try Files.write([0], spool.path("\(set)/\(stored)"))
        spool.renderer.script.withLock { $0.onEncode = { _ in } }
        try spool.settle(turns: 60)
        #expect(
            try spool.receipt("dog").message == "\(Self.shown): the file was damaged in the spool; drop it again")
    }
}
