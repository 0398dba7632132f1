import Checkpoint
import Diffusion
import TensorEngine

/// A vision transformer (Dosovitskiy et al. 2021): the patches of a picture, and a token whose state at the end is what the
/// network has to say of the whole.
///
/// Golden: Tests/Fixtures/encoders.
struct VisionTransformer {
    /// Sizes that the parameters' shapes or a configuration tell.
    struct Geometry {
        /// Channels of the tokens.
        var width: Int
        /// Transformer blocks.
        var layers: Int
        /// Attention heads of a block.
        var heads: Int
        /// Channels inside the blocks' feed-forward part.
        var hiddenSize: Int
        /// Side of a patch, in pixels.
        var patch: Int
        /// Patches of a side of the pictures it was trained on.
        var grid: Int
        /// Numbers of the result, where it is projected.
        var projected: Int?
        /// Added to the variance by the normalisations.
        var epsilon: Float
        /// Of the feed-forward part.
        var activation: Activation
    }

    private struct Block {
        let norm1, norm2: NormWeights
        let qkv, out, mlpIn, mlpOut: Weights
    }

    let geometry: Geometry
    private let engine: Engine
    private let patches: Weights
    private let classToken: [Float]
    private let positions: PositionTable
    private let preNorm: NormWeights?
    private let blocks: [Block]
    private let finalNorm: NormWeights
    private let projection: Weights?

    /// - Parameters:
    ///   - side: of the pictures it will see, in pixels.
    ///   - fitting: of its positions to as many patches.
    init(
        _ scope: ParameterScope, names: EncoderNames, _ geometry: Geometry, side: Int, fitting: PositionTable.Fitting,
        engine: Engine
    ) throws(EngineError) {
        let c = geometry.width
        let (layers, linear) = (LayerMaker(engine: engine), LinearMaker(engine: engine))
        self.engine = engine
        self.geometry = geometry
        let kernel = scope.take(names.patch + ".weight", shape: [c, 3, geometry.patch, geometry.patch])
        patches = try engine.weights(
            .linear, inputs: 3 * geometry.patch * geometry.patch, outputs: c,
            bias: names.patchHasBias ? scope.take(names.patch + ".bias", shape: [c]).floats() : nil
        ) { kernel.copyFloats(into: $0) }
        classToken = scope.take(names.classToken, shape: [c], orShape: [1, 1, c]).floats()
        let rows = 1 + geometry.grid * geometry.grid
        positions = PositionTable(
            values: scope.take(names.positions, shape: [rows, c], orShape: [1, rows, c]).floats(), width: c,
            side: geometry.grid
        ).fitted(to: side / geometry.patch, fitting)
        preNorm = try names.preNorm.map { name throws(EngineError) in try layers.norm(scope[name], channels: c) }
        var blocks: [Block] = []
        for index in 0..<geometry.layers {
            let scope = scope[names.blocks][index]
            let qkv: Weights
            switch names.attention {
            case .apart(let query, let key, let value):
                qkv = try layers.fused([query, key, value].map { scope[$0] }, inputs: c, outputs: c, bias: true)
            case .joined(let weight, let bias):
                qkv = try linear(scope, weight: weight, bias: bias, inputs: c, outputs: 3 * c)
            }
            blocks.append(
                Block(
                    norm1: try layers.norm(scope[names.norm1], channels: c),
                    norm2: try layers.norm(scope[names.norm2], channels: c), qkv: qkv,
                    out: try linear(scope, names.attentionOut, inputs: c, outputs: c, scale: names.layerScales?.0),
                    mlpIn: try linear(scope, names.feedForward.0, inputs: c, outputs: geometry.hiddenSize),
                    mlpOut: try linear(
                        scope, names.feedForward.1, inputs: geometry.hiddenSize, outputs: c,
                        scale: names.layerScales?.1)))
        }
        self.blocks = blocks
        finalNorm = try layers.norm(scope[names.finalNorm], channels: c)
        var projection: Weights?
        if let name = names.projection, let outputs = geometry.projected {
            projection = try linear(
                scope, weight: name.name, bias: nil, inputs: c, outputs: outputs, isTransposed: name.isTransposed)
        }
        self.projection = projection
    }

    /// `[side, side, 3]`, normalised, to the features of the whole picture.
    func callAsFunction(_ pixels: [Float]) throws(EngineError) -> [Float] {
        let c = geometry.width
        let embedded = engine.floats(try engine.product(try patchRows(pixels), patches))
        let states = positions.values.indices.map { i in
            positions.values[i] + (i < c ? classToken[i] : embedded[i - c])
        }
        let tokens = positions.values.count / c
        var x = try engine.tensor(states, shape: [1, tokens, c])
        let epsilon = geometry.epsilon
        if let preNorm { x = try engine.layerNorm(x, preNorm, epsilon: epsilon, to: .float32) }
        for block in blocks {
            let qkv = try engine.product(
                try engine.layerNorm(x, block.norm1, epsilon: epsilon), block.qkv, to: engine.activationType)
            let attended = try engine.attention(
                q: Columns(qkv, 0, c), k: Columns(qkv, c, c), v: Columns(qkv, 2 * c, c), heads: geometry.heads)
            try engine.product(attended, block.out, accumulateInto: x)
            let hidden = try engine.product(try engine.layerNorm(x, block.norm2, epsilon: epsilon), block.mlpIn)
            try engine.product(try engine.activate(hidden, geometry.activation), block.mlpOut, accumulateInto: x)
        }
        let first = try x.reshaped([tokens, c]).slice(0..<1)
        let normalised = try engine.layerNorm(first, finalNorm, epsilon: epsilon, to: .float32)
        return engine.floats(
            try projection.map { p throws(EngineError) in try engine.product(normalised, p) } ?? normalised)
    }

    /// Each patch as a row, channel by channel, as a convolution's kernel lies.
    private func patchRows(_ pixels: [Float]) throws(EngineError) -> Tensor {
        let (p, grid) = (geometry.patch, positions.side)
        let side = Int(Double(pixels.count / 3).squareRoot())
        guard side * side * 3 == pixels.count, side / p == grid else {
            throw .shapes(operation: "patches", found: [[pixels.count]], expected: "a square of \(grid) patches a side")
        }
        var rows: [Float] = []
        rows.reserveCapacity(grid * grid * p * p * 3)
        for row in 0..<grid {
            for column in 0..<grid {
                for channel in 0..<3 {
                    for y in row * p..<(row + 1) * p {
                        for x in column * p..<(column + 1) * p { rows.append(pixels[(y * side + x) * 3 + channel]) }
                    }
                }
            }
        }
        return try engine.tensor(rows, shape: [grid * grid, 3 * p * p])
    }
}

/// Makes linear maps in the variants that encoders' files have.
struct LinearMaker {
    let engine: Engine

    /// `NAME.weight [outputs, inputs]` and `NAME.bias [outputs]`; with `scale`, the name of `[outputs]` factors of the result.
    func callAsFunction(
        _ scope: ParameterScope, _ name: String, inputs: Int, outputs: Int, scale: String? = nil
    ) throws(EngineError) -> Weights {
        try self(
            scope, weight: name + ".weight", bias: name + ".bias", inputs: inputs, outputs: outputs,
            scale: scale.map { scope.take($0, shape: [outputs]).floats() })
    }

    /// The same under names of their own; `isTransposed` where the weights lie as `[inputs, outputs]`.
    func callAsFunction(
        _ scope: ParameterScope, weight: String, bias: String?, inputs: Int, outputs: Int, isTransposed: Bool = false,
        scale: [Float]? = nil
    ) throws(EngineError) -> Weights {
        let values = scope.take(weight, shape: isTransposed ? [inputs, outputs] : [outputs, inputs])
        var shift = bias.map { scope.take($0, shape: [outputs]).floats() }
        if let scale { shift = shift.map { zip($0, scale).map { $0 * $1 } } }
        return try engine.weights(.linear, inputs: inputs, outputs: outputs, bias: shift) { buffer in
            if isTransposed {
                let source = values.floats()
                for o in 0..<outputs {
                    for i in 0..<inputs { buffer[o * inputs + i] = source[i * outputs + o] }
                }
            } else {
                values.copyFloats(into: buffer)
            }
            if let scale {
                for o in 0..<outputs {
                    for i in 0..<inputs { buffer[o * inputs + i] *= scale[o] }
                }
            }
        }
    }
}
