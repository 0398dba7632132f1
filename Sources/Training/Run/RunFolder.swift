import Bytes
import Foundation
import Glibc

/// The folder of a run: its state, its log, and what was prepared for it. One process at a time works in it.
final class RunFolder {
    let path: String
    private let lock: Int32

    /// Makes the folder where it is not there, and takes it.
    /// - Throws: `TrainingError.state` where another run is at work in it.
    init(_ path: String) throws(TrainingError) {
        self.path = path
        try makeFolder(path)
        lock = open("\(path)/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard lock >= 0 else { throw .file(.current("open", "\(path)/lock")) }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            close(lock)
            throw .state(path: path, field: "lock", found: "a run at work in it", expected: "a folder of its own")
        }
    }

    deinit { close(lock) }

    var state: String { "\(path)/state.safetensors" }
    var log: String { "\(path)/train.jsonl" }
    func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Whether there is a state to go on from. A state that cannot be looked at is an error, or a run would begin anew over it.
    func hasState() throws(TrainingError) -> Bool {
        try onFiles { () throws(FileError) in try FilePresence.of(state) } != .nothing
    }
}
