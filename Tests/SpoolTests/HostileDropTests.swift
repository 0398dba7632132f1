import Glibc
import Spool
import Synchronization
import Testing

/// Everything hostile that can lie in a drop folder is refused with its reason, and nothing escapes.
@Suite struct HostileDropTests {
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
