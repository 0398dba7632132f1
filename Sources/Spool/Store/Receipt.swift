/// The spool's answer to a drop: `receipts/<dropped name>.json`.
public struct Receipt: Sendable, Equatable {
    /// What became of the drop.
    public enum State: String, Sendable, CaseIterable {
        /// Taken.
        case accepted
        /// Taken, and waits for something the message names.
        case waiting
        /// Refused; the message and faults say why, `keptAt` where the drop is now.
        case rejected
    }

    /// What kind of drop it was.
    public enum Kind: String, Sendable, CaseIterable {
        /// A manifest.
        case job
        /// Reference images.
        case references
        /// A data set.
        case dataset
        /// `<job>.cancel` or `<job>.retry`.
        case request
    }

    /// The dropped name; bytes that are not plain are percent-encoded.
    public var drop: String
    /// The kind.
    public var kind: Kind
    /// The state.
    public var state: State
    /// Id of the drop: for a job that was accepted, the job's.
    public var id: JobID
    /// The subject's name, for references.
    public var subject: String?
    /// Which of the subject's generations these references are.
    public var generation: Int?
    /// What happened, in a sentence.
    public var message: String
    /// The faults of a manifest.
    public var faults: [ManifestError.Fault] = []
    /// What the author of an accepted manifest should know: a prompt that is cut, for instance.
    public var notes: [String] = []
    /// Where a refused drop, or the part of it that was not used, is kept; relative to the spool.
    public var keptAt: String?
    /// When this was written.
    public var time: String

    /// The receipt as it is written.
    public var json: JSON {
        .object([
            "drop": .string(drop), "kind": .string(kind.rawValue), "state": .string(state.rawValue),
            "id": .string(id.text), "subject": subject.map { .string($0) },
            "generation": generation.map { .integer($0) },
            "message": .string(message),
            "faults": faults.isEmpty
                ? nil
                : .array(
                    faults.map {
                        .object([
                            "path": .string($0.path), "line": .integer($0.line), "column": .integer($0.column),
                            "byte": .integer($0.byte), "found": .string($0.found), "expected": .string($0.expected),
                        ])
                    }),
            "notes": notes.isEmpty ? nil : .array(notes.map { .string($0) }),
            "kept_at": keptAt.map { .string($0) }, "time": .string(time),
        ])
    }

    /// The receipt read back; nil when it is none.
    public init?(_ json: JSON) {
        guard let drop = json["drop"]?.string, let kind = json["kind"]?.string.flatMap(Kind.init(rawValue:)),
            let state = json["state"]?.string.flatMap(State.init(rawValue:)),
            let id = json["id"]?.string.flatMap(JobID.init), let message = json["message"]?.string,
            let time = json["time"]?.string
        else { return nil }
        self.init(drop: drop, kind: kind, state: state, id: id, message: message, time: time)
        subject = json["subject"]?.string
        generation = json["generation"]?.integer
        keptAt = json["kept_at"]?.string
        notes = json["notes"]?.array?.compactMap(\.string) ?? []
        faults = (json["faults"]?.array ?? []).compactMap { fault in
            guard let path = fault["path"]?.string, let line = fault["line"]?.integer,
                let column = fault["column"]?.integer, let byte = fault["byte"]?.integer,
                let found = fault["found"]?.string, let expected = fault["expected"]?.string
            else { return nil }
            return ManifestError.Fault(
                path: path, line: line, column: column, byte: byte, found: found, expected: expected)
        }
    }

    init(drop: String, kind: Kind, state: State, id: JobID, message: String, time: String) {
        self.drop = drop
        self.kind = kind
        self.state = state
        self.id = id
        self.message = message
        self.time = time
    }

    /// The JSON Schema's source.
    public static let schema = Schema.object([
        .init("drop", .string(), required: true, "The dropped name."),
        .init("kind", .choice(Kind.allCases.map(\.rawValue)), required: true, "What was dropped."),
        .init("state", .choice(State.allCases.map(\.rawValue)), required: true, "What became of it."),
        .init("id", .string(pattern: .name), required: true, "Id of the drop; for an accepted job, the job's."),
        .init("subject", .string(), "The subject, for references."),
        .init("generation", .integer(1...Int.max), "Which of the subject's generations these references are."),
        .init("message", .string(), required: true, "What happened, in a sentence."),
        .init(
            "faults",
            .array(
                of: .object([
                    .init("path", .string(), required: true, "JSON path."),
                    .init("line", .integer(1...Int.max), required: true, "Line, from 1."),
                    .init("column", .integer(0...Int.max), required: true, "Column in bytes, from 1."),
                    .init("byte", .integer(0...Int.max), required: true, "Offset in bytes."),
                    .init("found", .string(), required: true, "What stands there."),
                    .init("expected", .string(), required: true, "What should."),
                ]), count: 1...20), "The faults of a manifest."),
        .init("notes", .array(of: .string(), count: 1...10_001), "What to know of a manifest that was accepted."),
        .init("kept_at", .string(), "Where what was not used is kept, relative to the spool."),
        .init("time", .string(), required: true, "When this was written, UTC."),
    ])
}
