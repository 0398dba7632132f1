/// What the parameters of a vision transformer are called in a file: one value for each library that writes them.
///
/// Sources: facebookresearch/dino and dinov2 `vision_transformer.py`; transformers `ViTModel`, `Dinov2Model`, `CLIPModel`;
/// open_clip and OpenAI CLIP `model.py`.
struct EncoderNames: Sendable {
    /// Query, key and value: maps of their own, or one.
    enum Attention: Sendable {
        case apart(query: String, key: String, value: String)
        case joined(weight: String, bias: String)
    }

    /// The map from the normalised class token to the features, where there is one; `isTransposed` where it lies as
    /// `[inputs, outputs]`.
    struct Projection: Sendable {
        let name: String
        let isTransposed: Bool
    }

    let patch: String
    let patchHasBias: Bool
    let classToken: String
    let positions: String
    /// Before the blocks, CLIP's alone.
    let preNorm: String?
    let blocks: String
    let norm1, norm2: String
    let attention: Attention
    let attentionOut: String
    let feedForward: (String, String)
    /// Factors of both residuals, DINOv2's alone.
    let layerScales: (String, String)?
    let finalNorm: String
    let projection: Projection?

    /// facebook's own code, and timm; DINOv2's has layer scales.
    static func hub(hasLayerScale: Bool) -> EncoderNames {
        EncoderNames(
            patch: "patch_embed.proj", patchHasBias: true, classToken: "cls_token", positions: "pos_embed",
            preNorm: nil,
            blocks: "blocks", norm1: "norm1", norm2: "norm2",
            attention: .joined(weight: "attn.qkv.weight", bias: "attn.qkv.bias"), attentionOut: "attn.proj",
            feedForward: ("mlp.fc1", "mlp.fc2"), layerScales: hasLayerScale ? ("ls1.gamma", "ls2.gamma") : nil,
            finalNorm: "norm", projection: nil)
    }

    /// transformers' `ViTModel`.
    static let vit = EncoderNames(
        patch: "embeddings.patch_embeddings.projection", patchHasBias: true, classToken: "embeddings.cls_token",
        positions: "embeddings.position_embeddings", preNorm: nil, blocks: "encoder.layer", norm1: "layernorm_before",
        norm2: "layernorm_after", attention: transformersAttention, attentionOut: "attention.output.dense",
        feedForward: ("intermediate.dense", "output.dense"), layerScales: nil, finalNorm: "layernorm", projection: nil)

    /// transformers' `Dinov2Model`.
    static let dinov2 = EncoderNames(
        patch: vit.patch, patchHasBias: true, classToken: vit.classToken, positions: vit.positions, preNorm: nil,
        blocks: vit.blocks, norm1: "norm1", norm2: "norm2", attention: transformersAttention,
        attentionOut: vit.attentionOut, feedForward: ("mlp.fc1", "mlp.fc2"),
        layerScales: ("layer_scale1.lambda1", "layer_scale2.lambda1"), finalNorm: vit.finalNorm, projection: nil)

    private static let transformersAttention = Attention.apart(
        query: "attention.attention.query", key: "attention.attention.key", value: "attention.attention.value")

    /// The picture half of transformers' `CLIPModel`.
    static let clip = EncoderNames(
        patch: "vision_model.embeddings.patch_embedding", patchHasBias: false,
        classToken: "vision_model.embeddings.class_embedding",
        positions: "vision_model.embeddings.position_embedding.weight", preNorm: "vision_model.pre_layrnorm",
        blocks: "vision_model.encoder.layers", norm1: "layer_norm1", norm2: "layer_norm2",
        attention: .apart(query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj"),
        attentionOut: "self_attn.out_proj", feedForward: ("mlp.fc1", "mlp.fc2"), layerScales: nil,
        finalNorm: "vision_model.post_layernorm",
        projection: Projection(name: "visual_projection.weight", isTransposed: false))

    /// The picture half of open_clip's and of OpenAI's CLIP.
    static let openCLIP = EncoderNames(
        patch: "visual.conv1", patchHasBias: false, classToken: "visual.class_embedding",
        positions: "visual.positional_embedding", preNorm: "visual.ln_pre", blocks: "visual.transformer.resblocks",
        norm1: "ln_1", norm2: "ln_2",
        attention: .joined(weight: "attn.in_proj_weight", bias: "attn.in_proj_bias"), attentionOut: "attn.out_proj",
        feedForward: ("mlp.c_fc", "mlp.c_proj"), layerScales: nil, finalNorm: "visual.ln_post",
        projection: Projection(name: "visual.proj", isTransposed: true))
}
