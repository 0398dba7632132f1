/// What can go wrong in the engine: a model whose shapes do not fit together, or a machine that cannot do the work.
public enum EngineError: Error, Sendable, CustomStringConvertible {
    /// Operands of an operation do not fit together.
    case shapes(operation: String, found: [[Int]], expected: String)
    /// oneDNN refused; `status` is its own name for the reason.
    case oneDNN(operation: String, status: String)
    /// No memory for a tensor.
    case outOfMemory(byteCount: Int)
    /// A tensor or weights for which ``Engine/memoryLimit`` leaves no room.
    case overLimit(byteCount: Int, held: Int, limit: Int)
    /// ``Engine/interruption`` said so.
    case stopped
    /// This CPU cannot run the path that was asked for.
    case unsupported(path: ComputePath, reason: String)

    /// One line that names the operation, what was found and what was expected.
    public var description: String {
        switch self {
        case .shapes(let operation, let found, let expected):
            "\(operation): found shapes \(found.map(String.init(describing:)).joined(separator: " and ")), expected \(expected)"
        case .oneDNN(let operation, let status): "\(operation): oneDNN says \(status)"
        case .outOfMemory(let byteCount): "no memory for \(byteCount) bytes"
        case .overLimit(let byteCount, let held, let limit):
            "no room for \(byteCount >> 20) MB: \(held >> 20) MB are in use of \(limit >> 20) MB that "
                + "the memory limit leaves for the model"
        case .stopped: "stopped on request"
        case .unsupported(let path, let reason): "compute path \(path.rawValue) is not possible here: \(reason)"
        }
    }
}
