import Checkpoint
import TensorEngine

/// Makes layers of one network out of named parameters. The names are LDM's; other layouts are renamed before they come
/// here. Shapes are checked by the parameter store, which lists all that do not fit in one error at the end.
public struct LayerMaker {
    let engine: Engine

    /// A maker of layers for one engine.
    public init(engine: Engine) { self.engine = engine }

    /// `NAME.weight [outputs, inputs]`, or the same numbers as a 1x1 convolution; `NAME.bias [outputs]` where `bias`.
    public func linear(
        _ scope: ParameterScope, inputs: Int, outputs: Int, bias: Bool = true
    ) throws(EngineError) -> Weights {
        let weight = scope.take("weight", shape: [outputs, inputs], orShape: [outputs, inputs, 1, 1])
        return try engine.weights(
            .linear, inputs: inputs, outputs: outputs,
            bias: bias ? scope.take("bias", shape: [outputs]).floats() : nil, name: scope.prefix + "weight"
        ) { weight.copyFloats(into: $0) }
    }

    /// Several maps of one input as one product; the outputs lie side by side. All have a bias where `bias`, or none.
    public func fused(
        _ scopes: [ParameterScope], inputs: Int, outputs: Int, bias: Bool = false
    ) throws(EngineError) -> Weights {
        let weights = scopes.map { $0.take("weight", shape: [outputs, inputs]) }
        return try engine.weights(
            .linear, inputs: inputs, outputs: outputs * scopes.count,
            bias: bias ? scopes.flatMap { $0.take("bias", shape: [outputs]).floats() } : nil,
            name: scopes.map { $0.prefix + "weight" }.joined(separator: "+")
        ) { buffer in
            for (index, weight) in weights.enumerated() {
                let part = index * outputs * inputs..<(index + 1) * outputs * inputs
                weight.copyFloats(into: UnsafeMutableBufferPointer(rebasing: buffer[part]))
            }
        }
    }

    /// `NAME.weight [outputs, inputs, kernel, kernel]`, `NAME.bias [outputs]`; zeros around so that stride 1 keeps the size.
    public func convolution(
        _ scope: ParameterScope, inputs: Int, outputs: Int, kernel: Int = 3, stride: Int = 1, padBegin: Int? = nil
    ) throws(EngineError) -> Weights {
        let weight = scope.take("weight", shape: [outputs, inputs, kernel, kernel])
        let kind = ProductKind.convolution(
            kernel: kernel, stride: stride, padBegin: padBegin ?? kernel / 2, padEnd: kernel / 2)
        return try engine.weights(
            kind, inputs: inputs, outputs: outputs, bias: scope.take("bias", shape: [outputs]).floats(),
            name: scope.prefix + "weight"
        ) { weight.copyFloats(into: $0) }
    }

    /// `NAME.weight [channels]`, `NAME.bias [channels]` of a normalisation.
    public func norm(_ scope: ParameterScope, channels: Int) throws(EngineError) -> NormWeights {
        try NormWeights(
            weight: scope.take("weight", shape: [channels]).floats(),
            bias: scope.take("bias", shape: [channels]).floats(), engine: engine)
    }
}
