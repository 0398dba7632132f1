import Glibc
import Spool
import Synchronization
import SystemPackage
import Testing

/// The spool's page and those of older sets.
@Suite struct PageKeeperTests {
    private func page(_ spool: TestSpool, _ name: String = "index.html") throws -> String {
        String(decoding: try spool.read(name), as: UTF8.self)
    }

    @Test func itTellsOfEverything() throws {
        let spool = try TestSpool(configure: { $0.maximumAttempts = 1 })
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompts": ["a <b>dog</b>", "two"]}"#, "good.json")
        try spool.dropManifest(#"{"subject": "cat", "prompt": "x"}"#, "waits.json")
        try spool.dropManifest(#"{"subject": "dog", "prompt": 7}"#, "bad.json")
        try spool.settle()
        spool.renderer.script.withLock {
            $0.onRender = { _ throws(RendererError) in throw .rejected(field: "$.prompt", message: "not that") }
        }
        try spool.dropManifest(#"{"subject": "dog", "prompt": "y"}"#, "fails.json")
        try spool.settle()
        let id = try spool.receipt("good.json").id
        let html = try page(spool)
        for part in [
            "out/\(id)/index.html", "out/\(id)/0000.png", "a &lt;b&gt;dog&lt;/b&gt;", "2 pictures",
            try spool.receipt("waits.json").id.text, "&#39;cat&#39;",
            "bad.json", "$.prompt", "lib/rejected/", "not that", "fails.json",
            "dreamcache retry \(try spool.receipt("fails.json").id)",
        ] {
            #expect(html.contains(part), "\(part)")
        }
        #expect(!html.contains("<b>"))
        #expect(try spool.faults() == [])
    }

    @Test func hostileNamesAreText() throws {
        let spool = try TestSpool()
        try spool.start()
        let name = "<img src=x onerror=alert(1)>\u{202E}\".json"
        try Files.write(Array("{".utf8), spool.path("drop/jobs/" + name))
        try spool.settle(turns: 90)
        let html = try page(spool)
        #expect(html.contains("Refused"))
        #expect(!html.contains("<img src=x") && !html.unicodeScalars.contains("\u{202E}"))
    }

    /// As many finished jobs as one likes; nothing is known of them but their ids.
    private func pretend(_ count: Int, _ spool: TestSpool) {
        for number in 0..<count {
            let digits = String(number)
            let name = "20260101-000000-" + String(repeating: "0", count: 16 - digits.count) + digits
            mkdir(spool.path("lib/jobs/done/\(name)"), 0o755)
        }
    }

    @Test func olderSetsAreOnPagesOfTheirOwn() throws {
        let spool = try TestSpool()
        try spool.start()
        pretend(100, spool)
        spool.crash()
        try spool.start()
        try spool.settle()
        #expect(spool.names("pages") == ["0001.html", "0002.html", "0003.html"])
        #expect(try page(spool).contains("href=\"pages/0003.html\">All 100 sets"))
        #expect(try page(spool, "pages/0003.html").components(of: "class=\"card\"") == 4)
        #expect(try page(spool, "pages/0002.html").components(of: "class=\"card\"") == 48)
        #expect(try !page(spool, "pages/0003.html").contains("Newer"))
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x"}"#)
        try spool.settle()
        #expect(try page(spool, "pages/0003.html").components(of: "class=\"card\"") == 5)
        #expect(try page(spool, "pages/0003.html").contains(try spool.receipt("job.json").id.text))
    }

    /// What a set more costs does not depend on how many there are.
    @Test func aSetMoreCostsTheSame() throws {
        func calls(_ count: Int) throws -> Int {
            let gate = FaultGate()
            let spool = try TestSpool(gate: gate.gate)
            try spool.start()
            pretend(count, spool)
            spool.crash()
            try spool.start()
            try spool.dropReferences("dog")
            try spool.settle(turns: 40)
            let before = gate.all
            try spool.dropManifest(#"{"subject": "dog", "prompt": "x"}"#)
            try spool.settle(turns: 20)
            #expect(spool.names("out").count == 1)
            return gate.all - before
        }
        // The last page has the same number of sets in both.
        let few = try calls(60)
        let many = try calls(60 + 20 * 48)
        #expect(abs(few - many) <= 5, "\(few) and \(many)")
    }

    @Test func aPageThatCannotBeWrittenHarmsNothing() throws {
        let isFull = Mutex(true)
        let gate = SystemGate { call in
            if case .write(let path, _) = call, path.string.hasSuffix("-index.html"), isFull.withLock({ $0 }) {
                return .fail(.noSpace)
            }
            return .proceed
        }
        let spool = try TestSpool(gate: gate)
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x"}"#)
        try spool.settle()
        #expect(spool.names("out").count == 1 && !spool.exists("index.html"))
        #expect(try spool.faults() == [])
        isFull.withLock { $0 = false }
        try spool.settle(turns: 130)
        #expect(try page(spool).contains(try spool.receipt("job.json").id.text))
    }

    @Test func whatStandsInItsPlaceIsSetAside() throws {
        let spool = try TestSpool()
        try spool.start()
        spool.crash()
        Files.remove(spool.path("index.html"))
        mkdir(spool.path("index.html"), 0o755)
        try Files.write([], spool.path("index.html/x"))
        #expect(try spool.faults() == [])
        #expect(try spool.faults(notes: true).contains { $0.contains("index.html") })
        try spool.start()
        try spool.settle()
        #expect(try page(spool).contains("idle"))
        #expect(spool.names("lib/rejected").contains { $0.contains("index.html") })
    }

    @Test func afterARestartItIsMadeAgain() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences("dog")
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x"}"#)
        try spool.dropManifest(#"{"subject": 1}"#, "bad.json")
        try spool.settle()
        Files.remove(spool.path("index.html"))
        spool.crash()
        try spool.start()
        try spool.settle()
        let html = try page(spool)
        #expect(try html.contains(spool.receipt("job.json").id.text) && html.contains("bad.json"))
        Files.remove(spool.path("out/" + (try spool.receipt("job.json").id.text)))
        try spool.settle(turns: 3)
        #expect(try page(spool).contains("taken away"))
    }
}

extension String {
    /// How often a text stands in this one.
    fileprivate func components(of part: String) -> Int {
        split(separator: part, omittingEmptySubsequences: false).count - 1
    }
}
