import Bytes
import Checkpoint
import Diffusion
import DreamCache
import Foundation
import Glibc
import Raster
import Spool
import TensorEngine
import Training
import Vision

/// Whose fault an error is, which decides what becomes of the job. This is the one place that says it.
extension RendererError {
    /// The case that an error of any module belongs to. An error of no module of ours counts as transient.
    init(_ error: any Error) {
        switch error {
        case let error as RendererError: self = error
        case let error as DreamCacheError: self.init(method: error)
        case let error as DiffusionError: self.init(model: error)
        case let error as CheckpointError: self.init(file: error)
        case let error as VisionError: self.init(vision: error)
        case let error as EngineError: self.init(engine: error)
        case let error as TrainingError: self.init(training: error)
        case let error as RasterError: self.init(picture: error)
        case let error as FileError: self.init(errno: error.code, "\(error.path): \(error.operation)")
        default: self = .transient(message: "\(error)")
        }
    }

    /// The failure of a system call.
    ///
    /// - Parameter code: the errno.
    init(errno code: Int32, _ operation: String) {
        let message = "\(operation): \(String(cString: strerror(code)))"
        self = Self.isMachine(code) ? .environment(message: message) : .transient(message: message)
    }

    /// Whether an errno tells of the machine and not of the file that was asked for.
    private static func isMachine(_ code: Int32) -> Bool {
        [
            ENOSPC, EDQUOT, EFBIG, EROFS, EIO, ESTALE, ETIMEDOUT, ENOMEM, EMFILE, ENFILE, EAGAIN, EINTR, ENOBUFS,
        ].contains(code)
    }

    private init(method error: DreamCacheError) {
        switch error {
        case .stopped: self = .stopped
        case .diffusion(let error): self.init(model: error)
        case .raster(let error): self.init(picture: error)
        case .vision(let error): self.init(vision: error)
        case .schedule(let schedule): self = .rejected(field: "$.\(schedule.field)", message: schedule.problem)
        case .request(let field, let found, let expected):
            self = .rejected(field: "$.\(field)", message: "found \(found), expected \(expected)")
        // The same request on the same weights gives the same again.
        case .notFinite: self = .rejected(field: nil, message: "\(error)")
        // Both are made anew by the next try.
        case .cache: self = .transient(message: "\(error)")
        case .preparedWeights: self = .environment(message: "\(error)")
        case .mismatch: self = .unavailable(message: "\(error)")
        }
    }

    private init(training error: TrainingError) {
        switch error {
        case .stopped: self = .stopped
        case .settings(let faults): self = .rejected(field: "$.settings", message: faults.joined(separator: "\n"))
        case .data(let faults): self = .rejected(field: "$.dataset", message: faults.joined(separator: "\n"))
        case .diverged: self = .rejected(field: nil, message: "\(error)")
        // Another process is at work with it.
        case .state(_, "lock", _, _): self = .environment(message: "\(error)")
        // Of another base, or damaged: what was trained so far is worth nothing for this one.
        case .state: self = .changed(message: "\(error)")
        case .model(let error): self.init(method: error)
        case .file(let error): self.init(error)
        }
    }

    private init(model error: DiffusionError) {
        switch error {
        case .checkpoint(let error): self.init(file: error)
        case .engine(let error): self.init(engine: error)
        case .configuration, .resource, .schedule: self = .unavailable(message: "\(error)")
        case .token: self = .rejected(field: nil, message: "\(error)")
        }
    }

    private init(vision error: VisionError) {
        switch error {
        case .stopped: self = .stopped
        case .checkpoint(let error): self.init(file: error)
        case .configuration(let error): self.init(model: error)
        case .engine(let error): self.init(engine: error)
        case .missing, .tokenizer, .unsupported, .size: self = .unavailable(message: "\(error)")
        }
    }

    private init(file error: CheckpointError) {
        switch error.cause {
        case .stopped: self = .stopped
        case .outOfMemory: self = .environment(message: "\(error)")
        case .system(let code) where Self.isMachine(code): self = .environment(message: "\(error)")
        case .system, .truncated, .malformed, .unsupported, .refused, .keys, .notFinite:
            self = .unavailable(message: "\(error)")
        }
    }

    private init(engine error: EngineError) {
        switch error {
        case .stopped: self = .stopped
        case .outOfMemory, .overLimit: self = .environment(message: "\(error)")
        // What oneDNN says where it gets no memory for code, or may not make it executable.
        case .oneDNN(_, let status) where ["out_of_memory", "runtime_error"].contains(status):
            self = .environment(message: "\(error)")
        case .oneDNN, .shapes, .unsupported: self = .unavailable(message: "\(error)")
        }
    }

    /// A picture at fault is named without its folders, which are the daemon's own.
    private init(picture error: RasterError) {
        if case .system(let code) = error.cause {
            self.init(errno: code, "\(error.place) \(error.path)")
            return
        }
        let name = URL(fileURLWithPath: error.path).lastPathComponent
        let clean = RasterError(
            path: name, cause: error.cause, place: error.place, found: error.found, expected: error.expected)
        // The field says the name already.
        self = .rejected(field: name, message: String("\(clean)".dropFirst(name.count + 2)))
    }
}
