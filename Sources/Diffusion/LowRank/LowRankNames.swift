import Checkpoint

/// Which updates belong to a weight of the model. The names are in the one spelling that `LowRankUpdates` brings those of files to.
struct LowRankNames: Sendable {
    /// Rows of a weight and the names their update may have.
    struct Target {
        let names: [String]
        let rows: Range<Int>
    }

    private let unet: KeyRenaming

    /// OpenCLIP's names beside transformers', which LoRA files use for both.
    private static let blocks = [
        ("attn.out_proj", "self_attn.out_proj"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"),
    ]

    init(_ configuration: ModelConfiguration) {
        unet = KeyRenaming(table: DiffusersNames.unet(configuration.unet))
    }

    /// The updates that the model's weight `name` of `rows` rows can have.
    func targets(of name: String, rows: Int) -> [Target] {
        if name.hasPrefix(LDMNames.unet) {
            guard let path = Self.module(name.dropFirst(LDMNames.unet.count)) else { return [] }
            return [Target(names: ["unet_" + Self.flat(unet(path + ".")), "unet_" + Self.flat(path)], rows: 0..<rows)]
        }
        if name.hasPrefix(LDMNames.transformers) {
            guard let path = Self.module(name.dropFirst(LDMNames.transformers.count)) else { return [] }
            return [Target(names: Self.text(path), rows: 0..<rows)]
        }
        let blocks = LDMNames.openCLIP + "transformer.resblocks."
        guard name.hasPrefix(blocks) else { return [] }
        let path = name.dropFirst(blocks.count)
        guard let dot = path.firstIndex(of: ".") else { return [] }
        let layer = "encoder.layers.\(path[..<dot])"
        let inner = String(path[path.index(after: dot)...])
        if inner == "attn.in_proj_weight" {
            let part = rows / 3
            return ["q", "k", "v"].enumerated().map { index, letter in
                Target(names: Self.text("\(layer).self_attn.\(letter)_proj"), rows: index * part..<(index + 1) * part)
            }
        }
        guard let module = Self.module(inner[...]), let other = Self.blocks.first(where: { $0.0 == module })?.1 else {
            return []
        }
        return [Target(names: Self.text("\(layer).\(other)"), rows: 0..<rows)]
    }

    private static func module(_ name: Substring) -> String? {
        name.hasSuffix(".weight") ? String(name.dropLast(".weight".count)) : nil
    }

    /// With and without the module that transformers 5 leaves out.
    private static func text(_ path: String) -> [String] { ["te_text_model_" + flat(path), "te_" + flat(path)] }

    private static func flat(_ path: String) -> String {
        String((path.hasSuffix(".") ? path.dropLast() : path[...]).map { $0 == "." ? "_" : $0 })
    }
}
