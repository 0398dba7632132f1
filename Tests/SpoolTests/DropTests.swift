import Glibc
import Spool
import Testing

/// The drop rules: every way of dropping, whole, cut off and paused.
@Suite struct DropTests {
    struct Way: Sendable, CustomStringConvertible {
        let name: String
        /// Says by itself that the drop is complete, so that it is taken at once.
        let isExplicit: Bool
        /// The unfinished drop lies in the open, where only rest and wholeness tell.
        var isOpen: Bool { !isExplicit || name.hasSuffix(".ready") }
        /// Makes the drop of `count` of `files`, in the order given; the rest is what is missing when cut off.
        let drop: @Sendable (_ spool: TestSpool, _ files: [(String, [UInt8])], _ part: ClosedRange<Int>) throws -> Void
        var description: String { name }
    }

    static let photos: [(String, [UInt8])] = [
        ("a.png", Pictures.png(payload: Array(repeating: 1, count: 200))),
        ("b.jpg", Pictures.jpeg(payload: Array(repeating: 2, count: 900))),
        ("c.png", Pictures.png(payload: [3])),
    ]

    private static func write(
        _ spool: TestSpool, _ folder: String, _ files: [(String, [UInt8])], _ range: ClosedRange<Int>,
        as naming: (String) -> String = { $0 }
    ) throws {
        mkdir(spool.path(folder), 0o755)
        for (name, bytes) in files[range] { try Files.write(bytes, spool.path(folder + "/" + naming(name))) }
    }

    static let inbox = "drop/references"

    /// Twenty ways. `part` 0...1 is what has arrived before the pause, 2...2 what comes after it.
    static let ways: [Way] = {
        func plain(_ name: String, _ order: @escaping @Sendable ([(String, [UInt8])]) -> [(String, [UInt8])] = { $0 })
            -> Way
        {
            Way(name: name, isExplicit: false) { spool, files, part in
                try write(spool, inbox + "/dog", order(files), part)
                spool.daemon.deliver(.changed(folder: .references, name: "dog"))
            }
        }
        func hidden(_ name: String, _ hiddenName: String, event: Bool = true) -> Way {
            Way(name: name, isExplicit: event) { spool, files, part in
                try write(spool, inbox + "/" + hiddenName, files, part)
                guard part.upperBound == files.count - 1 else { return }
                rename(spool.path(inbox + "/" + hiddenName), spool.path(inbox + "/dog"))
                if event { spool.daemon.deliver(.movedIn(folder: .references, name: "dog")) }
            }
        }
        return [
            Way(name: "mv from elsewhere on the disk", isExplicit: true) { spool, files, part in
                try write(spool, "staging", files, part)
                guard part.upperBound == files.count - 1 else { return }
                rename(spool.path("staging"), spool.path(inbox + "/dog"))
                spool.daemon.deliver(.movedIn(folder: .references, name: "dog"))
            },
            Way(name: "mv, with the event lost", isExplicit: false) { spool, files, part in
                try write(spool, "staging", files, part)
                guard part.upperBound == files.count - 1 else { return }
                rename(spool.path("staging"), spool.path(inbox + "/dog"))
            },
            hidden("cp -r to a dot-name, then mv", ".dog"), hidden("to *.part, then mv", "dog.part"),
            hidden("to *.partial, then mv", "dog.partial"), hidden("to *.filepart, then mv", "dog.filepart"),
            hidden("to *.tmp, then mv", "dog.tmp"), hidden("to *~, then mv", "dog~"),
            hidden("to a dot-name, then mv, with the event lost", ".dog2", event: false),
            Way(name: "cp -r, then .ready", isExplicit: true) { spool, files, part in
                try write(spool, inbox + "/dog", files, part)
                if part.upperBound == files.count - 1 { try Files.write([], spool.path(inbox + "/dog/.ready")) }
            },
            Way(name: "rsync, then .ready", isExplicit: true) { spool, files, part in
                for (name, bytes) in files[part] {
                    mkdir(spool.path(inbox + "/dog"), 0o755)
                    try Files.write(bytes, spool.path(inbox + "/dog/.\(name).Xy12"))
                    rename(spool.path(inbox + "/dog/.\(name).Xy12"), spool.path(inbox + "/dog/\(name)"))
                }
                if part.upperBound == files.count - 1 { try Files.write([], spool.path(inbox + "/dog/.ready")) }
            },
            plain("cp -r"), plain("scp -r, backwards") { $0.reversed() }, plain("tar x") { [$0[1], $0[0], $0[2]] },
            Way(name: "rsync", isExplicit: false) { spool, files, part in
                for (name, bytes) in files[part] {
                    mkdir(spool.path(inbox + "/dog"), 0o755)
                    try Files.write(bytes, spool.path(inbox + "/dog/.\(name).Xy12"))
                    rename(spool.path(inbox + "/dog/.\(name).Xy12"), spool.path(inbox + "/dog/\(name)"))
                }
            },
            Way(name: "rsync --inplace", isExplicit: false) { spool, files, part in
                try write(spool, inbox + "/dog", files, part)
                spool.daemon.deliver(.changed(folder: .references, name: "dog"))
            },
            Way(name: "a single image, moved in", isExplicit: true) { spool, files, part in
                guard part.upperBound == files.count - 1 else { return }
                try Files.write(files[0].1, spool.path("staged.png"))
                rename(spool.path("staged.png"), spool.path(inbox + "/dog.png"))
                spool.daemon.deliver(.movedIn(folder: .references, name: "dog.png"))
            },
            Way(name: "a single image, copied", isExplicit: false) { spool, files, part in
                let bytes = files[0].1
                try Files.write(
                    part.upperBound == files.count - 1 ? bytes : Array(bytes.dropLast(30)),
                    spool.path(inbox + "/dog.png"))
            },
            Way(name: "a single image, to a dot-name, then mv", isExplicit: true) { spool, files, part in
                try Files.write(
                    part.upperBound == files.count - 1 ? files[0].1 : Array(files[0].1.dropLast(9)),
                    spool.path(inbox + "/.dog.png"))
                guard part.upperBound == files.count - 1 else { return }
                rename(spool.path(inbox + "/.dog.png"), spool.path(inbox + "/dog.png"))
                spool.daemon.deliver(.movedIn(folder: .references, name: "dog.png"))
            },
            Way(name: "a file manager's copy with its litter", isExplicit: false) { spool, files, part in
                try write(spool, inbox + "/dog", files, part)
                try Files.write([0], spool.path(inbox + "/dog/.DS_Store"))
                try Files.write([0], spool.path(inbox + "/dog/Thumbs.db"))
            },
        ]
    }()

    private static func isTaken(_ spool: TestSpool) -> Bool { spool.names("lib/subjects") == ["dog.json"] }

    @Test(arguments: ways) func whole(_ way: Way) throws {
        let spool = try TestSpool { $0.rescanInterval = 5 }
        try spool.start()
        try way.drop(spool, Self.photos, 0...2)
        _ = try spool.daemon.turn()
        if way.isExplicit, !way.isOpen { #expect(Self.isTaken(spool)) }
        if !way.isExplicit { #expect(!Self.isTaken(spool), "taken before it had rested") }
        try spool.settle(turns: 20)
        #expect(Self.isTaken(spool))
        #expect(spool.exists("cache/dog.dcache"))
        #expect(spool.names("drop/references") == [])
    }

    /// The writer stops in the middle for longer than things take to settle, and goes on.
    @Test(arguments: ways) func paused(_ way: Way) throws {
        let spool = try TestSpool { $0.rescanInterval = 5 }
        try spool.start()
        // Plain ways pause in the middle of a file; between two files nothing could tell.
        var cut = Self.photos
        if way.isOpen { cut[1].1 = Array(cut[1].1.dropLast(2)) }
        try way.drop(spool, cut, 0...1)
        try spool.settle(turns: 25)
        #expect(!Self.isTaken(spool), "taken early")
        try way.drop(spool, Self.photos, 0...2)
        try spool.settle(turns: 25)
        #expect(Self.isTaken(spool))
        let digests = try spool.json("lib/references/\(try #require(spool.names("lib/references").first))/set.json")
        #expect(digests["files"]?.array?.count == (way.name.hasPrefix("a single") ? 1 : 3))
    }

    /// The writer never comes back.
    @Test(arguments: ways) func cutOff(_ way: Way) throws {
        let spool = try TestSpool { $0.rescanInterval = 5 }
        try spool.start()
        var cut = Self.photos
        if way.isOpen { cut[1].1 = Array(cut[1].1.dropLast(2)) }
        try way.drop(spool, cut, 0...1)
        try spool.settle(turns: 90)
        #expect(!Self.isTaken(spool))
        // What was only staged is not ours; what lies in the open is refused in the end, by name, and kept.
        let receipts = spool.names("receipts")
        if let name = receipts.first {
            let receipt = try spool.receipt(String(name.dropLast(5)))
            #expect(receipt.state == .rejected)
            #expect(receipt.message.contains("expected a whole image"))
            #expect(spool.exists(try #require(receipt.keptAt)))
        } else {
            #expect(way.isExplicit || way.name.contains("lost"))
        }
    }

    // The same three, with no daemon running while it happens: the start-up scan goes by the same rule.

    @Test(arguments: ways) func wholeWhileStopped(_ way: Way) throws {
        let spool = try TestSpool { $0.rescanInterval = 5 }
        try spool.start()
        spool.crash()
        try way.drop(spool, Self.photos, 0...2)
        spool.crash()
        try spool.start()
        _ = try spool.daemon.turn()
        #expect(Self.isTaken(spool) == way.name.hasSuffix(".ready"))
        try spool.settle(turns: 25)
        #expect(Self.isTaken(spool))
    }

    @Test(arguments: ways) func pausedWhileStopped(_ way: Way) throws {
        let spool = try TestSpool { $0.rescanInterval = 5 }
        try spool.start()
        spool.crash()
        var cut = Self.photos
        if way.isOpen { cut[1].1 = Array(cut[1].1.dropLast(2)) }
        try way.drop(spool, cut, 0...1)
        spool.crash()
        try spool.start()
        try spool.settle(turns: 25)
        #expect(!Self.isTaken(spool), "taken early")
        try way.drop(spool, Self.photos, 0...2)
        try spool.settle(turns: 25)
        #expect(Self.isTaken(spool))
    }

    @Test(arguments: ways) func cutOffWhileStopped(_ way: Way) throws {
        let spool = try TestSpool { $0.rescanInterval = 5 }
        try spool.start()
        spool.crash()
        var cut = Self.photos
        if way.isOpen { cut[1].1 = Array(cut[1].1.dropLast(2)) }
        try way.drop(spool, cut, 0...1)
        spool.crash()
        try spool.start()
        try spool.settle(turns: 90)
        #expect(!Self.isTaken(spool))
    }

    // MARK: - Manifests

    @Test func aManifestWrittenSlowlyIsTakenWhenItIsWhole() throws {
        let spool = try TestSpool()
        try spool.start()
        let text = #"{"subject": "dog", "prompt": "x"}"#
        try spool.dropManifest(String(text.dropLast(5)))
        try spool.settle(turns: 30)
        #expect(spool.names("receipts").isEmpty)
        try spool.dropManifest(text)
        _ = try spool.daemon.turn()
        #expect(try spool.receipt("job.json").state == .waiting)
    }

    @Test func aManifestCutOffForGoodIsRefusedAfterAMinute() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(#"{"subject": "dog", "#)
        try spool.settle(turns: 55)
        #expect(spool.names("receipts").isEmpty)
        try spool.settle(turns: 20)
        let receipt = try spool.receipt("job.json")
        #expect(receipt.state == .rejected)
        #expect(receipt.message.contains("the end of the file"))
    }

    @Test func reservedSpaceCountsAsUnfinished() throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropManifest(#"{"subject": "do"# + String(repeating: "\0", count: 20))
        try spool.settle(turns: 20)
        #expect(spool.names("receipts").isEmpty)
    }

    /// What stands before a zero byte is no reserved space: text in another encoding and a picture called a manifest are
    /// refused as soon as they are seen.
    @Test(
        arguments: [
            ([0xFF, 0xFE] + Array(#"{"subject": "dog"}"#.utf8).flatMap { [$0, 0] }, "a text in UTF-16"),
            (Array(#"{"subject": "dog"}"#.utf8).flatMap { [0, $0] }, "a text in UTF-16"),
            (Array(#"{"subject": "dog"}"#.utf8).flatMap { [$0, 0, 0, 0] }, "a text in UTF-32"),
            (Pictures.png(), "the byte 0x89"), (Array(#"{"subject": dog}"#.utf8) + [0, 0, 0, 0], "'d'"),
        ] as [([UInt8], String)])
    func whatNoFurtherByteMendsIsRefusedAtOnce(_ bytes: [UInt8], _ found: String) throws {
        let spool = try TestSpool()
        try spool.start()
        try Files.write(bytes, spool.path("drop/jobs/job.json"))
        spool.daemon.deliver(.changed(folder: .jobs, name: "job.json"))
        _ = try spool.daemon.turn()
        let receipt = try spool.receipt("job.json")
        #expect(receipt.state == .rejected)
        #expect(receipt.message.contains("found \(found)"), "\(receipt.message)")
    }

    // MARK: - Permissions; root has them all

    @Test(.enabled(if: getuid() != 0, "permissions do not hold for root"))
    func whatTheDaemonMayNotReadIsRefusedAndKept() throws {
        let spool = try TestSpool { $0.rescanInterval = 5 }
        try spool.start()
        try spool.dropManifest(#"{"subject": "dog", "prompt": "x"}"#)
        chmod(spool.path("drop/jobs/job.json"), 0)
        try spool.dropReferences("dog", ["a.png": Pictures.png()])
        chmod(spool.path("drop/references/dog/a.png"), 0)
        try spool.dropReferences("cat", ["a.png": Pictures.png()])
        chmod(spool.path("drop/references/cat"), 0)
        try spool.settle(turns: 80)
        for drop in ["job.json", "dog", "cat"] {
            let receipt = try spool.receipt(drop)
            #expect(receipt.state == .rejected)
            #expect(receipt.message.contains("cannot be read"), "\(receipt.message)")
        }
        #expect(spool.exists(try #require(try spool.receipt("job.json").keptAt)))
        for folder in ["lib/rejected", "drop/references"] {
            for name in spool.names(folder) { chmod(spool.path(folder + "/" + name), 0o755) }
        }
    }

    @Test(.enabled(if: getuid() != 0, "permissions do not hold for root"))
    func aFolderTheDaemonMayNotEmptyIsTakenAndSetAside() throws {
        let spool = try TestSpool { $0.rescanInterval = 5 }
        try spool.start()
        try spool.dropReferences("dog")
        chmod(spool.path("drop/references/dog"), 0o555)
        try spool.settle(turns: 30)
        #expect(try spool.receipt("dog").state == .accepted)
        #expect(spool.exists("cache/dog.dcache"))
        // It is not taken a second time.
        #expect(try spool.json("lib/subjects/dog.json")["generations"]?.array?.count == 1)
        #expect(spool.names("drop/references").allSatisfy { $0.hasPrefix(".kept~") })
        for name in spool.names("drop/references") { chmod(spool.path("drop/references/" + name), 0o755) }
    }
}
