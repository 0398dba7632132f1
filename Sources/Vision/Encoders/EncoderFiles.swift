import Bytes
import Checkpoint
import Diffusion
import Glibc
import TensorEngine

/// The files of an encoder: weights of a known kind, and what lies beside them.
struct EncoderFiles {
    /// Whose network it is, and in whose naming, told by the names of its tensors.
    enum Kind {
        case dinoHub(isSecond: Bool)
        case vit
        case dinov2
        case clip
        /// open_clip's, and OpenAI's own, which has its sizes among the tensors.
        case openCLIP(isOpenAI: Bool)

        /// The kind whose names these are; `prefix` is what all names begin with where a larger model holds the encoder.
        static func of(_ names: some Collection<String>) -> (kind: Kind, prefix: String)? {
            func has(_ name: String) -> Bool { names.contains(name) }
            if has("visual.conv1.weight") { return (.openCLIP(isOpenAI: has("input_resolution")), "") }
            if has("vision_model.embeddings.patch_embedding.weight") { return (.clip, "") }
            if has("patch_embed.proj.weight") { return (.dinoHub(isSecond: has("blocks.0.ls1.gamma")), "") }
            for prefix in ["", "vit.", "dinov2."] where has(prefix + "embeddings.patch_embeddings.projection.weight") {
                return (has(prefix + "encoder.layer.0.layer_scale1.lambda1") ? .dinov2 : .vit, prefix)
            }
            return nil
        }

        var names: EncoderNames {
            switch self {
            case .dinoHub(let isSecond): .hub(hasLayerScale: isSecond)
            case .vit: .vit
            case .dinov2: .dinov2
            case .clip: .clip
            case .openCLIP: .openCLIP
            }
        }

        var isCLIP: Bool {
            switch self {
            case .clip, .openCLIP: true
            default: false
            }
        }
    }

    static let expected =
        "DINO or DINOv2 (a transformers folder, or facebook's .pth) or CLIP (a transformers or open_clip folder, or OpenAI's .pt)"

    let kind: Kind
    let prefix: String
    let weights: Checkpoint
    /// transformers' `config.json`, where that is what lies beside the weights.
    let configuration: JSONDocument?
    /// transformers' `preprocessor_config.json`.
    let preprocessor: JSONDocument?
    /// `open_clip_config.json`.
    let openCLIP: JSONDocument?

    /// - Parameter path: a file of weights, or the folder it lies in.
    init(_ path: String) throws(VisionError) {
        let (folder, file) = try Self.place(of: path)
        do { weights = try Checkpoint.open(file) } catch { throw .checkpoint(error) }
        guard let found = Kind.of(weights.tensors.keys) else {
            throw .unsupported(
                path: path, found: FileKind.of(Array(weights.tensors.keys)) ?? "tensors of another network",
                expected: Self.expected)
        }
        (kind, prefix) = found
        // Sizes are taken from shapes. That a tensor holds something bounds them by the file's own size.
        if let empty = weights.tensors.values.first(where: { $0.shape.contains(0) }) {
            throw .unsupported(
                path: path, found: "\(empty.name) of shape \(empty.shape)", expected: "tensors that hold something")
        }
        func document(_ name: String) throws(VisionError) -> JSONDocument? {
            let path = "\(folder)/\(name)"
            guard try Self.presence(of: path) == .file else { return nil }
            return try onConfiguration { () throws(DiffusionError) in try JSONDocument(path: path) }
        }
        switch kind {
        case .vit, .dinov2, .clip:
            (configuration, preprocessor) = (try document("config.json"), try document("preprocessor_config.json"))
            openCLIP = nil
        case .openCLIP(isOpenAI: false):
            (configuration, preprocessor) = (nil, nil)
            openCLIP = try document("open_clip_config.json")
        case .dinoHub, .openCLIP: (configuration, preprocessor, openCLIP) = (nil, nil, nil)
        }
        self.folder = folder
    }

    /// Where the weights lie.
    let folder: String

    /// Names of weights in a folder, the safest format first.
    private static let weightNames = [
        "model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
    ]

    private static func place(of path: String) throws(VisionError) -> (folder: String, file: String) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw .unsupported(path: path, found: String(cString: strerror(errno)), expected: expected)
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            let end = path.lastIndex(of: "/")
            return (end.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? ".", path)
        }
        for name in weightNames where try presence(of: "\(path)/\(name)") == .file {
            return (path, "\(path)/\(name)")
        }
        throw .unsupported(
            path: path, found: "a folder with none of \(weightNames.joined(separator: ", "))", expected: expected)
    }

    /// A file that cannot be looked at does not count as one that is not there.
    private static func presence(of path: String) throws(VisionError) -> FilePresence {
        do { return try FilePresence.of(path) } catch {
            throw .unsupported(path: path, found: error.reason, expected: "a file that can be looked at")
        }
    }

    // MARK: What they say

    /// How pictures are prepared: as the preprocessor beside the weights says, else as the network was published.
    func preparation(side: Int) throws(VisionError) -> PicturePreparation {
        if let preprocessor {
            return try onConfiguration { () throws(DiffusionError) in
                try PicturePreparation(transformers: preprocessor, isCLIP: kind.isCLIP)
            }
        }
        guard kind.isCLIP else { return .dino }
        var preparation = PicturePreparation.clip(side: side)
        if let section = try onConfiguration({ () throws(DiffusionError) in try openCLIP?.object("preprocess_cfg") }) {
            try onConfiguration { () throws(DiffusionError) in try preparation.read(openCLIP: section) }
        }
        return preparation
    }

    /// Sizes of the picture half.
    func geometry() throws(VisionError) -> VisionTransformer.Geometry {
        let names = kind.names
        let patch = weights.tensors[prefix + names.patch + ".weight"]?.shape ?? []
        let rows = weights.tensors[prefix + names.positions]?.shape.dropLast().last ?? 0
        let grid = Int(Double(max(rows - 1, 0)).squareRoot())
        guard patch.count == 4, patch[1] == 3, patch[2] == patch[3], patch.allSatisfy({ $0 > 0 }), grid > 0,
            grid * grid == rows - 1
        else {
            throw .unsupported(
                path: weights.path, found: "patches of \(patch) and \(rows) positions",
                expected: "[width, 3, side, side], and a square of positions and one more")
        }
        let blocks = names.blocks
        let feedForward = weights.tensors["\(prefix)\(blocks).0.\(names.feedForward.0).weight"]?.shape ?? []
        let projection = names.projection.flatMap { p in
            weights.tensors[p.name].flatMap { p.isTransposed ? $0.shape.last : $0.shape.first }
        }
        let section = try section("vision_config")
        return VisionTransformer.Geometry(
            width: patch[0], layers: layers(under: "\(prefix)\(blocks)."),
            heads: try heads(section, key: "vision_cfg", width: patch[0]), hiddenSize: feedForward.first ?? patch[0],
            patch: patch[2], grid: grid, projected: projection, epsilon: try epsilon(section),
            activation: try activation(section))
    }

    /// The part of a configuration that speaks of one half of a CLIP; all of it where there is one half only.
    private func section(_ key: String) throws(VisionError) -> JSONDocument? {
        guard kind.isCLIP else { return configuration }
        return try onConfiguration { () throws(DiffusionError) in try configuration?.object(key) }
    }

    /// How many blocks are numbered under a name.
    private func layers(under name: String) -> Int {
        let numbers = weights.tensors.keys.compactMap { key in
            key.hasPrefix(name) ? Int(key.dropFirst(name.count).prefix { $0 != "." }) : nil
        }
        return Set(numbers).count
    }

    private func heads(_ section: JSONDocument?, key: String, width: Int) throws(VisionError) -> Int {
        let said: Int? = try onConfiguration { () throws(DiffusionError) -> Int? in
            if let heads = try section?.int("num_attention_heads", in: 1...1024) { return heads }
            let half = try openCLIP?.object("model_cfg")?.object(key)
            if let size = try half?.int("head_width", in: 1...4096) { return max(1, width / size) }
            return try half?.int("heads", in: 1...1024)
        }
        // All that were published have 64 channels a head.
        let heads = said ?? max(1, width / 64)
        guard width % heads == 0 else {
            throw .unsupported(
                path: weights.path, found: "\(heads) attention heads", expected: "a divisor of the \(width) channels")
        }
        return heads
    }

    private func epsilon(_ section: JSONDocument?) throws(VisionError) -> Float {
        let said = try onConfiguration { () throws(DiffusionError) in try section?.number("layer_norm_eps") }
        return said.map(Float.init) ?? (kind.isCLIP ? 1e-5 : 1e-6)
    }

    private func activation(_ section: JSONDocument?) throws(VisionError) -> Activation {
        try onConfiguration { () throws(DiffusionError) -> Activation in
            if let name = try section?.text("hidden_act") {
                switch name {
                case "gelu": return .gelu
                case "quick_gelu": return .quickGELU
                default: throw section?.wrong("hidden_act", "gelu or quick_gelu") ?? .resource(name)
                }
            }
            switch kind {
            case .openCLIP(isOpenAI: true), .clip: return .quickGELU
            case .openCLIP(isOpenAI: false):
                return try openCLIP?.object("model_cfg")?.flag("quick_gelu") == true ? .quickGELU : .gelu
            default: return .gelu
            }
        }
    }

    /// What a person should know of what the files leave open.
    var remarks: [String] {
        switch kind {
        case .openCLIP(isOpenAI: false) where openCLIP == nil:
            [
                "\(weights.path): no open_clip_config.json lies beside it; taken to have GELU, as open_clip's own models have"
            ]
        case .clip where configuration == nil:
            ["\(weights.path): no config.json lies beside it; taken to have quick GELU, as OpenAI's models have"]
        default: []
        }
    }

    /// Sizes of the text half of a CLIP; nil where there is none.
    func textConfiguration() throws(VisionError) -> TextEncoderConfiguration? {
        guard kind.isCLIP else { return nil }
        let isTransformers = if case .clip = kind { true } else { false }
        let (embedding, positions, blocks, feedForward) =
            isTransformers
            ? (
                "text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight",
                "text_model.encoder.layers.", "mlp.fc1.weight"
            )
            : ("token_embedding.weight", "positional_embedding", "transformer.resblocks.", "mlp.c_fc.weight")
        guard let table = weights.tensors[embedding]?.shape, table.count == 2, table[1] > 0 else { return nil }
        let section = try section("text_config")
        var text = TextEncoderConfiguration(width: table[1], layers: layers(under: blocks), skippedLayers: 0)
        text.naming = isTransformers ? .transformers : .openCLIP
        text.activation = try activation(section)
        text.hiddenSize = weights.tensors["\(blocks)0.\(feedForward)"]?.shape.first ?? 4 * table[1]
        text.heads = try heads(section, key: "text_cfg", width: table[1])
        text.vocabularySize = table[0]
        text.contextLength = weights.tensors[positions]?.shape.first ?? 77
        return text
    }
}
