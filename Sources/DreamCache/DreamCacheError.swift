import Bytes
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
    /// A `.dcache` is damaged, missing, or does not belong to the model; it can be made again.
    case cache(path: String, field: String, found: String, expected: String)
    /// A file of prepared weights was damaged while it was in use; it is made again.
    case preparedWeights(path: String, found: String)
    /// What was computed is no number: the weights are damaged, or the settings drive the model beyond all bounds.
    case notFinite(what: String, found: String)
    /// A file (an adapter, say) cannot be read, or does not belong to the model.
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
        case .notFinite(let what, let found): "\(what) is not finite (\(found))"
        case .preparedWeights(let path, let found): "\(path): prepared weights: found \(found); they are made again"
        case .mismatch(let path, let field, let found, let expected),
            .cache(let path, let field, let found, let expected):
            "\(path): \(field): found \(found), expected \(expected)"
        case .request(let field, let found, let expected): "\(field): found \(found), expected \(expected)"
        case .stopped: "stopped on request"
        }
    }
}

extension DreamCacheError {
    /// The error of a model's work.
    init(_ error: DiffusionError) {
        switch error {
        case .engine(.stopped): self = .stopped
        case .checkpoint(let error) where error.cause == .stopped: self = .stopped
        default: self = .diffusion(error)
        }
    }

    /// Throws where there is a number that is none.
    static func checkFinite(
        _ values: [Float], _ what: @autoclosure () -> String
    ) throws(DreamCacheError) {
        guard let value = values.first(where: { !$0.isFinite }) else { return }
        throw .notFinite(what: what(), found: nameOfNonFinite(value))
    }
}

/// Runs work on files inside functions that throw this module's error.
func onFile<R>(_ body: () throws(FileError) -> R) throws(DreamCacheError) -> R {
    do { return try body() } catch { throw .diffusion(.checkpoint(CheckpointError(error))) }
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
    do { return try body() } catch { throw DreamCacheError(.engine(error)) }
}

/// Runs model work inside functions that throw this module's error.
func onModel<R>(_ body: () throws(DiffusionError) -> R) throws(DreamCacheError) -> R {
    do { return try body() } catch { throw DreamCacheError(error) }
}
