import Foundation

/// The files of a model's `tokenizer` folder that hold its vocabulary.
extension Tokenizer {
    /// `tokenizer.json` of the tokenizers library, as far as it describes byte-pair encoding.
    private struct Document: Decodable {
        struct Model: Decodable {
            var vocab: [String: Int32]
            var merges: [Merge]
        }
        struct Added: Decodable {
            var id: Int32
            var content: String
        }
        /// Two symbols: a pair, or one text with a space between.
        struct Merge: Decodable {
            var symbols: [String]

            init(from decoder: any Decoder) throws {
                let container = try decoder.singleValueContainer()
                if let text = try? container.decode(String.self) {
                    symbols = text.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
                } else {
                    symbols = try container.decode([String].self)
                }
                guard symbols.count == 2, !symbols.contains("") else {
                    throw DecodingError.dataCorruptedError(
                        in: container, debugDescription: "a merge has two symbols, found \(symbols)")
                }
            }
        }

        var model: Model
        var addedTokens: [Added]?

        enum CodingKeys: String, CodingKey {
            case model
            case addedTokens = "added_tokens"
        }
    }

    /// Ids by token, those of tokens added to the vocabulary (textual inversion), and the merges in order of rank, not read
    /// before they are asked for; `source` is where each is.
    static func vocabulary(
        of folder: URL
    ) throws(TokenizerError) -> (
        identifiers: [String: Int32], added: [String: Int32],
        merges: () throws(TokenizerError) -> [(left: BytePairEncoding.Symbol, right: BytePairEncoding.Symbol)],
        source: (vocabulary: String, merges: String)
    ) {
        let (vocabulary, merges) = (
            folder.appendingPathComponent("vocab.json"), folder.appendingPathComponent("merges.txt")
        )
        let whole = folder.appendingPathComponent("tokenizer.json")
        let names = try names(in: folder)
        guard names.contains("vocab.json") || !names.contains("tokenizer.json") else {
            let document: Document = try decoded(whole, expected: "a byte-pair encoding of the tokenizers library")
            let added = Dictionary((document.addedTokens ?? []).map { ($0.content, $0.id) }) { first, _ in first }
            func symbol(_ text: String) -> BytePairEncoding.Symbol { .init(spelling: Array(text.utf8)[...]) }
            return (
                document.model.vocab, try addedTokens(of: folder).merging(added) { first, _ in first },
                { document.model.merges.map { (symbol($0.symbols[0]), symbol($0.symbols[1])) } },
                (whole.path, whole.path)
            )
        }
        return (
            try decoded(vocabulary, expected: "a JSON object of token to id"), try addedTokens(of: folder),
            { () throws(TokenizerError) in
                try BytePairEncoding.parse(merges: [UInt8](read(merges)), source: merges.path)
            },
            (vocabulary.path, merges.path)
        )
    }

    /// `added_tokens.json`, or `added_tokens_decoder` of `tokenizer_config.json`.
    private static func addedTokens(of folder: URL) throws(TokenizerError) -> [String: Int32] {
        struct Token: Decodable { var content: String }
        struct Configuration: Decodable {
            var tokens: [String: Token]?

            enum CodingKeys: String, CodingKey { case tokens = "added_tokens_decoder" }
        }
        let old = folder.appendingPathComponent("added_tokens.json")
        let names = try names(in: folder)
        if names.contains(old.lastPathComponent) {
            return try decoded(old, expected: "a JSON object of token to id")
        }
        let new = folder.appendingPathComponent("tokenizer_config.json")
        guard names.contains(new.lastPathComponent) else { return [:] }
        let configuration: Configuration = try decoded(new, expected: "a tokenizer's configuration")
        let added = (configuration.tokens ?? [:]).compactMap { key, token in Int32(key).map { (token.content, $0) } }
        return Dictionary(added) { first, _ in first }
    }

    /// Several tokens that are one word: `word`, `word_1`, `word_2` and so on are the vectors of one textual inversion, as
    /// diffusers names them (`TextualInversionLoaderMixin.maybe_convert_prompt`).
    static func joined(_ added: [String: Int32]) -> [String: [Int32]] {
        added.reduce(into: [:]) { words, entry in
            var identifiers = [entry.value]
            while let next = added["\(entry.key)_\(identifiers.count)"] { identifiers.append(next) }
            words[entry.key] = identifiers
        }
    }

    private static func decoded<Value: Decodable>(_ url: URL, expected: String) throws(TokenizerError) -> Value {
        let data = try read(url)
        do { return try JSONDecoder().decode(Value.self, from: data) } catch {
            throw TokenizerError(path: url.path, problem: "not \(expected)")
        }
    }

    /// The names in the folder. They are seen together: a file that cannot be looked at must not count as one that is not there.
    static func names(in folder: URL) throws(TokenizerError) -> Set<String> {
        do { return Set(try FileManager.default.contentsOfDirectory(atPath: folder.path)) } catch {
            throw TokenizerError(path: folder.path, problem: "cannot be read: \(error.localizedDescription)")
        }
    }

    static func read(_ url: URL) throws(TokenizerError) -> Data {
        do {
            return try Data(contentsOf: url)
        } catch {
            throw TokenizerError(path: url.path, problem: "cannot be read: \(error.localizedDescription)")
        }
    }
}
