import Checkpoint
import TensorEngine

/// Geometry of a CLIP text encoder.
public struct TextEncoderConfiguration: Sendable, Equatable {
    /// The encoders that Stable Diffusion was trained with.
    public enum Family: Sendable, Equatable {
        /// OpenCLIP, Stable Diffusion 2's, in its own names: exact GELU.
        case openCLIP
        /// OpenAI's CLIP, Stable Diffusion 1's, in transformers' names: quick GELU.
        case clip
    }

    /// Who named the parameters; either library's names occur with either family's weights.
    public enum Naming: Sendable, Equatable {
        /// OpenCLIP: q, k and v in one `in_proj_weight`.
        case openCLIP
        /// transformers' `CLIPTextModel`.
        case transformers
    }

    /// Who named the parameters.
    public var naming = Naming.openCLIP
    /// Activation of the blocks' feed-forward part.
    public var activation = Activation.gelu
    /// Channels of the states.
    public var width = 1024
    /// Channels inside the blocks' feed-forward part.
    public var hiddenSize = 4096
    /// Attention heads; both families have 64 channels per head.
    public var heads = 16
    /// Transformer blocks in the checkpoint.
    public var layers = 24
    /// Blocks at the end that are not run: 1 is OpenCLIP's "penultimate", diffusers' `clip_skip` counts further.
    public var skippedLayers = 1
    /// Tokens in the vocabulary.
    public var vocabularySize = 49408
    /// Tokens of a prompt.
    public var contextLength = 77

    /// Stable Diffusion 2's text encoder.
    public static let openCLIPViTH = TextEncoderConfiguration()
    /// Stable Diffusion 1's text encoder.
    public static let clipViTL = TextEncoderConfiguration(family: .clip, width: 768, layers: 12, skippedLayers: 0)

    /// Fields have the values of OpenCLIP ViT-H unless given.
    public init(family: Family = .openCLIP, width: Int = 1024, layers: Int = 24, skippedLayers: Int = 1) {
        naming = family == .clip ? .transformers : .openCLIP
        activation = family == .clip ? .quickGELU : .gelu
        self.width = width
        hiddenSize = 4 * width
        heads = max(1, width / 64)
        self.layers = layers
        self.skippedLayers = skippedLayers
    }
}

/// A CLIP text encoder (Radford et al. 2021): token ids to the states that the U-Net's cross-attention reads.
///
/// Golden: `text.context`, `text.negative`.
public final class TextEncoder {
    private struct Block {
        let norm1, norm2: NormWeights
        let qkv, out, mlpIn, mlpOut: Weights
    }

    /// The geometry it was made with.
    public let configuration: TextEncoderConfiguration
    private let engine: Engine
    private let tokenEmbedding: StoredTensor
    private let embeddings: [[Float]]
    private let positionEmbedding: [Float]
    private let blocks: [Block]
    private let finalNorm: NormWeights

    /// Takes the parameters under `scope`: LDM's `cond_stage_model.model.` (OpenCLIP) or
    /// `cond_stage_model.transformer.text_model.` (CLIP).
    ///
    /// - Parameter embeddings: what the ids behind the vocabulary mean (textual inversion), each of `width` numbers.
    public init(
        _ scope: ParameterScope, _ configuration: TextEncoderConfiguration, embeddings: [[Float]] = [], engine: Engine
    ) throws(EngineError) {
        let layers = LayerMaker(engine: engine)
        self.engine = engine
        self.configuration = configuration
        self.embeddings = embeddings
        let (c, hidden) = (configuration.width, configuration.hiddenSize)
        var blocks: [Block] = []
        switch configuration.naming {
        case .openCLIP:
            tokenEmbedding = scope.take("token_embedding.weight", shape: [configuration.vocabularySize, c])
            positionEmbedding = scope.take("positional_embedding", shape: [configuration.contextLength, c]).floats()
            finalNorm = try layers.norm(scope["ln_final"], channels: c)
            for index in 0..<configuration.layers {
                let scope = scope["transformer.resblocks"][index]
                let weight = scope.take("attn.in_proj_weight", shape: [3 * c, c])
                blocks.append(
                    Block(
                        norm1: try layers.norm(scope["ln_1"], channels: c),
                        norm2: try layers.norm(scope["ln_2"], channels: c),
                        qkv: try engine.weights(
                            .linear, inputs: c, outputs: 3 * c,
                            bias: scope.take("attn.in_proj_bias", shape: [3 * c]).floats(),
                            name: scope.prefix + "attn.in_proj_weight"
                        ) { weight.copyFloats(into: $0) },
                        out: try layers.linear(scope["attn.out_proj"], inputs: c, outputs: c),
                        mlpIn: try layers.linear(scope["mlp.c_fc"], inputs: c, outputs: hidden),
                        mlpOut: try layers.linear(scope["mlp.c_proj"], inputs: hidden, outputs: c)))
            }
        case .transformers:
            tokenEmbedding = scope.take("embeddings.token_embedding.weight", shape: [configuration.vocabularySize, c])
            positionEmbedding =
                scope.take("embeddings.position_embedding.weight", shape: [configuration.contextLength, c]).floats()
            finalNorm = try layers.norm(scope["final_layer_norm"], channels: c)
            for index in 0..<configuration.layers {
                let scope = scope["encoder.layers"][index]
                let parts = ["q_proj", "k_proj", "v_proj"].map { scope["self_attn"][$0] }
                blocks.append(
                    Block(
                        norm1: try layers.norm(scope["layer_norm1"], channels: c),
                        norm2: try layers.norm(scope["layer_norm2"], channels: c),
                        qkv: try layers.fused(parts, inputs: c, outputs: c, bias: true),
                        out: try layers.linear(scope["self_attn.out_proj"], inputs: c, outputs: c),
                        mlpIn: try layers.linear(scope["mlp.fc1"], inputs: c, outputs: hidden),
                        mlpOut: try layers.linear(scope["mlp.fc2"], inputs: hidden, outputs: c)))
            }
        }
        self.blocks = blocks
    }

    /// How many tokens it has embeddings of, those of textual inversions behind its own.
    var vocabularySize: Int { configuration.vocabularySize + embeddings.count }

    /// The states of one prompt: token ids to `[1, tokens, width]`, float32, after the final normalisation.
    ///
    /// Ids outside of ``vocabularySize`` read as 0.
    public func encode(_ tokens: [Int32]) throws(EngineError) -> Tensor {
        let c = configuration.width
        var embedded = [Float](repeating: 0, count: tokens.count * c)
        let table = tokenEmbedding
        for (position, token) in tokens.prefix(configuration.contextLength).enumerated() {
            let added = Int(token) - configuration.vocabularySize
            let row = embeddings.indices.contains(added) ? embeddings[added] : table.entry(Int(token))?.floats() ?? []
            for i in 0..<min(c, row.count) { embedded[position * c + i] = row[i] + positionEmbedding[position * c + i] }
        }
        let x = try engine.tensor(embedded, shape: [1, tokens.count, c])
        let type = engine.activationType
        for block in blocks.dropLast(configuration.skippedLayers) {
            let qkv = try engine.product(try engine.layerNorm(x, block.norm1), block.qkv, to: type)
            let attended = try engine.attention(
                q: Columns(qkv, 0, c), k: Columns(qkv, c, c), v: Columns(qkv, 2 * c, c), heads: configuration.heads,
                causal: true)
            try engine.product(attended, block.out, accumulateInto: x)
            let hidden = try engine.product(try engine.layerNorm(x, block.norm2), block.mlpIn)
            let activated = try engine.activate(hidden, configuration.activation)
            try engine.product(activated, block.mlpOut, accumulateInto: x)
        }
        return try engine.layerNorm(x, finalNorm, to: .float32)
    }
}
