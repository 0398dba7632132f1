import Bytes
import Checkpoint
import Diffusion
import DreamCache
import Foundation
import Raster
import TensorEngine

/// Why a run cannot begin, or ended before its last step.
public enum TrainingError: Error, Sendable, CustomStringConvertible {
    /// Settings that are wrong: all of them, a line each.
    case settings([String])
    /// A data set that cannot be trained on: all that is wrong with it, a line each.
    case data([String])
    /// A state that is damaged, or of another run.
    case state(path: String, field: String, found: String, expected: String)
    /// The loss is no number, or has risen beyond all bounds; the last good state is kept.
    case diverged(step: Int, found: String, expected: String)
    /// The model cannot be loaded or run.
    case model(DreamCacheError)
    /// A file cannot be read or written.
    case file(FileError)
    /// The caller's `shouldStop` said so.
    case stopped

    /// One line, or one for each fault.
    public var description: String {
        switch self {
        case .settings(let faults), .data(let faults): faults.joined(separator: "\n")
        case .state(let path, let field, let found, let expected):
            "\(path): \(field): found \(found), expected \(expected)"
        case .diverged(let step, let found, let expected): "step \(step): found \(found), expected \(expected)"
        case .model(let error): "\(error)"
        case .file(let error): "\(error)"
        case .stopped: "stopped on request"
        }
    }

    init(_ error: DreamCacheError) {
        if case .stopped = error { self = .stopped } else { self = .model(error) }
    }

    init(_ error: EngineError) {
        if case .stopped = error { self = .stopped } else { self = .model(.diffusion(.engine(error))) }
    }
}

/// Runs engine work inside functions that throw this module's error.
func onEngine<R>(_ body: () throws(EngineError) -> R) throws(TrainingError) -> R {
    do { return try body() } catch { throw TrainingError(error) }
}

/// Runs the method's work inside functions that throw this module's error.
func onMethod<R>(_ body: () throws(DreamCacheError) -> R) throws(TrainingError) -> R {
    do { return try body() } catch { throw TrainingError(error) }
}

/// Runs work on files inside functions that throw this module's error.
func onFiles<R>(_ body: () throws(FileError) -> R) throws(TrainingError) -> R {
    do { return try body() } catch { throw .file(error) }
}

/// Runs work on pictures inside functions that throw this module's error.
func onPictures<R>(_ body: () throws(RasterError) -> R) throws(TrainingError) -> R {
    do { return try body() } catch { throw .model(.raster(error)) }
}

/// Makes a folder, and those above it, where it is not there.
func makeFolder(_ path: String) throws(TrainingError) {
    do { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) } catch {
        throw .file(FileError(operation: "mkdir", path: path, code: EIO, expected: error.localizedDescription))
    }
}

/// Runs work on checkpoints inside functions that throw this module's error.
func onCheckpoint<R>(_ body: () throws(CheckpointError) -> R) throws(TrainingError) -> R {
    do { return try body() } catch { throw .model(.diffusion(.checkpoint(error))) }
}
