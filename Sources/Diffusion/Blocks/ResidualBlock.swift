import Checkpoint
import TensorEngine

/// x + conv(silu(norm(conv(silu(norm(x))) + time))): the convolutional block of the U-Net (LDM `ResBlock`) and, without
/// the time embedding, of the autoencoder (LDM `ResnetBlock`).
struct ResidualBlock {
    /// What the two networks call the parts, and how far they differ.
    struct Naming {
        let norm1: String, conv1: String, norm2: String, conv2: String, shortcut: String
        /// Name of the map of the time embedding, in the U-Net.
        let time: String?
        let epsilon: Float

        static let unet = Naming(
            norm1: "in_layers.0", conv1: "in_layers.2", norm2: "out_layers.0", conv2: "out_layers.3",
            shortcut: "skip_connection", time: "emb_layers.1", epsilon: 1e-5)
        static let autoencoder = Naming(
            norm1: "norm1", conv1: "conv1", norm2: "norm2", conv2: "conv2", shortcut: "nin_shortcut", time: nil,
            epsilon: 1e-6)
    }

    private let engine: Engine
    private let epsilon: Float
    private let groups: Int
    private let norm1: NormWeights
    private let conv1: Weights
    private let norm2: NormWeights
    private let conv2: Weights
    private let shortcut: Weights?
    private let timeMap: Weights?
    private let conv1Bias: [Float]

    init(
        _ scope: ParameterScope, _ naming: Naming, inputs: Int, outputs: Int, timeChannels: Int = 0,
        groups: Int, engine: Engine
    ) throws(EngineError) {
        let layers = LayerMaker(engine: engine)
        self.engine = engine
        epsilon = naming.epsilon
        self.groups = groups
        norm1 = try layers.norm(scope[naming.norm1], channels: inputs)
        conv1 = try layers.convolution(scope[naming.conv1], inputs: inputs, outputs: outputs)
        norm2 = try layers.norm(scope[naming.norm2], channels: outputs)
        conv2 = try layers.convolution(scope[naming.conv2], inputs: outputs, outputs: outputs)
        shortcut =
            inputs == outputs
            ? nil : try layers.linear(scope[naming.shortcut], inputs: inputs, outputs: outputs)
        timeMap =
            if let time = naming.time {
                try layers.linear(scope[time], inputs: timeChannels, outputs: outputs)
            } else { nil }
        conv1Bias = timeMap == nil ? [] : scope[naming.conv1].take("bias", shape: [outputs]).floats()
    }

    /// The time embedding as this block sees it, for a whole schedule at once: `[timesteps, timeChannels]` (after SiLU)
    /// to one bias of the first convolution per timestep. An added embedding that does not depend on the place is a
    /// bias.
    func timeBiases(_ embedding: Tensor) throws(EngineError) -> [Tensor] {
        guard let timeMap else { return [] }
        let mapped = engine.floats(try engine.product(embedding, timeMap))
        var biases: [Tensor] = []
        for timestep in 0..<embedding.shape[0] {
            let row = mapped[timestep * conv1Bias.count..<(timestep + 1) * conv1Bias.count]
            biases.append(try engine.tensor(zip(row, conv1Bias).map(+), shape: [conv1Bias.count]))
        }
        return biases
    }

    /// `x [n, h, w, inputs]` to `[n, h, w, outputs]`, float32.
    func callAsFunction(_ x: Tensor, timeBias: Tensor? = nil) throws(EngineError) -> Tensor {
        let first = try engine.product(
            try engine.groupNorm(x, norm1, groups: groups, epsilon: epsilon, silu: true), conv1, bias: timeBias)
        // The autoencoder's largest tensors are before this point, and the narrower ones after it do not fit into their memory.
        if shortcut != nil, timeMap == nil { engine.trimMemory() }
        // Not before it is needed: the picture's largest tensors are these.
        let sum = if let shortcut { try engine.product(x, shortcut) } else { try engine.copy(x) }
        try engine.product(
            try engine.groupNorm(first, norm2, groups: groups, epsilon: epsilon, silu: true), conv2, accumulateInto: sum
        )
        return sum
    }

    /// The same in training. Kept are x, the first convolution's result, and the statistics of both normalisations.
    func forward(
        _ x: Tensor, timeBias: Tensor?
    ) throws(EngineError) -> Differentiable {
        let (normed, keptFirst) = try engine.groupNormKept(x, norm1, groups: groups, epsilon: epsilon, silu: true)
        let first = try engine.product(normed, conv1, bias: timeBias)
        let (second, keptSecond) = try engine.groupNormKept(first, norm2, groups: groups, epsilon: epsilon, silu: true)
        let sum = if let shortcut { try engine.product(x, shortcut) } else { try engine.copy(x) }
        try engine.product(second, conv2, accumulateInto: sum)
        return Differentiable(sum) { [engine, conv1, conv2, shortcut] gradient throws(EngineError) in
            let inner = try engine.groupNormGradient(
                try engine.productGradient(byInput: gradient, conv2), of: keptSecond)
            let dx = try engine.groupNormGradient(try engine.productGradient(byInput: inner, conv1), of: keptFirst)
            if let shortcut {
                try engine.productGradient(byInput: gradient, shortcut, accumulateInto: dx)
            } else {
                try engine.add(gradient, to: dx)
            }
            return dx
        }
    }
}
