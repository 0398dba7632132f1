import Diffusion
import Foundation
import Testing

/// The path of a file under Tests/Fixtures.
func fixtureURL(_ path: String) -> URL {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fixtures/\(path)")
}

/// The bytes of a file under Tests/Fixtures.
func fixtureData(_ path: String) throws -> Data {
    try Data(contentsOf: fixtureURL(path))
}

/// Prompts with the ids the DreamCache authors' code makes of them.
private struct TokenFixture: Decodable {
    struct Case: Decodable {
        var text: String
        var ids: [Int32]
    }
    var cases: [Case]
}

/// Difficult prompts with the ids of two libraries; `Tests/Fixtures/tokens/generate.py` makes it.
private struct LibraryFixture: Decodable {
    struct Case: Decodable {
        var text: String
        var openCLIP: [Int32]
        var transformers: [Int32]

        enum CodingKeys: String, CodingKey {
            case text, transformers
            case openCLIP = "open_clip"
        }
    }
    var cases: [Case]
    var tiny: [TokenFixture.Case]
}

private let clip = Result { try Tokenizer.clip() }

@Suite struct TokenizerTests {
    private func scratchFolder(_ files: [String: String]) throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for (name, text) in files { try Data(text.utf8).write(to: folder.appendingPathComponent(name)) }
        return folder
    }

    @Test func equalsTheAuthors() throws {
        let fixture = try JSONDecoder().decode(TokenFixture.self, from: fixtureData("tokens/tokens.json"))
        #expect(!fixture.cases.isEmpty)
        for example in fixture.cases {
            #expect(try clip.get().encode(example.text) == example.ids, "\(example.text.prefix(60))")
        }
    }

    @Test func equalsBothLibraries() throws {
        let fixture = try JSONDecoder().decode(LibraryFixture.self, from: fixtureData("tokens/libraries.json"))
        #expect(!fixture.cases.isEmpty)
        let merges = try [UInt8](Data(contentsOf: mergesURL))
        let transformers = try Tokenizer(merges: merges, source: "merges", cleaning: .transformers, padding: .endOfText)
        for example in fixture.cases {
            let text = example.text.unicodeScalars.prefix(80).map { $0.escaped(asASCII: true) }.joined()
            let ids = try clip.get().encode(example.text)
            #expect(Array(ids.prefix(example.openCLIP.count)) == example.openCLIP, "open_clip: \(text)")
            #expect(ids.dropFirst(example.openCLIP.count).allSatisfy { $0 == 0 }, "open_clip: \(text)")
            let others = transformers.encode(example.text)
            #expect(Array(others.prefix(example.transformers.count)) == example.transformers, "transformers: \(text)")
            #expect(others.dropFirst(example.transformers.count).allSatisfy { $0 == 49407 }, "transformers: \(text)")
        }
    }

    private var mergesURL: URL {
        fixtureURL("../../Sources/Diffusion/Resources/clip-bpe-merges.txt").standardizedFileURL
    }

    @Test func readsADiffusersFolder() throws {
        let fixture = try JSONDecoder().decode(LibraryFixture.self, from: fixtureData("tokens/libraries.json"))
        let tokenizer = try Tokenizer(diffusersFolder: fixtureURL("tokens/tiny"))
        #expect(!fixture.tiny.isEmpty)
        for example in fixture.tiny { #expect(tokenizer.encode(example.text) == example.ids, "\(example.text)") }
    }

    @Test func fillsAnyContext() throws {
        let tokenizer = try clip.get()
        let prompt = "a photo of a backpack, on the beach"
        #expect(tokenizer.encode(prompt, contextLength: 2) == [49406, 49407])
        #expect(tokenizer.encode(prompt, contextLength: 4) == [49406, 320, 1125, 49407])
        #expect(tokenizer.encode("", contextLength: 4, padding: .endOfText) == [49406, 49407, 49407, 49407])
        #expect(tokenizer.encode("", contextLength: 3, padding: .token(9)) == [49406, 49407, 9])
        #expect(tokenizer.tokens(of: prompt).count == 9)
    }

    /// Whoever writes a manifest decides what these are; none may take longer than its size deserves.
    @Test(
        .timeLimit(.minutes(10)),
        arguments: [
            String(repeating: "ab", count: 20_000), String(repeating: "\u{301}", count: 20_000),
            "&" + String(repeating: "amp;", count: 20_000), String(repeating: "&lt", count: 10_000),
            String(repeating: "<|", count: 20_000), String(repeating: "a ", count: 20_000),
            String(repeating: "\u{1B}[", count: 20_000),
        ])
    func survivesHostileText(text: String) throws {
        #expect(try clip.get().encode(text).count == 77)
    }

    @Test func namesWhatIsWrongWithAFolder() throws {
        let vocabulary = #"{"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b": 3, "ab": 4}"#
        let broken: [(files: [String: String], file: String, problem: String)] = [
            ([:], "vocab.json", "cannot be read"),
            (["vocab.json": "[1]"], "vocab.json", "not a JSON object of token to id"),
            (["vocab.json": #"{"a": "b"}"#], "vocab.json", "not a JSON object of token to id"),
            (["vocab.json": #"{"a": 1}"#], "vocab.json", "has no token '<|startoftext|>'"),
            (["vocab.json": vocabulary], "merges.txt", "cannot be read"),
            (["vocab.json": vocabulary, "merges.txt": "a b\nabc\n"], "merges.txt", "line 2 is 'abc'"),
            (["vocab.json": vocabulary, "merges.txt": "a b c\n"], "merges.txt", "line 1 is 'a b c'"),
            (["vocab.json": vocabulary, "merges.txt": "b a\n"], "merges.txt", "merge 1, 'b a'"),
            (
                ["vocab.json": vocabulary, "merges.txt": "a b\n", "special_tokens_map.json": #"{"pad_token": 7}"#],
                "special_tokens_map.json", "neither a string nor an object"
            ),
            (
                ["vocab.json": vocabulary, "merges.txt": "a b\n", "tokenizer_config.json": #"{"pad_token": "<pad>"}"#],
                "tokenizer_config.json", "'<pad>' is not in the vocabulary"
            ),
        ]
        for (files, file, problem) in broken {
            let folder = try scratchFolder(files)
            defer { try? FileManager.default.removeItem(at: folder) }
            let error = #expect(throws: TokenizerError.self) { try Tokenizer(diffusersFolder: folder) }
            #expect(error?.path == folder.appendingPathComponent(file).path)
            #expect(error?.problem.contains(problem) == true, "\(error?.description ?? "")")
        }
        let good = try scratchFolder(["vocab.json": vocabulary, "merges.txt": "#version: 0.2\r\na b\r\n"])
        defer { try? FileManager.default.removeItem(at: good) }
        let tokenizer = try Tokenizer(diffusersFolder: good)
        #expect(tokenizer.padding == .endOfText)
        // Without "b</w>" in the vocabulary the last byte is unknown, which is the end token.
        #expect(tokenizer.encode("abb", contextLength: 5) == [0, 4, 1, 1, 1])
    }

    @Test func namesThePathsOfAMissingResource() {
        let error = #expect(throws: TokenizerError.self) { try Tokenizer.clip(resource: "no-such-merges.txt") }
        #expect(error?.problem.contains("dreamcache_Diffusion.resources/Resources/no-such-merges.txt") == true)
        #expect(error?.problem.contains("/share/dreamcache/no-such-merges.txt") == true)
    }
}
