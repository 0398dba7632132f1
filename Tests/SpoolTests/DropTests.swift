import Glibc
import Spool
import Synchronization
import Testing

/// The drop rules: every way of dropping, whole, cut off and paused; and everything hostile that can lie in a folder.
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

    @Test func thereAreTwentyWays() { #expect(Self.ways.count == 20) }

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

    // MARK: - Hostile drops

    struct Hostile: Sendable, CustomStringConvertible {
        let description: String
        /// The dropped name as receipts write it, and part of the reason expected.
        let key: String, reason: String
        let make: @Sendable (_ root: String) throws -> Void
    }

    /// A secret outside of the drop folders; nothing may read, move or change it.
    static let secret = "secret.json"

    static let names: [(raw: [UInt8], key: String)] = [
        (Array("a b".utf8), "a%20b"), (Array("-rf".utf8), "-rf"), (Array("_x".utf8), "_x"), ([0xFF, 0xFE], "%FF%FE"),
        (Array("a\nb".utf8), "a%0Ab"), (Array("ä".utf8), "%C3%A4"), (Array("$(id)".utf8), "%24%28id%29"),
        (Array("a;b".utf8), "a%3Bb"),
        (Array("a'b".utf8), "a%27b"), (Array("*".utf8), "%2A"), (Array("a\\b".utf8), "a%5Cb"),
        (Array("%2e%2e".utf8), "%252e%252e"),
        (Array("a\u{202E}b".utf8), "a%E2%80%AEb"), (Array("\u{1B}[2J".utf8), "%1B%5B2J"),
        (Array(repeating: UInt8(ascii: "x"), count: 65), String(repeating: "x", count: 65)),
        (Array(" ".utf8), "%20"), (Array("a:b".utf8), "a%3Ab"), (Array("|".utf8), "%7C"), (Array("&".utf8), "%26"),
        (Array("\t".utf8), "%09"),
    ]

    static func raw(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> Void) {
        (name.map { CChar(bitPattern: $0) } + [0]).withUnsafeBufferPointer { buffer in buffer.baseAddress.map(body) }
    }

    static let hostile: [Hostile] = {
        var all: [Hostile] = []
        for (name, key) in names {
            all.append(
                Hostile(description: "folder \(key)", key: key, reason: "expected a name of 1 to 64") { root in
                    raw(Array("\(root)/drop/references/".utf8) + name) { mkdir($0, 0o755) }
                })
            all.append(
                Hostile(description: "manifest \(key)", key: key + ".json", reason: "expected a name of 1 to 64") {
                    root in
                    raw(Array("\(root)/drop/jobs/".utf8) + name + Array(".json".utf8)) {
                        close(open($0, O_CREAT | O_WRONLY, 0o644))
                    }
                })
        }
        func file(
            _ what: String, _ reason: String,
            _ make: @escaping @Sendable (_ path: String, _ root: String) throws -> Void
        ) {
            all.append(
                Hostile(description: "\(what) as manifest", key: "x.json", reason: reason) {
                    try make($0 + "/drop/jobs/x.json", $0)
                })
            all.append(
                Hostile(description: "\(what) as image", key: "x.png", reason: reason) {
                    try make($0 + "/drop/references/x.png", $0)
                })
            all.append(
                Hostile(description: "\(what) in a folder", key: "x", reason: reason) { root in
                    mkdir(root + "/drop/references/x", 0o755)
                    try Files.write(Pictures.png(), root + "/drop/references/x/a.png")
                    try make(root + "/drop/references/x/b.png", root)
                    try Files.write([], root + "/drop/references/x/.ready")
                })
        }
        file("a link to a secret", "a symbolic link") { path, root in symlink(root + "/" + secret, path) }
        file("a link to /etc/passwd", "a symbolic link") { path, _ in symlink("/etc/passwd", path) }
        file("a link to a device", "a symbolic link") { path, _ in symlink("/dev/zero", path) }
        file("a link to itself", "a symbolic link") { path, _ in symlink(path, path) }
        file("a dangling link", "a symbolic link") { path, _ in symlink("/nonexistent", path) }
        file("a link upwards", "a symbolic link") { path, _ in symlink("../../lib/lock", path) }
        file("a pipe", "a pipe, socket or device") { path, _ in mkfifo(path, 0o644) }
        file("a hard link to a secret", "hard links") { path, root in link(root + "/" + secret, path) }
        file("a device", "a pipe, socket or device") { path, _ in
            if mknod(path, S_IFCHR | 0o644, 0x103) != 0 { mkfifo(path, 0o644) }
        }
        file("a socket", "a pipe, socket or device") { path, _ in
            if mknod(path, S_IFSOCK | 0o644, 0) != 0 { mkfifo(path, 0o644) }
        }
        file("an endless file", "at most") { path, _ in
            let descriptor = open(path, O_CREAT | O_WRONLY, 0o644)
            ftruncate(descriptor, 1 << 40)
            close(descriptor)
        }
        func image(_ what: String, _ reason: String, _ bytes: [UInt8]) {
            for (place, key) in [("x.png", "x.png"), ("x/b.png", "x")] {
                all.append(
                    Hostile(description: "\(what) at \(place)", key: key, reason: reason) { root in
                        if place != "x.png" {
                            mkdir(root + "/drop/references/x", 0o755)
                            try Files.write([], root + "/drop/references/x/.ready")
                        }
                        try Files.write(bytes, root + "/drop/references/" + place)
                    })
            }
        }
        func huge(_ width: [UInt8], _ height: [UInt8]) -> [UInt8] {
            var bytes = Pictures.png()
            bytes.replaceSubrange(16..<24, with: width + height)
            return bytes
        }
        image("a PNG of 2^31 pixels a side", "pixels", huge([0x7F, 0xFF, 0xFF, 0xFF], [0x7F, 0xFF, 0xFF, 0xFF]))
        image("a PNG of 2^32 - 1 pixels a side", "pixels", huge([0xFF, 0xFF, 0xFF, 0xFF], [0xFF, 0xFF, 0xFF, 0xFF]))
        image("a PNG of no width", "at least one pixel", huge([0, 0, 0, 0], [0, 0, 0, 1]))
        image("a PNG of 201 megapixels", "200000000 pixels", huge([0, 0, 0x3F, 0x00], [0, 0, 0x31, 0xE0]))
        image("a PNG without IHDR", "IHDR", Array(Pictures.png().prefix(8)) + Array(Pictures.png().suffix(12)))
        image(
            "a PNG with an endless chunk", "whole image",
            Array(Pictures.png().prefix(33)) + [0x7F, 0xFF, 0xFF, 0xFF, 0x49, 0x44, 0x41, 0x54, 0, 0, 0, 0])
        image(
            "a PNG with a chunk of 4 GiB", "PNG chunk",
            Array(Pictures.png().prefix(33)) + [0xFF, 0xFF, 0xFF, 0xFF, 0x49, 0x44, 0x41, 0x54, 0, 0, 0, 0])
        image("a JPEG with an empty segment", "JPEG segment", [0xFF, 0xD8, 0xFF, 0xE0, 0, 0])
        image("a JPEG that is only its ends", "without a frame", [0xFF, 0xD8, 0xFF, 0xD9])
        image("a JPEG of fill bytes", "whole image", [0xFF, 0xD8] + Array(repeating: 0xFF, count: 1000))
        image("a WebP that is cut off", "whole image", Array("RIFF0000WEBPVP8 ".utf8))
        image("a zip archive", "zip", Array("PK\u{3}\u{4}".utf8) + Array(repeating: 0, count: 60))
        image("a GIF", "GIF", Array("GIF89a".utf8) + Array(repeating: 0, count: 60))
        image("text", "begins with", Array("hello, world".utf8))
        image("an HTML page", "begins with", Array("<html></html>".utf8))
        func text(_ what: String, _ reason: String, _ text: @escaping @Sendable () -> String) {
            all.append(
                Hostile(description: what, key: "x.json", reason: reason) {
                    try Files.write(Array(text().utf8), $0 + "/drop/jobs/x.json")
                })
        }
        text("a JSON bomb of depth", "nesting") {
            String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)
        }
        text("a JSON bomb of objects", "nesting") { String(repeating: #"{"a":"#, count: 50_000) }
        text("a wide array", "an object") { "[" + String(repeating: "0,", count: 200_000) + "0]" }
        text("a long key", "unknown member") { "{\"\(String(repeating: "k", count: 500_000))\": 1}" }
        text("a long number", "a finite number") { "{\"seed\": \(String(repeating: "9", count: 100_000))}" }
        text("more than a mebibyte", "at most 1048576") { String(repeating: " ", count: 1_100_000) }
        for field in ["subject", "model"] {
            for value in [
                "../../etc/passwd", "/etc/passwd", "..", ".", "a/b", ".hidden", "a\\u0000b", "~root", "a b",
                "%2e%2e%2f", "",
            ] {
                text("\(field) \(value)", "$.\(field)") {
                    field == "subject"
                        ? #"{"subject": "\#(value)", "prompt": "x"}"#
                        : #"{"subject": "dog", "prompt": "x", "model": "\#(value)"}"#
                }
            }
        }
        for value in ["../a.png", "/etc/passwd", "a/../../b", ".x", "a\\u0000"] {
            text("reference \(value)", "$.subject.references[0]") {
                #"{"subject": {"name": "dog", "references": ["\#(value)"]}, "prompt": "x"}"#
            }
        }
        text("a prototype", "unknown member") { #"{"__proto__": {}, "subject": "dog", "prompt": "x"}"# }
        text("a second key", "a second member") { #"{"subject": "dog", "subject": "cat", "prompt": "x"}"# }
        text("escaped twins", "a second member") { #"{"subject": "dog", "\u0073ubject": "cat", "prompt": "x"}"# }
        for text0 in ["NaN", "Infinity", "-Infinity", "0x10", "1_000", ".5", "5.", "1e", "'7'", "\u{0}"] {
            text("number \(text0)", "expected") { #"{"subject": "dog", "prompt": "x", "eta": \#(text0)}"# }
        }
        all.append(
            Hostile(description: "a folder as manifest", key: "x.json", reason: "a folder") {
                mkdir($0 + "/drop/jobs/x.json", 0o755)
            })
        all.append(
            Hostile(description: "a stray text file", key: "x.txt", reason: "expected a manifest") {
                try Files.write([1], $0 + "/drop/jobs/x.txt")
            })
        all.append(
            Hostile(description: "a stray folder", key: "x", reason: "expected a manifest") {
                mkdir($0 + "/drop/jobs/x", 0o755)
            })
        all.append(
            Hostile(description: "a cancellation of nothing", key: "none.cancel", reason: "found no job none") {
                try Files.write([], $0 + "/drop/jobs/none.cancel")
            })
        all.append(
            Hostile(description: "a retry of nothing", key: "none.retry", reason: "found no job none") {
                try Files.write([], $0 + "/drop/jobs/none.retry")
            })
        all.append(
            Hostile(description: "a claim that is none", key: "x.json", reason: "$") { root in
                try Files.write(Array("{".utf8), root + "/drop/jobs/.claim~..~y.json")
                try Files.write(Array("[]".utf8), root + "/drop/jobs/x.json")
            })
        all.append(
            Hostile(description: "an empty folder", key: "x", reason: "no picture") { root in
                mkdir(root + "/drop/references/x", 0o755)
            })
        all.append(
            Hostile(description: "a folder of folders", key: "x", reason: "no picture") { root in
                mkdir(root + "/drop/references/x", 0o755)
                mkdir(root + "/drop/references/x/y", 0o755)
                try Files.write(Pictures.png(), root + "/drop/references/x/y/a.png")
            })
        all.append(
            Hostile(description: "too many files", key: "x", reason: "found 201 files, expected at most 200") { root in
                mkdir(root + "/drop/references/x", 0o755)
                for index in 0..<201 { try Files.write(Pictures.png(), root + "/drop/references/x/\(index).png") }
            })
        all.append(
            Hostile(description: "a subject called like a manifest", key: "dog.json", reason: "not ending in .json") {
                root in
                mkdir(root + "/drop/references/dog.json", 0o755)
            })
        return all
    }()

    @Test func hostileDropsAreRefusedWithTheirReasonAndNothingEscapes() async throws {
        #expect(Self.hostile.count >= 100)
        // Each is met live, and again by a daemon that starts on it.
        let cases = Self.hostile.flatMap { [($0, true), ($0, false)] }
        let found = await CampaignTests.each(cases) { hostile, isLive in
            let spool = try TestSpool { $0.rescanInterval = 5 }
            let secret = Array(#"{"subject": "dog", "prompt": "secret"}"#.utf8)
            try Files.write(secret, spool.path(Self.secret))
            try spool.start()
            if !isLive { spool.crash() }
            try hostile.make(spool.root)
            if !isLive { try spool.start() }
            try spool.settle(turns: 80)
            var faults: [String] = []
            if let receipt = try? spool.receipt(hostile.key) {
                if receipt.state != .rejected { faults.append("accepted") }
                let reasons = [receipt.message] + receipt.faults.map(\.description)
                if !reasons.contains(where: { $0.contains(hostile.reason) }) {
                    faults.append("the reason is: \(receipt.message)")
                }
                if !spool.exists(receipt.keptAt ?? "nowhere") {
                    faults.append("not kept at \(receipt.keptAt ?? "nowhere")")
                }
            } else {
                faults.append("no receipt; there are \(spool.names("receipts"))")
            }
            if try spool.read(Self.secret) != secret { faults.append("the secret was touched") }
            if !spool.names("lib/jobs/queued").isEmpty || !spool.names("lib/references").isEmpty {
                faults.append("something was taken")
            }
            // It goes on taking what is good.
            try spool.dropReferences("good")
            try spool.dropManifest(#"{"subject": "good", "prompt": "x"}"#, "good.json")
            try spool.settle(turns: 8)
            if spool.names("out").count != 1 { faults.append("the daemon did not go on") }
            return faults
        }
        print("campaign hostile: \(cases.count) drops, \(found.count) faults")
        #expect(found.prefix(10) == [])
    }

    /// The dropper swaps what the daemon has claimed, at every moment of its reading.
    @Test func swapsWhileReadingLeadNowhere() async throws {
        let swaps = Mutex(0)
        let found = await CampaignTests.each(Array(0..<120)) { moment in
            let root = Files.temporaryFolder()
            defer { Files.remove(root) }
            let secret = Pictures.png(payload: [66, 66, 66])
            try Files.write(secret, root + "/secret.png")
            let count = Mutex(0)
            let isLink = moment % 2 == 0
            let gate = SystemGate { call in
                guard !call.isMutating,
                    count.withLock({
                        $0 += 1; return $0
                    }) == moment + 40
                else { return .proceed }
                for claim in Files.names(root + "/drop/references") where claim.hasPrefix(".claim~") || claim == "dog" {
                    let folder = root + "/drop/references/" + claim
                    swaps.withLock { $0 += 1 }
                    if isLink {
                        unlink(folder + "/a.png")
                        symlink(root + "/secret.png", folder + "/a.png")
                    } else {
                        rename(folder, root + "/taken")
                        mkdir(root + "/trap", 0o755)
                        try? Files.write(secret, root + "/trap/a.png")
                        symlink(root + "/trap", folder)
                    }
                }
                return .proceed
            }
            let spool = try TestSpool(root: root, gate: gate) { $0.rescanInterval = 5 }
            try spool.start()
            try spool.dropReferences("dog", ["a.png": Pictures.png(), "b.png": Pictures.png(payload: [7])])
            try spool.settle(turns: 20)
            var faults: [String] = []
            for set in spool.names("lib/references") {
                for name in spool.names("lib/references/" + set)
                where try spool.read("lib/references/\(set)/\(name)") == secret {
                    faults.append("the secret was ingested")
                }
            }
            if try Files.read(root + "/secret.png") != secret { faults.append("the secret was touched") }
            if !isLink, Files.exists(root + "/trap"), try Files.read(root + "/trap/a.png") != secret {
                faults.append("a file behind the link was removed")
            }
            return faults
        }
        print("campaign swaps: \(swaps.withLock { $0 }) swaps, \(found.count) faults")
        #expect(found == [])
    }
}
