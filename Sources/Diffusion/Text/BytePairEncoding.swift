/// Byte-level byte-pair encoding as CLIP uses it.
///
/// Source: Sennrich et al. 2016 (merges by rank); OpenAI CLIP `simple_tokenizer.py` (bytes as printable characters, the
/// suffix `</w>` on a word's last symbol). Proved by `Tests/Fixtures/tokens`.
struct BytePairEncoding: Sendable {
    /// A symbol as the merges file spells it, in UTF-8.
    struct Symbol: Hashable, Sendable {
        var spelling: ArraySlice<UInt8>

        func hash(into hasher: inout Hasher) {
            spelling.withUnsafeBytes { hasher.combine(bytes: $0) }
        }
    }

    private struct Merge {
        var rank: UInt32
        var result: Int32
    }

    private struct Pair: Hashable {
        var left: Int32
        var right: Int32
    }

    /// Stands for a byte the vocabulary has no symbol for; no merge contains it.
    private static let unknown: Int32 = -1

    private let merges: [Pair: Merge]
    private let inside: [Int32]
    private let last: [Int32]
    /// The id written for a byte that the vocabulary cannot spell.
    let unknownIdentifier: Int32

    static let endOfWord = Array("</w>".utf8)

    /// CLIP's order of the 256 bytes: the printable ones of Latin-1 first, as themselves, then the rest as U+0100...
    static let alphabet: [(byte: UInt8, spelling: [UInt8])] = {
        let printable = Array(UInt8(33)...126) + Array(UInt8(161)...172) + Array(UInt8(174)...255)
        let hidden = (UInt8.min...UInt8.max).filter { !printable.contains($0) }
        return printable.map { ($0, Array(String(Unicode.Scalar($0)).utf8)) }
            + hidden.enumerated().map { index, byte in
                // U+0100 + index, index < 68: two bytes of UTF-8.
                (byte, [0xC4 + UInt8(index >> 6), 0x80 + UInt8(index & 63)])
            }
    }()

    /// The vocabulary that a merges file implies: 256 bytes, the same at a word's end, then each merge's result in order.
    static func impliedVocabulary(merges: [(left: Symbol, right: Symbol)]) -> [Symbol: Int32] {
        var vocabulary: [Symbol: Int32] = [:]
        vocabulary.reserveCapacity(512 + merges.count)
        for (index, entry) in alphabet.enumerated() {
            vocabulary[Symbol(spelling: entry.spelling[...])] = Int32(index)
            vocabulary[Symbol(spelling: (entry.spelling + endOfWord)[...])] = Int32(256 + index)
        }
        for (index, merge) in merges.enumerated() {
            vocabulary[Symbol(spelling: merge.left.spelling + merge.right.spelling)] = Int32(512 + index)
        }
        return vocabulary
    }

    /// - Parameter unknown: the id written for a byte that `vocabulary` cannot spell.
    /// - Throws: the first merge one of whose three symbols the vocabulary lacks.
    init(
        merges pairs: [(left: Symbol, right: Symbol)], vocabulary: [Symbol: Int32], unknown: Int32, source: String
    ) throws(TokenizerError) {
        var merges: [Pair: Merge] = [:]
        merges.reserveCapacity(pairs.count)
        for (rank, pair) in pairs.enumerated() {
            let joined = Symbol(spelling: pair.left.spelling + pair.right.spelling)
            guard let left = vocabulary[pair.left], let right = vocabulary[pair.right], let result = vocabulary[joined]
            else {
                throw TokenizerError(
                    path: source,
                    problem:
                        "merge \(rank + 1), '\(Self.text(pair.left)) \(Self.text(pair.right))', uses or makes a token "
                        + "that the vocabulary does not have")
            }
            let key = Pair(left: left, right: right)
            if merges[key] == nil { merges[key] = Merge(rank: UInt32(rank), result: result) }
        }
        self.merges = merges
        unknownIdentifier = unknown
        var inside = [Int32](repeating: Self.unknown, count: 256)
        var last = inside
        for entry in Self.alphabet {
            inside[Int(entry.byte)] = vocabulary[Symbol(spelling: entry.spelling[...])] ?? Self.unknown
            last[Int(entry.byte)] = vocabulary[Symbol(spelling: (entry.spelling + Self.endOfWord)[...])] ?? Self.unknown
        }
        self.inside = inside
        self.last = last
    }

    private static func text(_ symbol: Symbol) -> String { String(decoding: symbol.spelling, as: UTF8.self) }

    /// The merges of a file: one per line, two symbols separated by a space; a first line `#version...` is skipped.
    static func parse(merges bytes: [UInt8], source: String) throws(TokenizerError) -> [(left: Symbol, right: Symbol)] {
        var merges: [(left: Symbol, right: Symbol)] = []
        merges.reserveCapacity(bytes.count / 10)
        var start = 0
        var number = 0
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
            var line = bytes[start..<end]
            start = end + 1
            number += 1
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if line.isEmpty || (number == 1 && line.starts(with: Array("#version".utf8))) { continue }
            guard let space = line.firstIndex(of: UInt8(ascii: " ")), space > line.startIndex,
                space + 1 < line.endIndex,
                !line[(space + 1)...].contains(UInt8(ascii: " "))
            else {
                throw TokenizerError(
                    path: source,
                    problem: "line \(number) is '\(String(decoding: line.prefix(60), as: UTF8.self))'; "
                        + "expected two symbols separated by one space")
            }
            merges.append((Symbol(spelling: line[..<space]), Symbol(spelling: line[(space + 1)...])))
        }
        return merges
    }

    /// Appends the ids of one word. Time is n log n in the word's bytes, so a megabyte without a space is harmless.
    func encode(_ word: some Collection<UInt8>, into identifiers: inout [Int32]) {
        var symbols = word.map { inside[Int($0)] }
        guard let final = word.reversed().first else { return }
        symbols[symbols.count - 1] = last[Int(final)]

        // A linked list of live symbols; a merge keeps the left node and unlinks the right one.
        var next = Array(1...symbols.count)
        var previous = Array(-1..<(symbols.count - 1))
        var live = [Bool](repeating: true, count: symbols.count)
        var queue = MinimumHeap()

        func merge(at position: Int) -> Merge? {
            guard live[position], next[position] < symbols.count else { return nil }
            return merges[Pair(left: symbols[position], right: symbols[next[position]])]
        }
        func enqueue(_ position: Int) {
            if let merge = merge(at: position) { queue.push(UInt64(merge.rank) << 32 | UInt64(position)) }
        }

        for position in symbols.indices { enqueue(position) }
        while let candidate = queue.pop() {
            let position = Int(candidate & 0xFFFF_FFFF)
            // The pair may have changed since it was queued; what replaced it was queued then.
            guard let merge = merge(at: position), UInt64(merge.rank) == candidate >> 32 else { continue }
            let absorbed = next[position]
            symbols[position] = merge.result
            live[absorbed] = false
            next[position] = next[absorbed]
            if next[position] < symbols.count { previous[next[position]] = position }
            enqueue(position)
            if previous[position] >= 0 { enqueue(previous[position]) }
        }
        for position in symbols.indices where live[position] {
            identifiers.append(symbols[position] == Self.unknown ? unknownIdentifier : symbols[position])
        }
    }
}

/// A binary heap of keys, smallest first.
private struct MinimumHeap {
    private var keys: [UInt64] = []

    mutating func push(_ key: UInt64) {
        keys.append(key)
        var child = keys.count - 1
        while child > 0, keys[child] < keys[(child - 1) / 2] {
            keys.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func pop() -> UInt64? {
        guard let smallest = keys.first, let moved = keys.popLast() else { return nil }
        if keys.isEmpty { return smallest }
        keys[0] = moved
        var parent = 0
        while true {
            var child = 2 * parent + 1
            if child >= keys.count { break }
            if child + 1 < keys.count, keys[child + 1] < keys[child] { child += 1 }
            if keys[parent] <= keys[child] { break }
            keys.swapAt(parent, child)
            parent = child
        }
        return smallest
    }
}
