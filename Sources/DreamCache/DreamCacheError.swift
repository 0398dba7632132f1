import Checkpoint
import Diffusion
import Raster
import TensorEngine
import Vision

/// Why a cache could not be made or used, or an image not generated.
public enum DreamCacheError: Error, Sendable, CustomStringConvertible {
    /// The model cannot be loaded or run.
    case diffusion(DiffusionError)
    /// A picture cannot be read or written.
    case raster(RasterError)
    /// A photo cannot be cut out.
    case vision(VisionError)
    /// A schedule is impossible.
    case schedule(ScheduleError)
    /// A file (a `.dcache`, an adapter) cannot be read, or does not belong to the model.
    case mismatch(path: String, field: String, found: String, expected: String)
    /// A request asks for something this model or program cannot do.
    case request(field: String, found: String, expected: String)
    /// The caller's `shouldStop` said so.
    case stopped

    /// One message that names the file or field, what was found and what was expected.
    public var description: String {
        switch self {
        case .diffusion(let error): "\(error)"
        case .raster(let error): "\(error)"
        case .vision(let error): "\(error)"
        case .schedule(let error): "\(error)"
        case .mismatch(let path, let field, let found, let expected):
            "\(path): \(field): found \(found), expected \(expected)"
        case .request(let field, let found, let expected): "\(field): found \(found), expected \(expected)"
        case .stopped: "stopped on request"
        }
    }
}

/// Runs a network that looks at pictures inside functions that throw this module's error.
func onVision<R>(_ body: () throws(VisionError) -> R) throws(DreamCacheError) -> R {
    do { return try body() } catch {
        switch error {
        case .stopped: throw .stopped
        case .engine(let error): throw .diffusion(.engine(error))
        default: throw .vision(error)
        }
    }
}

/// Runs engine work inside functions that throw this module's error.
func onEngine<R>(_ body: () throws(EngineError) -> R) throws(DreamCacheError) -> R {
    do { return try body() } catch { throw .diffusion(.engine(error)) }
}

/// Runs model work inside functions that throw this module's error.
func onModel<R>(_ body: () throws(DiffusionError) -> R) throws(DreamCacheError) -> R {
    do { return try body() } catch { throw .diffusion(error) }
}
