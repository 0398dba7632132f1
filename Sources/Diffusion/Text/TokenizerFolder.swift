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

    /// Tokens by id, and the merges in order of rank, not read before they are asked for; `source` is where each is.
    static func vocabulary(
        of folder: URL
    ) throws(TokenizerError) -> (
        identifiers: [String: Int32],
        merges: () throws(TokenizerError) -> [(left: BytePairEncoding.Symbol, right: BytePairEncoding.Symbol)],
        source: (vocabulary: String, merges: String)
    ) {
        let (vocabulary, merges) = (
            folder.appendingPathComponent("vocab.json"), folder.appendingPathComponent("merges.txt")
        )
        let whole = folder.appendingPathComponent("tokenizer.json")
        guard
            FileManager.default.fileExists(atPath: vocabulary.path)
                || !FileManager.default.fileExists(atPath: whole.path)
        else {
            let document: Document = try decoded(whole, expected: "a byte-pair encoding of the tokenizers library")
            let added = (document.addedTokens ?? []).map { ($0.content, $0.id) }
            func symbol(_ text: String) -> BytePairEncoding.Symbol { .init(spelling: Array(text.utf8)[...]) }
            return (
                document.model.vocab.merging(added) { first, _ in first },
                { document.model.merges.map { (symbol($0.symbols[0]), symbol($0.symbols[1])) } },
                (whole.path, whole.path)
            )
        }
        return (
            try decoded(vocabulary, expected: "a JSON object of token to id"),
            { () throws(TokenizerError) in
                try BytePairEncoding.parse(merges: [UInt8](read(merges)), source: merges.path)
            },
            (vocabulary.path, merges.path)
        )
    }

    private static func decoded<Value: Decodable>(_ url: URL, expected: String) throws(TokenizerError) -> Value {
        let data = try read(url)
        do { return try JSONDecoder().decode(Value.self, from: data) } catch {
            throw TokenizerError(path: url.path, problem: "not \(expected): \(error)")
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
