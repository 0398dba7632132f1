import TensorEngine

/// The way back through a part of a network: of the gradient by its result, the gradient by its input, both float32. It
/// holds what forward kept for it, and adds the gradients of trained parameters where they are collected.
struct Backward {
    private let run: (_ gradient: Tensor) throws(EngineError) -> Tensor

    init(_ run: @escaping (_ gradient: Tensor) throws(EngineError) -> Tensor) { self.run = run }

    func callAsFunction(_ gradient: Tensor) throws(EngineError) -> Tensor { try run(gradient) }
}

/// What a part of a network computes, and its way back.
struct Differentiable {
    let result: Tensor
    let backward: Backward

    init(_ result: Tensor, backward: @escaping (_ gradient: Tensor) throws(EngineError) -> Tensor) {
        self.result = result
        self.backward = Backward(backward)
    }
}

/// What a pass forward keeps for the way back.
public enum KeptForBackward: String, CaseIterable, Sendable {
    /// All that the way back reads: the quickest.
    case everything
    /// The input of each block, whose forward runs again on the way back: more work, less memory.
    case inputs
}

extension KeptForBackward {
    /// Runs a part forward, and keeps what this setting says.
    func run(
        _ x: Tensor, _ part: @escaping (Tensor) throws(EngineError) -> Differentiable
    ) throws(EngineError) -> Differentiable {
        let whole = try part(x)
        switch self {
        case .everything: return whole
        case .inputs:
            return Differentiable(whole.result) { gradient throws(EngineError) in
                try part(x).backward(gradient)
            }
        }
    }
}
