import Checkpoint
import Foundation
import Golden
import TensorEngine
import Testing

@testable import Diffusion

/// Textual inversions of every format against diffusers; `Tests/Fixtures/embeddings/generate.py` makes them.
@Suite struct TextualInversionTests {
    private static let folder = Golden.fixtures.appendingPathComponent("embeddings")
    private static let prompt = "a photo of <cat-toy>, in the style of my-style, not webui"

    private static func expected() throws -> [Float] {
        let file = try Checkpoint.open(folder.appendingPathComponent("expected.safetensors").path)
        return try #require(file.tensors["states"]).floats()
    }

    private static func files() -> [EmbeddingFile] {
        ["learned_embeds.safetensors", "my-style.pt", "webui.safetensors"].map {
            EmbeddingFile(path: folder.appendingPathComponent($0).path)
        }
    }

    private func states(_ checkpoint: String, _ files: [EmbeddingFile], prompt: String = prompt) throws -> [Float] {
        var options = StableDiffusion.Options()
        options.embeddings = files
        let model = try StableDiffusion.load(
            checkpoint: checkpoint, options: options, engine: try Engine(path: .oneDNNFP32))
        return model.engine.floats(try model.encode(prompt: prompt))
    }

    @Test func statesEqualDiffusers() throws {
        let family = Family("sd1")
        let error = relativeError(try states(family.folder, Self.files()), try Self.expected())
        #expect(error < 1e-5, "\(error)")
        #expect(relativeError(try states(family.folder, []), try Self.expected()) > 1e-1)
        // Case does not matter, and another word can be given.
        #expect(
            try states(family.folder, Self.files(), prompt: Self.prompt.uppercased())
                == states(family.folder, Self.files()))
        var renamed = Self.files()
        renamed[0].word = "toy"
        #expect(
            try states(family.folder, renamed, prompt: Self.prompt.replacingOccurrences(of: "<cat-toy>", with: "toy"))
                == states(family.folder, Self.files()))
        // A name is no part of other words.
        #expect(
            try states(family.folder, Self.files(), prompt: "webuis, mywebui")
                == states(family.folder, [], prompt: "webuis, mywebui"))
    }

    @Test func aFolderOfThemIsRead() throws {
        let copy = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())")
        try FileManager.default.createDirectory(at: copy, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: copy) }
        for file in Self.files() {
            let url = URL(fileURLWithPath: file.path)
            try FileManager.default.copyItem(at: url, to: copy.appendingPathComponent(url.lastPathComponent))
        }
        let found = try states(Family("sd1").folder, [EmbeddingFile(path: copy.path)])
        #expect(relativeError(found, try Self.expected()) < 1e-5)
    }

    /// A folder as diffusers saves it after `load_textual_inversion`: more tokens and a larger embedding.
    @Test func addedTokensOfAFolderAreRead() throws {
        let family = Family("sd1")
        let copy = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())")
        try FileManager.default.copyItem(at: URL(fileURLWithPath: family.folder), to: copy)
        defer { try? FileManager.default.removeItem(at: copy) }
        let weights = copy.appendingPathComponent("text_encoder/model.fp16.safetensors").path
        let table = "embeddings.token_embedding.weight"
        let text = try Checkpoint.open(weights)
        let own = try #require(text.tensors.values.first { $0.name.hasSuffix(table) })
        var rows = own.floats()
        for file in Self.files() {
            for tensor in try Checkpoint.open(file.path).tensors.values { rows += tensor.floats() }
        }
        var writer = SafetensorsWriter()
        for tensor in text.tensors.values where tensor.name != own.name { writer.add(tensor) }
        writer.add(own.name, type: .f32, shape: [rows.count / 16, 16], floats: rows)
        try writer.write(toPath: weights + ".new")
        try FileManager.default.removeItem(atPath: weights)
        try FileManager.default.moveItem(atPath: weights + ".new", toPath: weights)
        let config = copy.appendingPathComponent("text_encoder/config.json")
        let json = try String(contentsOf: config, encoding: .utf8)
        try Data(json.replacingOccurrences(of: "\"vocab_size\": 1000", with: "\"vocab_size\": 1006").utf8).write(
            to: config)
        let added = copy.appendingPathComponent("tokenizer/added_tokens.json")
        try Data(
            #"{"<cat-toy>": 1000, "my-style": 1001, "my-style_1": 1002, "webui": 1003, "webui_1": 1004, "webui_2": 1005}"#
                .utf8
        ).write(to: added)
        let error = relativeError(try states(copy.path, []), try Self.expected())
        #expect(error < 1e-3, "\(error)")
        // A token of a tokenizer that was made for a larger text encoder, and the prompts without it.
        for identifier in [1006, 99_999_999, -1] {
            try Data("{\"<beyond>\": \(identifier)}".utf8).write(to: added)
            let model = try StableDiffusion.load(checkpoint: copy.path, engine: try Engine(path: .openBLAS))
            let error = #expect(throws: DiffusionError.self) { try model.encode(prompt: "a <beyond>") }
            #expect(error.map { "\($0)" }?.contains("a token of id \(identifier), expected ids below 1006") == true)
            #expect(throws: Never.self) { try model.encode(prompt: "a toy") }
        }
    }

    @Test func othersAreRefused() throws {
        func refusal(_ name: String, _ shape: [Int], _ value: Float = 1) throws -> String {
            var writer = SafetensorsWriter()
            writer.add(name, type: .f32, shape: shape, floats: Array(repeating: value, count: shape.reduce(1, *)))
            let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).safetensors").path
            try writer.write(toPath: path)
            defer { try? FileManager.default.removeItem(atPath: path) }
            let error = #expect(throws: DiffusionError.self) {
                try TextualInversion.all([EmbeddingFile(path: path)], width: 768)
            }
            return error.map { "\($0)" } ?? ""
        }
        #expect(try refusal("emb_params", [1, 1024]).contains("[1, 1024] (Stable Diffusion 2), expected"))
        #expect(try refusal("clip_g", [1, 1280]).contains("Stable Diffusion XL"))
        #expect(try refusal("emb_params", [1, 768], .nan).contains("not finite"))
        #expect(try refusal("emb_params", [76, 768]).contains("1 to 75 vectors"))
        #expect(try refusal("emb_params", [2, 2, 768]).contains("1 to 75 vectors"))
        #expect(try refusal("emb_params", [0, 768]).contains("1 to 75 vectors"))
    }
}
