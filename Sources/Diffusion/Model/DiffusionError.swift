import Checkpoint
import TensorEngine

/// Why a model could not be loaded or run.
public enum DiffusionError: Error, Sendable, CustomStringConvertible {
    /// A checkpoint cannot be read or does not hold this model.
    case checkpoint(CheckpointError)
    /// The engine could not do the work.
    case engine(EngineError)
    /// A configuration file says something impossible.
    case configuration(path: String, field: String, found: String, expected: String)
    /// A file that belongs to the program is missing or damaged.
    case resource(String)
    /// A schedule that cannot be run; `scope` stands before the option's name.
    case schedule(ScheduleError, path: String, scope: String)
    /// A prompt has a token that the model's tokenizer knows and its text encoder has no embedding of.
    case token(Int32, prompt: String, embeddings: Int)

    /// One message that names the file or field, what was found and what was expected.
    public var description: String {
        switch self {
        case .checkpoint(let error): "\(error)"
        case .engine(let error): "\(error)"
        case .configuration(let path, let field, let found, let expected):
            "\(path): \(field): found \(found), expected \(expected)"
        case .resource(let message): message
        case .schedule(let error, let path, let scope): "\(path): \(scope)\(error.field) \(error.problem)"
        case .token(let identifier, let prompt, let embeddings):
            "prompt '\(prompt)': found a token of id \(identifier), expected ids below \(embeddings), of which the text encoder "
                + "has embeddings; the tokenizer was made for another one"
        }
    }
}
