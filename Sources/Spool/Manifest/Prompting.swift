/// What becomes of a prompt that is longer than the text encoder reads at once.
public enum PromptMode: String, Sendable, CaseIterable, Codable {
    /// The rest is not read, as in diffusers.
    case truncate
    /// It is read in chunks of 75 tokens.
    case chunks
}

/// Whether brackets in a prompt mean something.
public enum PromptSyntax: String, Sendable, CaseIterable, Codable {
    /// They are text.
    case plain
    /// `(word:1.3)`, `(word)` and `[word]` are weights, as AUTOMATIC1111's web UI reads them.
    case weighted
}

/// A weight over the steps of a run: `start` up to `from`, `end` after `to`, and on the straight line between.
public struct ImageScale: Sendable, Hashable, Codable {
    /// The weight up to `from`.
    public var start: Double
    /// The weight after `to`.
    public var end: Double
    /// Where it begins to change, as a fraction of the run.
    public var from: Double
    /// Where it has become `end`, as a fraction of the run.
    public var to: Double

    /// A weight that changes.
    public init(start: Double, end: Double, from: Double = 0, to: Double = 1) {
        self.start = start
        self.end = end
        self.from = from
        self.to = to
    }

    /// One weight for the whole run.
    public init(_ weight: Double) { self.init(start: weight, end: weight) }

    /// As a manifest has it: a number, or an object.
    public var json: JSON {
        if start == end { return .number(start) }
        return .object([
            "start": .number(start), "end": .number(end), "from": .number(from), "to": .number(to),
        ])
    }

    /// As one word, for text: `0.4`, or `0.8-0.2`.
    public var text: String {
        [start, end].prefix(start == end ? 1 : 2).map { JSON.number($0).text(pretty: false) }.joined(separator: "-")
    }

    /// From a document that followed ``schema``.
    init(checked value: JSON) {
        let number = value.number ?? 0
        self.init(
            start: value["start"]?.number ?? number, end: value["end"]?.number ?? number,
            from: value["from"]?.number ?? 0, to: value["to"]?.number ?? 1)
    }

    /// What stands in place of a weight that a pilot is to choose.
    public static let auto = "auto"

    static let schema: Schema = {
        let scale = Schema.number(0...100)
        return .either(
            scale,
            .object([
                .init("start", scale, required: true, "The weight up to 'from'."),
                .init("end", scale, required: true, "The weight after 'to'."),
                .init("from", .number(0...1), default: .number(0), "Where it begins to change, a fraction of the run."),
                .init("to", .number(0...1), default: .number(1), "Where it is 'end', a fraction of the run."),
            ]))
    }()
}

extension ImageScale: ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral {
    /// One weight for the whole run.
    public init(floatLiteral value: Double) { self.init(value) }
    /// One weight for the whole run.
    public init(integerLiteral value: Int) { self.init(Double(value)) }
}
