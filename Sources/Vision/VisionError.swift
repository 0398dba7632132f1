import Checkpoint
import Diffusion
import TensorEngine

/// Why a network that looks at pictures could not be loaded or run.
public enum VisionError: Error, Sendable, CustomStringConvertible {
    /// A file of the installation is missing; it was looked for at these paths.
    case missing(name: String, candidates: [String])
    /// Its weights cannot be read, or are not the network's.
    case checkpoint(CheckpointError)
    /// A configuration beside its weights cannot be read, or says something impossible.
    case configuration(DiffusionError)
    /// Its tokenizer cannot be made.
    case tokenizer(TokenizerError)
    /// A file or folder that holds none of the networks that are known, or one that cannot do what is asked of it.
    case unsupported(path: String, found: String, expected: String)
    /// The engine cannot do the work.
    case engine(EngineError)
    /// Pixels that are not of the size a network takes.
    case size(found: String, expected: String)
    /// The caller's `shouldStop` said so.
    case stopped

    /// One message that names the file, what was found and what was expected.
    public var description: String {
        switch self {
        case .missing(let name, let candidates):
            "\(name): this file of the installation is missing; looked for \(candidates.joined(separator: " and "))"
        case .checkpoint(let error): "\(error)"
        case .configuration(let error): "\(error)"
        case .tokenizer(let error): "\(error)"
        case .unsupported(let path, let found, let expected): "\(path): found \(found), expected \(expected)"
        case .engine(let error): "\(error)"
        case .size(let found, let expected): "pixels: found \(found), expected \(expected)"
        case .stopped: "stopped on request"
        }
    }
}

/// Runs engine work inside functions that throw this module's error.
func onEngine<R>(_ body: () throws(EngineError) -> R) throws(VisionError) -> R {
    do { return try body() } catch { throw .engine(error) }
}

/// Reads a configuration inside functions that throw this module's error.
func onConfiguration<R>(_ body: () throws(DiffusionError) -> R) throws(VisionError) -> R {
    do { return try body() } catch { throw .configuration(error) }
}
