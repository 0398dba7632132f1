import Checkpoint
import TensorEngine

/// A residual U-block (RSU; Qin et al. 2020, section 3.1): a small U-net whose result is added to its first convolution's.
///
/// All convolutions are 3 x 3, keep the size, and end in ReLU; batch normalisation is folded into them.
struct ResidualUBlock {
    private let engine: Engine
    /// Whether it keeps its size and dilates more at each level (RSU-4F), in place of pooling.
    private let isFlat: Bool
    private let entry: Weights
    /// Levels 1 to L - 1.
    private let encoder: [Weights]
    /// Level L.
    private let bottom: Weights
    /// Levels 1 to L - 1; the first gives the block's outer channels.
    private let decoder: [Weights]

    /// - Parameters:
    ///   - levels: L, the height of the U.
    ///   - inputs: channels of what comes in.
    ///   - middle: channels inside.
    ///   - outputs: channels of the result.
    init(
        _ scope: ParameterScope, _ maker: ConvolutionMaker, levels: Int, isFlat: Bool = false, inputs: Int,
        middle: Int = 16, outputs: Int = 64
    ) throws(EngineError) {
        func layer(_ name: String, _ inputs: Int, _ outputs: Int) throws(EngineError) -> Weights {
            try maker(scope["rebnconv\(name)"]["conv_s1"], inputs: inputs, outputs: outputs)
        }
        engine = maker.engine
        self.isFlat = isFlat
        entry = try layer("in", inputs, outputs)
        var (encoder, decoder): ([Weights], [Weights]) = ([], [])
        for level in 1..<levels {
            encoder.append(try layer("\(level)", level == 1 ? outputs : middle, middle))
            decoder.append(try layer("\(level)d", 2 * middle, level == 1 ? outputs : middle))
        }
        bottom = try layer("\(levels)", middle, middle)
        (self.encoder, self.decoder) = (encoder, decoder)
    }

    /// `[1, h, w, inputs]` to `[1, h, w, outputs]`.
    func callAsFunction(_ x: Tensor) throws(EngineError) -> Tensor {
        let sum = try rectified(x, entry)
        var skips: [Tensor] = []
        var features = sum
        for (level, layer) in encoder.enumerated() {
            if level > 0, !isFlat { features = try engine.maxPooled(features) }
            features = try rectified(features, layer, dilation: isFlat ? 1 << level : 1)
            skips.append(features)
        }
        features = try rectified(features, bottom, dilation: isFlat ? 1 << encoder.count : 2)
        while let skip = skips.popLast() {
            let level = skips.count
            let joined = try engine.joined(features, skip)
            features = try engine.product(joined, decoder[level], dilation: isFlat ? 1 << level : 1)
            if level > 0 { try engine.rectify(features) }
        }
        try engine.rectify(features, addingTo: sum)
        return sum
    }

    private func rectified(_ x: Tensor, _ layer: Weights, dilation: Int = 1) throws(EngineError) -> Tensor {
        let y = try engine.product(x, layer, dilation: dilation)
        try engine.rectify(y)
        return y
    }
}

extension Engine {
    /// The channels of `deeper`, resized to the size of `skip`, then those of `skip`.
    func joined(_ deeper: Tensor, _ skip: Tensor) throws(EngineError) -> Tensor {
        try concatenated(try resized(deeper, height: skip.shape[1], width: skip.shape[2]), skip, entries: [0])
    }
}

/// Makes convolutions that keep the size out of named parameters; the parameter store lists those that do not fit.
struct ConvolutionMaker {
    let engine: Engine

    /// `NAME.weight [outputs, inputs, kernel, kernel]` and `NAME.bias [outputs]`.
    func callAsFunction(
        _ scope: ParameterScope, inputs: Int, outputs: Int, kernel: Int = 3
    ) throws(EngineError) -> Weights {
        let weight = scope.take("weight", shape: [outputs, inputs, kernel, kernel])
        return try engine.weights(
            .convolution(kernel: kernel, stride: 1, padBegin: kernel / 2, padEnd: kernel / 2), inputs: inputs,
            outputs: outputs, bias: scope.take("bias", shape: [outputs]).floats()
        ) { weight.copyFloats(into: $0) }
    }
}
