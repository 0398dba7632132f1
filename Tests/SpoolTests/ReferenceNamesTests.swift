import Glibc
import Testing

@testable import Spool

/// Which files are pictures, which are masks, and under what names they are stored.
@Suite struct ReferenceNamesTests {
    private func names(_ texts: String...) -> [SpoolPath.Name] { texts.compactMap { SpoolPath.Name($0) } }

    private func stored(_ entries: [ReferenceNames.Entry]) -> [String] { entries.map(\.stored) }

    @Test func plainNamesStay() {
        let entries = ReferenceNames(names("b.JPG", "a.png", "a_mask.png", ".ready", "Thumbs.db")).entries
        #expect(stored(entries) == ["a.png", "a_mask.png", "b.JPG"])
        #expect(entries.map(\.role) == [.picture, .mask(of: "a.png"), .picture])
    }

    static let odd: [[String]] = [
        ["WhatsApp Image 2024-03-05 at 14.33.21 (1).jpeg", "WhatsApp Image 2024-03-05 at 14.33.21 (2).jpeg"],
        ["Фотография 1.jpg", "Фотография 2.jpg"], ["照片.jpg", "圖片.jpg"], ["é.jpg", "e\u{301}.jpg"],
        ["a b.jpg", "a_b.jpg", "a%20b.jpg", "a-b.jpg"], ["IMG.jpg", "img.jpg", "IMG.JPG"],
        [String(repeating: "x", count: 240) + " (1).jpg", String(repeating: "x", count: 240) + " (2).jpg"],
        ["\u{1B}[2J.jpg", "[2J.jpg"], ["-rf.png", "rf.png"], ["photo", "photo.png"],
    ]

    @Test(arguments: odd) func noTwoNamesCollide(_ given: [String]) {
        let entries = ReferenceNames(given.compactMap { SpoolPath.Name($0) }).entries
        #expect(entries.allSatisfy { $0.role == .picture && DropName.isPlain($0.stored) }, "\(entries)")
        #expect(Set(stored(entries)).count == given.count, "\(entries)")
        // The same names make the same set, whatever lies beside them.
        let again = ReferenceNames(given.compactMap { SpoolPath.Name($0) } + names("z.png")).entries
        #expect(Set(stored(entries)).isSubset(of: stored(again)))
    }

    @Test func bytesThatAreNotUTF8() throws {
        let raw = [[0x63, 0xE9], [0x63, 0xEA]].compactMap { SpoolPath.Name(bytes: $0 + Array(".png".utf8)) }
        let entries = ReferenceNames(raw).entries
        #expect(Set(stored(entries)).count == 2)
        #expect(entries.map(\.original.printable) == ["c\\xE9.png", "c\\xEA.png"])
    }

    /// A stored name that somebody has guessed is not given twice.
    @Test func aGuessedNameDoesNotCollide() throws {
        let made = try #require(ReferenceNames(names("a b.jpg")).entries.first).stored
        let entries = ReferenceNames(names("a b.jpg") + [try #require(SpoolPath.Name(made))]).entries
        #expect(Set(stored(entries)).count == 2)
        #expect(stored(entries).contains(made))
    }

    static let masks: [(picture: String, mask: String)] = [
        ("photo.JPG", "photo_mask.PNG"), ("a.jpg", "A_MASK.png"), ("a.jpg", "a_mask.jpeg"), ("a.heic", "a_mask.webp"),
        ("Фото 1.jpg", "ФОТО 1_mask.png"), ("é.jpg", "e\u{301}_mask.png"),
        ("photo.of.cat.jpg", "photo.of.cat_mask.png"),
        (
            "WhatsApp Image 2024-03-05 at 14.33.21_a1b2c3d4e5f60718.jpg",
            "WhatsApp Image 2024-03-05 at 14.33.21_a1b2c3d4e5f60718_mask.png"
        ),
        (String(repeating: "n", count: 59) + ".jpg", String(repeating: "n", count: 59) + "_mask.png"),
    ]

    @Test(arguments: masks) func aMaskIsFoundByTheNamesGiven(_ pair: (picture: String, mask: String)) throws {
        let entries = ReferenceNames(names(pair.picture, pair.mask, "another.png")).entries
        let picture = try #require(entries.first { $0.original.string == pair.picture })
        let mask = try #require(entries.first { $0.original.string == pair.mask })
        #expect(mask.role == .mask(of: picture.stored))
        #expect(mask.stored == ReferenceNames.maskName(of: picture.stored))
        #expect(DropName.isPlain(mask.stored))
    }

    @Test func theNameThatFitsBestCounts() throws {
        let entries = ReferenceNames(names("a.jpg", "A.jpg", "a_mask.png", "A_mask.png", "a.txt")).entries
        for entry in entries where entry.original.string.hasSuffix("_mask.png") {
            #expect(entry.role == .mask(of: entry.original.string.first == "a" ? "a.jpg" : "A.jpg"))
        }
        // A file that turns out to be a picture after all is not reached by a mask of another.
        #expect(entries.first { $0.original.string == "a.txt" }?.stored.hasPrefix("a-") == true)
    }

    static let misfits: [([String], String)] = [
        (["b.png", "a_mask.png"], "no picture 'a'"),
        (["a.jpg", "a.png", "a_mask.png"], "a mask of a.jpg and of a.png"),
        (["a.jpg", "a_mask.jpg", "a_mask.png"], "a second mask of a.jpg"), (["gas_mask.jpg"], "no picture 'gas'"),
        (["A.jpg", "aa.jpg", "a\u{1B}_mask.jpg"], "no picture 'a\\u{1B}'"),
        (["a.jpg", "a-mask.png"], "a mask of a.jpg"), (["a.jpg", "A mask.PNG"], "a mask of a.jpg"),
        (["a.jpg", "a.jpg.mask.png"], "a mask of a.jpg"), (["a.jpg", "a_mask (1).png"], "a mask of a.jpg"),
        (["a.jpg", "a_masks.png"], "a mask of a.jpg"), (["a.jpg", "mask_a.png"], "a mask of a.jpg"),
        (["a.jpg", "a_alpha.png"], "a mask of a.jpg"), (["a.jpg", "a_mask.png.png"], "a mask of a.jpg"),
    ]

    @Test(arguments: misfits) func aMaskOfNoneIsSaidSo(_ given: [String], _ reason: String) throws {
        let found = ReferenceNames(given.compactMap { SpoolPath.Name($0) }).entries.compactMap { entry -> String? in
            if case .misfit(let found, _) = entry.role { found } else { nil }
        }
        #expect(found.count == 1)
        #expect(found.first?.contains(reason) == true, "\(found)")
    }

    /// A photo of a mask is a photo.
    @Test func wordsInAPhotosNameDoNoHarm() throws {
        let given = [
            "gas mask.jpg", "mask (1).jpg", "b.png", "alpha.png", "mask-of-clay.png", "note-mask.txt", "note.jpg",
        ]
        #expect(ReferenceNames(given.compactMap { SpoolPath.Name($0) }).entries.allSatisfy { $0.role == .picture })
    }

    @Test func setsOfEarlierVersionsAreRead() throws {
        func set(_ names: [String]) throws -> ReferenceSet {
            let files = names.map { "{\"name\": \"\($0)\", \"sha256\": \"0\", \"bytes\": 1}" }.joined(separator: ", ")
            return try #require(ReferenceSet(try JSONReader.read(Array("{\"files\": [\(files)]}".utf8))))
        }
        let old = try set(["a.jpg", "a_mask.png", "b_mask.png"])
        #expect(old.images.map(\.name) == ["a.jpg", "b_mask.png"])
        #expect(old.files[1].maskOf == "a.jpg")
        // What is written now says it, and reads back; the digest does not depend on it.
        let new = ReferenceSet(files: [
            .init(name: "a.jpg", sha256: "0", bytes: 1),
            .init(name: "a_mask.png", sha256: "0", bytes: 1, original: "A MASK.PNG", maskOf: "a.jpg"),
        ])
        #expect(ReferenceSet(new.json) == new)
        #expect(new.digest == (try set(["a.jpg", "a_mask.png"]).digest))
        #expect(new.original(of: "a_mask.png") == "A MASK.PNG")
    }
}

/// The same, dropped.
@Suite struct DroppedNamesTests {
    private func drop(_ files: [(String, [UInt8])]) throws -> (TestSpool, Receipt, JSON?) {
        let spool = try TestSpool()
        try spool.start()
        mkdir(spool.path("drop/references/dog"), 0o755)
        for (name, bytes) in files { try Files.write(bytes, spool.path("drop/references/dog/" + name)) }
        try Files.write([], spool.path("drop/references/dog/.ready"))
        try spool.settle()
        let set = try spool.names("lib/references").first.map { try spool.json("lib/references/\($0)/set.json") }
        return (spool, try spool.receipt("dog"), set)
    }

    private func pictures(_ set: JSON?) -> [String] {
        (set?["files"]?.array ?? []).filter { $0["mask_of"] == nil }.compactMap {
            $0["original"]?.string ?? $0["name"]?.string
        }
    }

    @Test(arguments: ReferenceNamesTests.odd) func eachStandsForOneReference(_ names: [String]) throws {
        let (_, receipt, set) = try drop(names.map { ($0, Pictures.png()) })
        #expect(receipt.state == .accepted, "\(receipt.message)")
        #expect(Set(pictures(set).map { Array($0.utf8) }) == Set(names.map { Array($0.utf8) }))
    }

    @Test(arguments: ReferenceNamesTests.masks)
    func aMaskIsNoReference(_ pair: (picture: String, mask: String)) throws {
        let (_, receipt, set) = try drop([(pair.picture, Pictures.png()), (pair.mask, Pictures.png())])
        #expect(receipt.state == .accepted, "\(receipt.message)")
        #expect(pictures(set) == [pair.picture])
    }

    @Test func whatLooksLikeAMaskIsRefusedByName() throws {
        let (_, orphan, _) = try drop([("b.png", Pictures.png()), ("x y_mask.png", Pictures.png())])
        #expect(orphan.state == .rejected)
        #expect(orphan.message.hasPrefix("x y_mask.png: found the name of a mask, and no picture 'x y'"))
        // Beside a text alone it has no picture either.
        let (_, text, _) = try drop([("a.txt", [1]), ("a_mask.png", Pictures.png()), ("b.png", Pictures.png())])
        #expect(text.state == .rejected)
        #expect(text.message.contains("no picture 'a'"))
    }

    @Test func theReceiptShowsNamesAsTheyWereWritten() throws {
        let (_, receipt, _) = try drop([("Фото 1.png", Pictures.png()), ("за\u{1B}[2Jметка.txt", [1])])
        #expect(receipt.state == .accepted)
        #expect(receipt.message.isEmpty == false && !receipt.message.contains("\u{1B}"))
        let (_, refused, _) = try drop([("Фото \u{202E}1.heic", Array("PK\u{3}\u{4}".utf8))])
        #expect(refused.message.hasPrefix("Фото \\u{202E}1.heic: found a zip archive"))
    }

    @Test(arguments: [("IMG 0001.jpg", "IMG-0001-"), ("Фотография 1.jpg", "1-"), ("照片.jpg", "picture-")])
    func aSinglePictureGivesItsSubjectAPlainName(_ name: String, _ beginning: String) throws {
        let spool = try TestSpool()
        try spool.start()
        try Files.write(Pictures.png(), spool.path("drop/references/" + name))
        try spool.settle()
        let key = DropName.key(try #require(SpoolPath.Name(name)))
        let receipt = try spool.receipt(key)
        #expect(receipt.state == .accepted, "\(receipt.message)")
        let subject = try #require(receipt.subject)
        #expect(subject.hasPrefix(beginning) && DropName.isPlain(subject))
        #expect(spool.names("lib/subjects") == [subject + ".json"])
    }

    @Test(arguments: [("Мой кот", "subject"), ("my cat!", "my-cat"), ("\u{1B}[2J", "2J")])
    func aFolderIsRefusedWithASuggestion(_ name: String, _ suggestion: String) throws {
        let spool = try TestSpool()
        try spool.start()
        try spool.dropReferences(name)
        try spool.settle()
        let receipt = try spool.receipt(DropName.key(try #require(SpoolPath.Name(name))))
        #expect(receipt.state == .rejected)
        #expect(receipt.message.hasPrefix("found the name '\(name.printable)'"))
        #expect(receipt.message.hasSuffix("for instance '\(suggestion)'"))
    }
}

@Suite struct PrintableTextTests {
    @Test(arguments: [
        ("plain Фото 照片 é", "plain Фото 照片 é"), ("a\u{1B}[2Jb", "a\\u{1B}[2Jb"), ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("a\u{202E}b\u{2066}c\u{200F}", "a\\u{202E}b\\u{2066}c\\u{200F}"), ("\u{9B}31m\u{7F}", "\\u{9B}31m\\u{7F}"),
        ("a\u{2028}b\u{FEFF}", "a\\u{2028}b\\u{FEFF}"), ("👩\u{200D}🚀", "👩\u{200D}🚀"), ("a\r\nb", "a\\r\\nb"),
    ])
    func whatATerminalActsUponIsEscaped(_ text: String, _ shown: String) {
        #expect(text.printable == shown)
        #expect(text.printable.printable == shown)
    }

    @Test func linesStay() { #expect("a\u{1B}\nb".printableLines == "a\\u{1B}\nb") }

    @Test func bytesThatAreNotUTF8AreShown() {
        #expect(SpoolPath.Name(bytes: [0x63, 0xC3, 0xA9, 0xE9, 0x0A])?.printable == "cé\\xE9\\n")
    }
}
