import Foundation
import Synchronization

/// Why a tokenizer could not be made.
public struct TokenizerError: Error, Equatable, CustomStringConvertible {
    /// The file that is missing or wrong.
    public var path: String
    /// What was found there and what was expected.
    public var problem: String

    /// `path: problem`.
    public var description: String { "\(path): \(problem)" }
}

/// CLIP's tokenizer: text to a fixed number of token ids.
///
/// Source: OpenAI CLIP `simple_tokenizer.py`; open_clip `SimpleTokenizer` (Stable Diffusion 2's, the cleaning of
/// ``Cleaning/openCLIP``); transformers `CLIPTokenizer` (for models in diffusers' layout). Proved by
/// `Tests/Fixtures/tokens`.
public struct Tokenizer: Sendable {
    /// What is written after the end token.
    public enum Padding: Sendable, Equatable {
        /// Id 0, as open_clip and Stable Diffusion 2 do.
        case zero
        /// The end token again, as Stable Diffusion 1 does.
        case endOfText
        /// Any other token, as a diffusers folder may name it.
        case token(Int32)
    }

    /// How text is normalised before it is split; both end in lower case with single spaces.
    public enum Cleaning: Sendable, Equatable {
        /// open_clip's: ftfy's repairs (quotation marks, ligatures, widths, controls, composition) and HTML unescaped twice.
        case openCLIP
        /// transformers': composed (NFC) only; HTML stays as it is written.
        case transformers
    }

    /// The id every sequence begins with; 49406 in CLIP's vocabulary.
    public let startOfText: Int32
    /// The id every text ends with; 49407 in CLIP's vocabulary.
    public let endOfText: Int32
    /// The padding that belongs to the model this tokenizer came with.
    public let padding: Padding
    /// The normalisation that belongs to the model this tokenizer came with.
    public let cleaning: Cleaning

    private let encoding: BytePairEncoding
    private let prompts: PromptCleaning
    private let specialTokens: [(spelling: [Unicode.Scalar], identifier: Int32)]
    /// Words that stand for ids of their own, longest first.
    private var addedTokens: [(spelling: [Unicode.Scalar], identifiers: [Int32])] = []

    /// CLIP's own tokenizer, from the merges file that ships with the program; open_clip's, as Stable Diffusion 2 has it,
    /// unless said otherwise.
    ///
    /// - Throws: ``TokenizerError`` naming every path at which the file was looked for.
    public static func clip(
        cleaning: Cleaning = .openCLIP, padding: Padding = .zero
    ) throws(TokenizerError) -> Tokenizer {
        try clip(resource: "clip-bpe-merges.txt", cleaning: cleaning, padding: padding)
    }

    package static func clip(
        resource name: String, cleaning: Cleaning = .openCLIP, padding: Padding = .zero
    ) throws(TokenizerError) -> Tokenizer {
        if let encoding = shipped.withLock({ $0[name] }) {
            return try Tokenizer(encoding, cleaning: cleaning, padding: padding)
        }
        let encoding = try Self.encoding(merges: ModuleResource.bytes(of: name), source: name)
        shipped.withLock { $0[name] = encoding }
        return try Tokenizer(encoding, cleaning: cleaning, padding: padding)
    }

    /// What was read of the merges that ship with the program, by their file's name: a reload, and a second model, need not read
    /// them again.
    private static let shipped = Mutex<[String: BytePairEncoding]>([:])

    /// A tokenizer whose vocabulary follows from its merges: 256 bytes, 256 final bytes, the merges, start, end.
    ///
    /// - Parameters:
    ///   - merges: a merges file, UTF-8: one merge per line, two symbols separated by a space.
    ///   - source: the file's name, for errors.
    public init(
        merges: [UInt8], source: String, cleaning: Cleaning = .openCLIP, padding: Padding = .zero
    ) throws(TokenizerError) {
        try self.init(Self.encoding(merges: merges, source: source), cleaning: cleaning, padding: padding)
    }

    private static func encoding(merges: [UInt8], source: String) throws(TokenizerError) -> BytePairEncoding {
        let pairs = try BytePairEncoding.parse(merges: merges, source: source)
        return try BytePairEncoding(
            merges: pairs, vocabulary: BytePairEncoding.impliedVocabulary(merges: pairs),
            unknown: Int32(512 + pairs.count + 1), source: source)
    }

    /// - Parameter encoding: with a vocabulary that follows from its merges; the unknown is its end token.
    private init(_ encoding: BytePairEncoding, cleaning: Cleaning, padding: Padding) throws(TokenizerError) {
        endOfText = encoding.unknownIdentifier
        startOfText = endOfText - 1
        self.encoding = encoding
        self.padding = padding
        self.cleaning = cleaning
        prompts = try Self.promptCleaning()
        specialTokens = Self.specialTokens(cleaning, start: startOfText, end: endOfText)
    }

    /// The tokenizer of a model in diffusers' layout: `vocab.json` and `merges.txt`, or the `tokenizer.json` that
    /// transformers 5 writes in their place; and, for the padding token, `special_tokens_map.json` or
    /// `tokenizer_config.json`.
    ///
    /// - Parameter folder: the model's `tokenizer` folder.
    /// - Throws: ``TokenizerError`` naming the file that is missing, not what it should be, or contradicts another.
    public init(diffusersFolder folder: URL) throws(TokenizerError) {
        let (vocabularyIdentifiers, added, merges, source) = try Self.vocabulary(of: folder)
        let identifiers = added.merging(vocabularyIdentifiers) { _, own in own }
        var special: [String: Int32] = [:]
        for name in ["<|startoftext|>", "<|endoftext|>"] {
            guard let identifier = identifiers[name] else {
                throw TokenizerError(path: source.vocabulary, problem: "has no token '\(name)'")
            }
            special[name] = identifier
        }
        startOfText = special["<|startoftext|>", default: 0]
        endOfText = special["<|endoftext|>", default: 0]

        var vocabulary: [BytePairEncoding.Symbol: Int32] = [:]
        vocabulary.reserveCapacity(identifiers.count)
        for (token, identifier) in vocabularyIdentifiers {
            vocabulary[BytePairEncoding.Symbol(spelling: Array(token.utf8)[...])] = identifier
        }
        encoding = try BytePairEncoding(
            merges: try merges(), vocabulary: vocabulary, unknown: endOfText, source: source.merges)

        cleaning = .transformers
        let token = try Self.paddingToken(of: folder, identifiers: identifiers)
        padding = token.map { $0.identifier == 0 ? .zero : .token($0.identifier) } ?? .endOfText
        prompts = try Self.promptCleaning()
        // transformers takes the padding token out of a text like the other two: Stable Diffusion 2's is "!".
        specialTokens =
            Self.specialTokens(.transformers, start: startOfText, end: endOfText)
            + (token.map { [(Array($0.spelling.unicodeScalars), $0.identifier)] } ?? [])
        let known = special
        add(Self.joined(added.filter { known[$0.key] == nil && $0.key != token?.spelling }))
    }

    /// Adds words that stand for ids of their own wherever they occur in a text, as textual inversion does; a word of letters or
    /// digits at its ends only as a whole word. Case does not matter. A word added again takes the place of the one before.
    public mutating func add(_ words: [String: [Int32]]) {
        for (word, identifiers) in words.sorted(by: { $0.key < $1.key }) {
            let spelling = cleaning == .openCLIP ? prompts.openCLIP(word) : prompts.transformers(word)
            guard !spelling.isEmpty, !identifiers.isEmpty else { continue }
            addedTokens.removeAll { $0.spelling == spelling }
            addedTokens.append((spelling, identifiers))
        }
        addedTokens.sort { $0.spelling.count > $1.spelling.count }
    }

    /// The ids of `text`: start, the text's tokens, end, then padding. A text too long is cut so that the end token is
    /// last.
    ///
    /// - Parameters:
    ///   - text: any text.
    ///   - contextLength: how many ids are returned, at least 2; CLIP's text encoders take 77.
    ///   - padding: instead of the tokenizer's own.
    /// - Returns: `contextLength` ids.
    public func encode(_ text: String, contextLength: Int = 77, padding: Padding? = nil) -> [Int32] {
        framed(tokens(of: text, limit: contextLength - 2), contextLength: contextLength, padding: padding)
    }

    /// Ids between start and end token, padded to `contextLength`; at most `contextLength - 2` are taken.
    func framed(_ tokens: [Int32], contextLength: Int, padding: Padding? = nil) -> [Int32] {
        precondition(contextLength >= 2, "a context holds at least the start and the end token")
        var identifiers = [startOfText] + tokens.prefix(contextLength - 2)
        identifiers.append(endOfText)
        let filler =
            switch padding ?? self.padding {
            case .zero: Int32(0)
            case .endOfText: endOfText
            case .token(let identifier): identifier
            }
        identifiers += [Int32](repeating: filler, count: contextLength - identifiers.count)
        return identifiers
    }

    /// The first `limit` ids of `text`, without start, end and padding.
    public func tokens(of text: String, limit: Int = .max) -> [Int32] {
        var identifiers: [Int32] = []
        forEachWord(of: text) { word in
            identifiers += word.identifiers
            return identifiers.count < limit
        }
        return Array(identifiers.prefix(limit))
    }

    /// A word of a text, cleaned, and its ids.
    struct Word {
        let text: String
        let identifiers: [Int32]
    }

    /// The words of a text; white space is in none of them.
    func words(of text: String) -> [Word] {
        var words: [Word] = []
        forEachWord(of: text) {
            words.append($0)
            return true
        }
        return words
    }

    /// - Parameter body: takes a word and says whether to go on.
    private func forEachWord(of text: String, _ body: (Word) -> Bool) {
        let scalars = cleaning == .openCLIP ? prompts.openCLIP(text) : prompts.transformers(text)
        var index = 0
        while index < scalars.count {
            let word = nextWord(in: scalars, at: index)
            guard !word.range.isEmpty else {
                index += 1
                continue
            }
            index = word.range.upperBound
            var identifiers = word.special ?? []
            if word.special == nil {
                encoding.encode(scalars[word.range].flatMap { Array(UTF8.encode($0) ?? .init()) }, into: &identifiers)
            }
            var spelling = String.UnicodeScalarView()
            spelling.append(contentsOf: scalars[word.range])
            guard body(Word(text: String(spelling), identifiers: identifiers)) else { return }
        }
    }

    /// One match of CLIP's pattern at `start`, empty on white space:
    /// `special|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`, case ignored.
    private func nextWord(in scalars: [Unicode.Scalar], at start: Int) -> (range: Range<Int>, special: [Int32]?) {
        if let (length, special) = specialToken(in: scalars, at: start) { return (start..<(start + length), special) }
        if scalars[start] == "'" {
            for ending in Self.contractions where matches(ending, in: scalars, at: start + 1) {
                return (start..<(start + 1 + ending.count), nil)
            }
        }
        let kind = Kind(scalars[start])
        var end = start
        switch kind {
        case .space:
            break
        case .number:
            end += 1
        case .letter:
            repeat {
                end += 1
            } while end < scalars.count && Kind(scalars[end]) == .letter && addedToken(in: scalars, at: end) == nil
        case .other:
            repeat {
                end += 1
            } while end < scalars.count && Kind(scalars[end]) == .other
                // transformers takes special tokens out of the text before it splits the rest.
                && (cleaning == .openCLIP ? addedToken(in: scalars, at: end) : specialToken(in: scalars, at: end))
                    == nil
        }
        return (start..<end, nil)
    }

    private func specialToken(in scalars: [Unicode.Scalar], at start: Int) -> (length: Int, identifiers: [Int32])? {
        if let added = addedToken(in: scalars, at: start) { return added }
        for token in specialTokens where matches(token.spelling, in: scalars, at: start) {
            return (token.spelling.count, [token.identifier])
        }
        return nil
    }

    private func addedToken(in scalars: [Unicode.Scalar], at start: Int) -> (length: Int, identifiers: [Int32])? {
        for token in addedTokens where matches(token.spelling, in: scalars, at: start) {
            // A name such as "style" is none of the letters of "lifestyle" or "styles".
            let end = start + token.spelling.count
            if let first = token.spelling.first, start > 0, Kind(first).isWord, Kind(scalars[start - 1]).isWord {
                continue
            }
            if let last = token.spelling.last, end < scalars.count, Kind(last).isWord, Kind(scalars[end]).isWord {
                continue
            }
            return (token.spelling.count, token.identifiers)
        }
        return nil
    }

    private enum Kind {
        case letter, number, space, other

        var isWord: Bool { self == .letter || self == .number }

        init(_ scalar: Unicode.Scalar) {
            switch scalar.properties.generalCategory {
            case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
            case .decimalNumber, .letterNumber, .otherNumber: self = .number
            default: self = scalar.properties.isWhitespace ? .space : .other
            }
        }
    }

    private static let contractions: [[Unicode.Scalar]] = ["s", "t", "re", "ve", "m", "ll", "d"].map {
        Array($0.unicodeScalars)
    }

    /// The text is in lower case already; of what open_clip's ignoring of case adds, only the long s is left.
    private func matches(_ literal: [Unicode.Scalar], in scalars: [Unicode.Scalar], at start: Int) -> Bool {
        guard literal.count <= scalars.count - start else { return false }
        return literal.indices.allSatisfy { offset in
            let scalar = scalars[start + offset]
            return (scalar == "\u{17F}" && cleaning == .openCLIP ? "s" : scalar) == literal[offset]
        }
    }

    /// Each library spells the two tokens its own way in text.
    private static func specialTokens(
        _ cleaning: Cleaning, start: Int32, end: Int32
    ) -> [(spelling: [Unicode.Scalar], identifier: Int32)] {
        let spellings =
            switch cleaning {
            case .openCLIP: ["<start_of_text>", "<end_of_text>"]
            case .transformers: ["<|startoftext|>", "<|endoftext|>"]
            }
        return zip(spellings, [start, end]).map { (Array($0.unicodeScalars), $1) }
    }

    private static func promptCleaning() throws(TokenizerError) -> PromptCleaning {
        if let known = knownCleaning.withLock({ $0 }) { return known }
        let name = "html-entities.txt"
        let cleaning = PromptCleaning(
            entities: try CharacterReferences(table: ModuleResource.bytes(of: name), source: name))
        knownCleaning.withLock { $0 = cleaning }
        return cleaning
    }

    /// Read once, as the merges are.
    private static let knownCleaning = Mutex<PromptCleaning?>(nil)

    /// The padding token named beside a vocabulary; without one, transformers pads with the end token.
    private static func paddingToken(
        of folder: URL, identifiers: [String: Int32]
    ) throws(TokenizerError) -> (spelling: String, identifier: Int32)? {
        struct Token: Decodable {
            var content: String

            init(from decoder: any Decoder) throws {
                if let text = try? decoder.singleValueContainer().decode(String.self) {
                    content = text
                } else {
                    content = try decoder.container(keyedBy: CodingKeys.self).decode(String.self, forKey: .content)
                }
            }

            enum CodingKeys: CodingKey { case content }
        }
        struct Configuration: Decodable {
            var padToken: Token?

            enum CodingKeys: String, CodingKey { case padToken = "pad_token" }
        }
        let names = try names(in: folder)
        for name in ["special_tokens_map.json", "tokenizer_config.json"] where names.contains(name) {
            let url = folder.appendingPathComponent(name)
            let configuration: Configuration
            do {
                configuration = try JSONDecoder().decode(Configuration.self, from: read(url))
            } catch let error as TokenizerError {
                throw error
            } catch {
                throw TokenizerError(
                    path: url.path, problem: "pad_token is neither a string nor an object with content: \(error)")
            }
            guard let token = configuration.padToken?.content else { continue }
            guard let identifier = identifiers[token] else {
                throw TokenizerError(path: url.path, problem: "pad_token '\(token)' is not in the vocabulary")
            }
            return (token, identifier)
        }
        return nil
    }
}
