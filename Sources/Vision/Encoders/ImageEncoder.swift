import Checkpoint
import Diffusion
import Raster
import TensorEngine

/// A network that turns pictures, and where it is a CLIP texts, into features whose cosine says how alike they are. Belongs to
/// one thread, as its engine does.
///
/// It reads DINO (Caron et al. 2021), DINOv2 (Oquab et al. 2023) and CLIP (Radford et al. 2021) as their authors, transformers and
/// open_clip write them; of a TorchScript archive the tensors, never the code. All is computed in fp32.
public final class ImageEncoder {
    /// Whose network.
    public enum Family: String, Sendable {
        case dino = "DINO"
        case dinov2 = "DINOv2"
        case clip = "CLIP"
    }

    /// Whose network.
    public let family: Family
    /// Family and size, such as `CLIP ViT-B/32`.
    public let name: String
    /// The file of its weights.
    public let path: String
    /// How pictures are prepared for it.
    public let preparation: PicturePreparation
    /// What its files leave open and how that was read, a sentence each.
    public let remarks: [String]
    package let engine: Engine
    private let network: VisionTransformer
    private let text: CLIPText?
    private var tokenizer: Tokenizer?

    /// - Parameters:
    ///   - path: a file of weights, or the folder it lies in; format and kind are told by content.
    ///   - compute: who computes; of a bfloat16 path its library, in fp32.
    /// - Throws: `VisionError` naming the file, and all tensors that do not fit.
    public init(_ path: String, compute: ComputePath = .best) throws(VisionError) {
        let files = try EncoderFiles(path)
        let engine = try onEngine { () throws(EngineError) in try Engine(path: compute.inFloat32) }
        let geometry = try files.geometry()
        let preparation = try files.preparation(side: geometry.grid * geometry.patch)
        guard preparation.side >= geometry.patch else {
            throw .unsupported(
                path: path, found: "pictures of \(preparation.side) pixels",
                expected: "at least a patch of \(geometry.patch)")
        }
        let store = ParameterStore(files.weights)
        network = try onEngine { () throws(EngineError) in
            try VisionTransformer(
                store.scoped(files.prefix), names: files.kind.names, geometry, side: preparation.side,
                fitting: files.kind.fitting, engine: engine)
        }
        if let configuration = try files.textConfiguration(), let projected = geometry.projected {
            text = try onEngine { () throws(EngineError) in
                try CLIPText(store, configuration, projected: projected, files: files, engine: engine)
            }
        } else {
            text = nil
        }
        do {
            try store.finish(ignoring: files.kind.ignored)
            try store.checkFinite()
        } catch { throw .checkpoint(error) }
        family = files.kind.family
        name = "\(family.rawValue) ViT-\(Self.letter(of: geometry))/\(geometry.patch)"
        self.path = files.weights.path
        self.preparation = preparation
        remarks = files.remarks
        self.engine = engine
    }

    /// The features of a picture; alpha is composited onto white.
    public func features(of picture: Raster) throws(VisionError) -> [Float] {
        try features(ofPixels: preparation.values(of: picture))
    }

    /// The same of `[side, side, 3]` prepared values.
    package func features(ofPixels values: [Float]) throws(VisionError) -> [Float] {
        defer { engine.trimMemory() }
        return try finite(try onEngine { () throws(EngineError) in try network(values) })
    }

    /// Whether it reads texts.
    public var readsText: Bool { text != nil }

    /// The features of a text, to be compared with those of pictures.
    /// - Throws: `VisionError.unsupported` where the network reads no text.
    public func features(of text: String) throws(VisionError) -> [Float] {
        guard let half = self.text else {
            throw .unsupported(path: path, found: "\(name), which reads no text", expected: "a CLIP")
        }
        if tokenizer == nil { tokenizer = try half.tokenizer() }
        guard let tokenizer else { return [] }
        return try features(ofTokens: half.tokens(of: text, tokenizer))
    }

    /// The same of token ids.
    package func features(ofTokens tokens: [Int32]) throws(VisionError) -> [Float] {
        guard let text else {
            throw .unsupported(path: path, found: "\(name), which reads no text", expected: "a CLIP")
        }
        return try finite(try onEngine { () throws(EngineError) in try text.features(of: tokens) })
    }

    /// Features with which nothing can be compared are an error: weights of a wrong size give them, too.
    private func finite(_ features: [Float]) throws(VisionError) -> [Float] {
        guard let wrong = features.first(where: { !$0.isFinite }) else { return features }
        throw .unsupported(path: path, found: "weights that give features of \(wrong)", expected: "finite features")
    }

    /// The letter that the field gives a size.
    private static func letter(of geometry: VisionTransformer.Geometry) -> String {
        switch (geometry.width, geometry.layers) {
        case (192, 12): "Ti"
        case (384, 12): "S"
        case (768, 12): "B"
        case (1024, 24): "L"
        case (1280, 32): "H"
        default: "\(geometry.width)x\(geometry.layers)"
        }
    }
}

extension EncoderFiles.Kind {
    var family: ImageEncoder.Family {
        switch self {
        case .dinoHub(false), .vit: .dino
        case .dinoHub(true), .dinov2: .dinov2
        case .clip, .openCLIP: .clip
        }
    }

    var fitting: PositionTable.Fitting {
        if case .dinoHub = self { .byFactor(surplus: 0.1) } else { .bySize }
    }

    /// What is there beside what a score needs: heads of training, and numbers that are no weights.
    var ignored: [ParameterStore.IgnoredKeys] {
        switch self {
        case .dinoHub: [.exact("mask_token")]
        case .vit, .dinov2: [.suffix("mask_token"), .prefix("pooler."), .prefix("vit.pooler."), .prefix("classifier.")]
        case .clip: [.exact("logit_scale"), .suffix("position_ids")]
        case .openCLIP:
            ["logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size", "attn_mask"].map {
                .exact($0)
            }
        }
    }
}
