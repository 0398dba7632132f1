import Checkpoint
import Foundation
import Golden
import Raster
import Testing

/// What the command line does with files: their names, their kinds, and what stands at the target already.
@Suite struct FileTests {
    private static let adapter = Golden.path("cross_attention-199999.pt")

    /// A picture of one colour.
    private static func picture(_ red: UInt8 = 200) throws -> Data {
        Data(try Raster(width: 64, height: 64, color: (red, 30, 40)).encodedPNG())
    }

    /// A square, white or black, on nothing.
    private static func mask(isWhite: Bool = true) throws -> Data {
        let value: UInt8 = isWhite ? 255 : 0
        let pixels = (0..<64 * 64).flatMap { i -> [UInt8] in
            let isInside = (16..<48).contains(i % 64) && (16..<48).contains(i / 64)
            return [value, value, value, isInside ? 255 : 0]
        }
        return Data(try Raster(width: 64, height: 64, channels: 4, pixels: pixels).encodedPNG())
    }

    private func make(_ place: Workplace, _ folder: String, _ files: [String: Data]) throws -> String {
        try FileManager.default.createDirectory(atPath: place.path(folder), withIntermediateDirectories: true)
        for (name, data) in files { try data.write(to: place.folder.appendingPathComponent(folder + "/" + name)) }
        return place.path(folder)
    }

    private func data(_ place: Workplace, _ name: String) throws -> Data {
        try Data(contentsOf: place.folder.appendingPathComponent(name))
    }

    /// The hashes of the references in a cache, and the features themselves.
    private func features(_ place: Workplace, _ name: String) throws -> [String: [Float]] {
        try Checkpoint.open(place.path(name)).tensors.mapValues { $0.floats() }
    }

    // MARK: - Writers

    /// Finding 3.
    @Test func anAdapterIsConvertedOntoItself() throws {
        let place = try Workplace()
        try FileManager.default.copyItem(atPath: Self.adapter, toPath: place.path("a.pt"))
        let result = try Workplace.run(
            Workplace.programs.appendingPathComponent("dreamcache").path,
            ["convert", place.path("a.pt"), place.path("a.pt")])
        #expect(result.status == 0, "\(result.errors)")
        let (before, after) = (try Checkpoint.open(Self.adapter), try Checkpoint.open(place.path("a.pt")))
        for (name, tensor) in before.tensors { #expect(after.tensors[name]?.floats() == tensor.floats(), "\(name)") }
    }

    /// Finding 12.
    @Test func theTypeCountsForEveryFormat() throws {
        let place = try Workplace()
        let result = try Workplace.run(
            Workplace.programs.appendingPathComponent("dreamcache").path,
            ["convert", Self.adapter, place.path("b.pt"), "--type", "BF16"])
        #expect(result.status == 0, "\(result.errors)")
        #expect(try Checkpoint.open(place.path("b.pt")).tensors.values.allSatisfy { $0.elementType == .bf16 })
    }

    /// Finding 26: the shapes are those of a checkpoint that the authors' code has written.
    @Test func aRandomModelHasThePublishedShapes() throws {
        let place = try Workplace()
        let made = try Workplace.run(
            Workplace.programs.appendingPathComponent("dreamcache").path, ["random-model", place.path("model")])
        #expect(made.status == 0, "\(made.errors)")
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: place.path("model")).sorted() == [
                "random-adapter.safetensors", "random.safetensors", "random.yaml",
            ])
        let golden = try Checkpoint.open(Golden.path("tiny-sd2.ckpt")).tensors
        let random = try Checkpoint.open(place.path("model/random.safetensors")).tensors
        var compared = 0
        for (name, tensor) in random {
            guard let published = golden[name] else { continue }
            #expect(tensor.shape.count == published.shape.count, "\(name): \(tensor.shape), \(published.shape)")
            compared += 1
        }
        #expect(compared > 300)
        for name in ["quant_conv", "post_quant_conv", "encoder.mid.attn_1.q"] {
            #expect(random["first_stage_model.\(name).weight"]?.shape.suffix(2) == [1, 1], "\(name)")
        }
        // And the program reads its own.
        let doctor = try Workplace.run(
            Workplace.programs.appendingPathComponent("dreamcache").path,
            ["inspect", place.path("model/random.safetensors")])
        #expect(doctor.status == 0)
    }

    /// Finding 10: what fails leaves nothing that blocks the next attempt.
    @Test func aCacheThatFailsLeavesNothing() throws {
        let place = try Workplace()
        let bad = try make(place, "bad", ["a.png": try Self.picture(), "a_mask.png": try Self.mask(isWhite: false)])
        let good = try make(place, "good", ["a.png": try Self.picture()])
        #expect(try place.dreamcache("cache", bad, "--out", place.path("x.dcache")).status == 4)
        let limited = try Workplace.run(
            "/bin/bash",
            [
                "-c", "ulimit -f 8; exec \"$0\" cache \"$1\" --out \"$2\" --config \"$3\"",
                Workplace.programs.appendingPathComponent("dreamcache").path, good, place.path("x.dcache"),
                place.path("config.yaml"),
            ])
        #expect(limited.status != 0)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: place.folder.path).sorted() == [
                "bad", "config.yaml", "good", "spool",
            ])
        let retried = try place.dreamcache("cache", good, "--out", place.path("x.dcache"))
        #expect(retried.status == 0, "\(retried.errors)")
    }

    // MARK: - Names

    /// Case cli-heic-left-out: the daemon and the command line refuse one folder in the same words.
    @Test func nothingIsLeftOutInSilence() throws {
        let place = try Workplace()
        let heic = Data([0, 0, 0, 0x18] + Array("ftypheic".utf8) + [UInt8](repeating: 0, count: 40))
        let mixed = try make(
            place, "mixed", ["IMG_0002.HEIC": Data("PK\u{3}\u{4}----".utf8), "a.png": try Self.picture(), "x": heic])
        let refused = try place.dreamcache("cache", mixed, "--out", place.path("x.dcache"))
        #expect(refused.status == 4)
        #expect(refused.errors.contains("IMG_0002.HEIC: found a zip archive, expected"))
        let notes = try make(place, "notes", ["read me.txt": Data("x".utf8), "a.png": try Self.picture()])
        let made = try place.dreamcache("cache", notes, "--out", place.path("y.dcache"))
        #expect(made.status == 0, "\(made.errors)")
        #expect(made.errors.contains("not used: read me.txt"))
    }

    /// Case cli-names-not-utf8: in a folder, as the folder, and as an option's value.
    @Test func namesAreBytes() throws {
        let place = try Workplace()
        let picture = try make(place, "d", ["a.png": try Self.picture()]) + "/a.png"
        let program = Workplace.programs.appendingPathComponent("dreamcache").path
        let script = """
            set -eu
            cd "$1"
            odd=$(printf 'caf\\351')
            mkdir "$odd" e
            cp "$2" "$odd/$odd.png"
            cp "$2" "$odd/$(printf 'caf\\352.png')"
            cp "$2" "e/$odd.png"
            "$0" cache e --out e.dcache --config config.yaml
            "$0" cache "$odd" --out odd.dcache --subject x --config config.yaml --json
            "$0" cache "--out=single.dcache" "$odd/$odd.png" --config config.yaml
            "$0" inspect "$odd/$odd.png"
            "$0" inspect "$odd/none" && exit 9
            "$0" submit --references "$odd" --subject x - --config config.yaml <<< '{"subject": "x", "prompt": "y"}'
            """
        for folder in ["drop/references", "drop/jobs", "receipts", "lib"] {
            try FileManager.default.createDirectory(
                atPath: place.path("spool/" + folder), withIntermediateDirectories: true)
        }
        let result = try Workplace.run("/bin/bash", ["-c", script, program, place.folder.path, picture])
        #expect(!result.errors.contains("No such file"), "\(result.errors)")
        #expect(result.output.contains(#""references": 2"#), "\(result.output) \(result.errors)")
        #expect(try features(place, "e.dcache") == (try features(place, "single.dcache")))
        #expect(result.errors.contains("caf\\xE9"))
        let copied = try Workplace.run("/bin/ls", ["-b", place.path("spool/drop/references/x")])
        #expect(copied.output == "caf\\351.png\ncaf\\352.png\n")
    }

    /// Cases mask-upper-case, mask-of-long-name and mask-that-keeps-nothing, by the command line and by the daemon.
    @Test func masksAreFoundAlike() throws {
        let place = try Workplace()
        let long = "WhatsApp Image 2024-03-05 at 14.33.21_a1b2c3d4e5f60718"
        let plain = try make(place, "m-plain", ["photo.png": try Self.picture(), "photo_mask.png": try Self.mask()])
        let upper = try make(place, "m-upper", ["photo.PNG": try Self.picture(), "PHOTO_mask.PNG": try Self.mask()])
        let named = try make(place, "m-long", [long + ".png": try Self.picture(), long + "_mask.png": try Self.mask()])
        let uncut = try make(place, "uncut", ["photo.png": try Self.picture()])
        for folder in [plain, upper, named, uncut] {
            let made = try place.dreamcache("cache", folder, "--out", folder + ".dcache")
            #expect(made.status == 0, "\(made.errors)")
        }
        let expected = try features(place, "m-plain.dcache")
        #expect(try features(place, "m-upper.dcache") == expected)
        #expect(try features(place, "m-long.dcache") == expected)
        #expect(try features(place, "uncut.dcache") != expected)
        let empty = try make(
            place, "m-empty", ["a b.png": try Self.picture(), "a b_mask.png": try Self.mask(isWhite: false)])
        let refused = try place.dreamcache("cache", empty, "--out", empty + ".dcache")
        #expect(refused.status == 4 && refused.errors.contains("a mask without foreground"), "\(refused.errors)")

        let daemon = try place.startDaemon()
        for folder in [upper, named, empty] {
            try FileManager.default.moveItem(
                atPath: folder,
                toPath: place.path("spool/drop/references/" + URL(fileURLWithPath: folder).lastPathComponent))
        }
        for name in ["m-upper", "m-long"] {
            try place.eventually("\(name) is encoded") { place.receipt(name).contains("encoded as") }
            let cache = try Checkpoint.open(place.path("spool/cache/\(name).dcache"))
            #expect(cache.tensors.mapValues { $0.floats() } == expected)
        }
        try place.eventually("the empty mask is refused") {
            place.receipt("m-empty").contains("a b_mask.png: mask: found a mask without foreground")
        }
        #expect(daemon.stop() == 0)
    }

    // MARK: - Texts

    /// Finding M7: no text of a file or a manifest reaches the terminal as it is.
    @Test func textsAreHarmlessOnATerminal() throws {
        let place = try Workplace()
        let odd = "a\u{1B}[2Jb\u{202E}c\nsecond line"
        let metadata = ImageMetadata(parameters: odd)
        let image = Data(try Raster(width: 8, height: 8, color: (1, 2, 3)).encodedPNG(metadata: metadata))
        try image.write(to: place.folder.appendingPathComponent("odd.png"))
        let program = Workplace.programs.appendingPathComponent("dreamcache").path
        for arguments in [
            ["inspect", place.path("odd.png")], ["inspect", place.path("odd.png"), "--json"],
            ["replay", place.path("odd.png")],
        ] {
            let shown = try Workplace.run(program, arguments)
            for text in [shown.output, shown.errors] {
                #expect(
                    !text.unicodeScalars.contains("\u{1B}") && !text.unicodeScalars.contains("\u{202E}"), "\(arguments)"
                )
            }
        }
        #expect(
            try Workplace.run(program, ["inspect", place.path("odd.png")]).output.contains(
                "a\\u{1B}[2Jb\\u{202E}c\nsecond line"))
        let json = try Workplace.run(program, ["inspect", place.path("odd.png"), "--json"]).output
        let document = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
        #expect(document?["parameters"] as? String == odd)
    }
}
