import Checkpoint
import Foundation
import Golden
import TensorEngine
import Testing

@testable import Diffusion

/// Long and weighted prompts against compel; `Tests/Fixtures/prompts/generate.py` makes what it computes.
@Suite struct PromptTests {
    private static let long =
        "a photo of a dog, " + (0..<30).map { "detail\($0)" }.joined(separator: ", ")
        + ", wearing a red hat on the moon"

    private static func expected(_ name: String) throws -> [Float] {
        let path = Golden.fixtures.appendingPathComponent("prompts/expected.safetensors").path
        return try #require(try Checkpoint.open(path).tensors[name]).floats()
    }

    private static func model() throws -> StableDiffusion {
        try StableDiffusion.load(checkpoint: Family("sd1").folder, engine: try Engine(path: .oneDNNFP32))
    }

    @Test(arguments: [
        ("long.chunks", PromptReading(mode: .chunks), long), ("long.truncated", PromptReading(), long),
        ("weighted", PromptReading(syntax: .weighted), "a (red:1.3) hat, [old], (on the (moon))"),
        ("long.weighted", PromptReading(mode: .chunks, syntax: .weighted), long + "( far away:1.4)"),
    ])
    func statesEqualCompel(_ name: String, _ reading: PromptReading, _ prompt: String) throws {
        let model = try Self.model()
        let chunks = model.chunkCount(of: prompt, reading: reading)
        let states = model.engine.floats(try model.encode(prompt: prompt, reading: reading, chunks: chunks))
        let error = relativeError(states, try Self.expected(name))
        #expect(error < 1e-5, "\(name): \(error)")
        // Without the reading it is another.
        let plain = model.engine.floats(try model.encode(prompt: prompt))
        #expect((plain == states) == (name == "long.truncated"))
    }

    @Test func aShortPromptIsTheSameInEveryMode() throws {
        let model = try Self.model()
        let plain = model.engine.floats(try model.encode(prompt: "a (dog)"))
        let chunked = try model.encode(prompt: "a (dog)", reading: PromptReading(mode: .chunks), chunks: 1)
        #expect(model.engine.floats(chunked) == plain)
        // Chunks that a prompt does not fill are the empty prompt's.
        let filled = try model.encode(prompt: "a (dog)", reading: PromptReading(mode: .chunks), chunks: 2)
        #expect(model.engine.floats(filled) == plain + model.engine.floats(try model.encode(prompt: "")))
    }

    struct Reading: Sendable, CustomTestStringConvertible {
        let prompt: String
        let texts: [String]
        let weights: [Double]

        var testDescription: String { prompt }

        init(_ prompt: String, _ texts: [String], _ weights: [Double]) {
            self.prompt = prompt
            self.texts = texts
            self.weights = weights
        }
    }

    /// The first of them are those of AUTOMATIC1111's own documentation.
    static let readings: [Reading] = [
        Reading("normal text", ["normal text"], [1]), Reading("(unbalanced", ["unbalanced"], [1.1]),
        Reading("an (important) word", ["an ", "important", " word"], [1, 1.1, 1]),
        Reading(#"\(literal\]"#, ["(literal]"], [1]), Reading("(unnecessary)(parens)", ["unnecessaryparens"], [1.1]),
        Reading(
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            ["a ", "house", " ", "on", " a ", "hill", ", sun, ", "sky", "."],
            [1, 1.573, 1.1, 1, 1.1, 0.55, 1.1, 1.4641, 1.1]),
        Reading("", [""], [1]), Reading("a:1.3) b", ["a:1.3) b"], [1]), Reading("[a]", ["a"], [1 / 1.1]),
        Reading("(a : 1.2 )", ["a "], [1.2]), Reading("a) ]", ["a) ]"], [1]), Reading("(a:b:2)", ["a:b"], [2]),
        Reading("(:)", [":"], [1.1]), Reading(#"\\(a)"#, [#"\"#, "a"], [1, 1.1]),
    ]

    /// The grammar of AUTOMATIC1111's `parse_prompt_attention`.
    @Test(arguments: readings) func weightsAreReadAsTheWebUIReadsThem(_ reading: Reading) {
        let found = PromptWeights.parse(reading.prompt)
        #expect(found.map(\.text) == reading.texts)
        for (fragment, expected) in zip(found, reading.weights) { #expect(abs(fragment.weight - expected) < 1e-9) }
    }

    @Test func whatIsCutIsSaid() throws {
        let tokenizer = try Tokenizer.clip()
        #expect(tokenizer.note(on: "a dog", reading: PromptReading()) == nil)
        let prompt = (0..<75).map { _ in "dog" }.joined(separator: " ")
        #expect(tokenizer.note(on: prompt, reading: PromptReading()) == nil)
        let cut = try #require(tokenizer.note(on: prompt + ", wearing a red hat", reading: PromptReading()))
        #expect(cut.contains("80 tokens"))
        #expect(cut.contains("cut off: \", wearing a red hat\""))
        let chunks = try #require(tokenizer.note(on: prompt + " hat", reading: PromptReading(mode: .chunks)))
        #expect(chunks == "76 tokens, read in 2 chunks of 75")
    }
}
