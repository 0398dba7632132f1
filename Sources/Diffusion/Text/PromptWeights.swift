/// The weights that AUTOMATIC1111's web UI reads from brackets.
///
/// `(text)` is 1.1 times its weight, `[text]` 1 / 1.1 times, `(text:1.3)` 1.3 times; brackets nest, and their factors
/// multiply. A backslash before a bracket or another backslash makes it text. What is opened and never closed reaches to the
/// end; what closes nothing is text.
///
/// Source: AUTOMATIC1111 `modules/prompt_parser.py`, `parse_prompt_attention`.
enum PromptWeights {
    /// A piece of text of one weight.
    struct Fragment: Equatable {
        var text: String
        var weight: Double
    }

    private static let factor = 1.1

    /// The fragments of a prompt, neighbours of one weight joined; at least one.
    static func parse(_ prompt: String) -> [Fragment] {
        var fragments: [Fragment] = []
        var round: [Int] = []
        var square: [Int] = []
        func multiply(from first: Int, by factor: Double) {
            for index in first..<fragments.count { fragments[index].weight *= factor }
        }
        func append(_ character: Character) { fragments.append(Fragment(text: String(character), weight: 1)) }
        var rest = Substring(prompt)
        while let character = rest.popFirst() {
            switch character {
            case "\\":
                if let next = rest.first, "()[]\\".contains(next) { append(rest.removeFirst()) }
            case "(": round.append(fragments.count)
            case "[": square.append(fragments.count)
            case ")" where !round.isEmpty: multiply(from: round.removeLast(), by: factor)
            case "]" where !square.isEmpty: multiply(from: square.removeLast(), by: 1 / factor)
            case ":":
                if let (weight, after) = weight(before: rest), let first = round.popLast() {
                    multiply(from: first, by: weight)
                    rest = after
                } else {
                    append(character)
                }
            default: append(character)
            }
        }
        for first in round { multiply(from: first, by: factor) }
        for first in square { multiply(from: first, by: 1 / factor) }
        return joined(fragments)
    }

    /// A number and the bracket behind it, `1.3)`, with white space around the number.
    private static func weight(before text: Substring) -> (Double, after: Substring)? {
        guard let end = text.firstIndex(of: ")") else { return nil }
        let number = text[..<end].drop(while: \.isWhitespace)
        let digits = number.prefix { !$0.isWhitespace }
        guard number.dropFirst(digits.count).allSatisfy(\.isWhitespace),
            digits.allSatisfy({ "+-.0123456789".contains($0) }), let weight = Double(digits)
        else { return nil }
        return (weight, text[text.index(after: end)...])
    }

    private static func joined(_ fragments: [Fragment]) -> [Fragment] {
        var joined: [Fragment] = []
        for fragment in fragments {
            if let last = joined.indices.last, joined[last].weight == fragment.weight {
                joined[last].text += fragment.text
            } else {
                joined.append(fragment)
            }
        }
        return joined.isEmpty ? [Fragment(text: "", weight: 1)] : joined
    }
}
