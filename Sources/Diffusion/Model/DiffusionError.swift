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

    /// One message that names the file or field, what was found and what was expected.
    public var description: String {
        switch self {
        case .checkpoint(let error): "\(error)"
        case .engine(let error): "\(error)"
        case .configuration(let path, let field, let found, let expected):
            "\(path): \(field): found \(found), expected \(expected)"
        case .resource(let message): message
        }
    }
}
