import TensorEngine

/// How a prompt becomes tokens.
public struct PromptReading: Sendable, Hashable {
    /// What becomes of a prompt that is longer than the text encoder's context.
    public enum Mode: String, Sendable, CaseIterable {
        /// The rest is not read, as in diffusers.
        case truncate
        /// It is read in chunks of 75 tokens, each with a start and an end of its own; the U-Net reads the states of all.
        case chunks
    }

    /// Whether brackets mean something.
    public enum Syntax: String, Sendable, CaseIterable {
        /// They are text.
        case plain
        /// `(word:1.3)`, `(word)`, `[word]`: see ``PromptWeights``.
        case weighted
    }

    /// What becomes of a long prompt.
    public var mode: Mode
    /// Whether brackets mean something.
    public var syntax: Syntax

    /// The authors' and diffusers' way unless said otherwise.
    public init(mode: Mode = .truncate, syntax: Syntax = .plain) {
        self.mode = mode
        self.syntax = syntax
    }
}

/// A prompt as tokens with weights, in chunks of what the text encoder reads at once.
struct TokenizedPrompt {
    struct Token {
        let identifier: Int32
        let weight: Double
    }

    /// Never empty; each holds at most the context's tokens less start and end.
    let chunks: [[Token]]
    /// How many tokens the whole prompt has.
    let count: Int
    /// The text that is in no chunk.
    let rest: String

    init(_ prompt: String, _ tokenizer: Tokenizer, reading: PromptReading, contextLength: Int) {
        let fragments = reading.syntax == .weighted ? PromptWeights.parse(prompt) : [.init(text: prompt, weight: 1)]
        let size = contextLength - 2
        var tokens: [Token] = []
        var rest: [String] = []
        for fragment in fragments {
            for word in tokenizer.words(of: fragment.text) {
                tokens += word.identifiers.map { Token(identifier: $0, weight: fragment.weight) }
                if reading.mode == .truncate, tokens.count > size { rest.append(word.text) }
            }
        }
        count = tokens.count
        self.rest = rest.joined(separator: " ")
        if reading.mode == .truncate || tokens.count <= size {
            chunks = [Array(tokens.prefix(size))]
        } else {
            chunks = stride(from: 0, to: tokens.count, by: size).map {
                Array(tokens[$0..<min($0 + size, tokens.count)])
            }
        }
    }
}

extension StableDiffusion {
    private func tokenized(_ prompt: String, _ reading: PromptReading) -> TokenizedPrompt {
        TokenizedPrompt(prompt, tokenizer, reading: reading, contextLength: configuration.text.contextLength)
    }

    /// How many chunks of the text encoder's context a prompt has.
    public func chunkCount(of prompt: String, reading: PromptReading) -> Int {
        reading.mode == .truncate ? 1 : tokenized(prompt, reading).chunks.count
    }

    /// The states of a prompt, `[1, chunks * context, width]`.
    ///
    /// A token's weight moves its state from that of the empty prompt at its place: empty + weight (state - empty). Source:
    /// compel `EmbeddingsProvider.build_weighted_embedding_tensor`; chunks are those of its `SplitLongTextMode.BRUTAL`.
    /// Proved by `Tests/Fixtures/prompts`.
    ///
    /// - Parameter chunks: how many chunks there are; those the prompt does not fill are of the empty prompt.
    public func encode(prompt: String, reading: PromptReading, chunks: Int) throws(DiffusionError) -> Tensor {
        let tokenized = tokenized(prompt, reading)
        let known = textEncoder.vocabularySize
        for chunk in tokenized.chunks {
            guard let token = chunk.first(where: { !(0..<known).contains(Int($0.identifier)) }) else { continue }
            throw .token(token.identifier, prompt: prompt, embeddings: known)
        }
        do {
            var states: [Float] = []
            let hasWeights = tokenized.chunks.contains { $0.contains { $0.weight != 1 } }
            let isFilled = tokenized.chunks.count >= chunks
            if !hasWeights, isFilled, tokenized.chunks.count == 1 { return try encode(tokenized.chunks[0]) }
            let empty = hasWeights || !isFilled ? engine.floats(try encode([])) : []
            let width = configuration.text.width
            for chunk in tokenized.chunks {
                var values = engine.floats(try encode(chunk))
                for (place, token) in chunk.enumerated() where token.weight != 1 {
                    for index in (place + 1) * width..<(place + 2) * width {
                        values[index] = empty[index] + Float(token.weight) * (values[index] - empty[index])
                    }
                }
                states += values
            }
            for _ in tokenized.chunks.count..<max(chunks, tokenized.chunks.count) { states += empty }
            return try engine.tensor(states, shape: [1, states.count / width, width])
        } catch { throw .engine(error) }
    }

    private func encode(_ chunk: [TokenizedPrompt.Token]) throws(EngineError) -> Tensor {
        try textEncoder.encode(
            tokenizer.framed(chunk.map(\.identifier), contextLength: configuration.text.contextLength))
    }
}

extension Tokenizer {
    /// What a person should know of how a prompt is read: that it is cut, and where, or that it is read in chunks; nil where
    /// it fits.
    public func note(on prompt: String, reading: PromptReading, contextLength: Int = 77) -> String? {
        // A token is at least one byte, so that a short prompt fits in any case.
        guard prompt.utf8.count > contextLength - 2 else { return nil }
        let prompt = TokenizedPrompt(prompt, self, reading: reading, contextLength: contextLength)
        let size = contextLength - 2
        guard prompt.count > size else { return nil }
        return switch reading.mode {
        case .truncate:
            "\(prompt.count) tokens, of which \(size) are read; cut off: \"\(prompt.rest)\" (prompt_mode chunks reads all)"
        case .chunks: "\(prompt.count) tokens, read in \(prompt.chunks.count) chunks of \(size)"
        }
    }
}
