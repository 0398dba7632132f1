import Checkpoint
import Foundation

/// What PEFT's configuration says of the scales of updates, from `adapter_config.json` beside a file PEFT saved, or from the
/// metadata that diffusers writes.
///
/// Source: PEFT `LoraConfig`, `LoHaConfig`, `LoKrConfig`; diffusers `lora_adapter_metadata`.
struct LowRankScale {
    private let alpha: Double?
    private let rank: Int?
    private let usesRootOfRank: Bool
    private let alphaPattern, rankPattern: [(suffix: String, value: Double)]

    /// The configuration beside a file of PEFT's, if there is one.
    static func beside(_ path: String) throws(DiffusionError) -> LowRankScale? {
        let file = URL(fileURLWithPath: path).deletingLastPathComponent().appendingPathComponent("adapter_config.json")
            .path
        guard try ModelPath.isFile(file) else { return nil }
        return try LowRankScale(try JSONDocument(path: file).values, path: file, prefix: "")
    }

    /// Those of each network that metadata of diffusers has, by `unet` and `te`.
    static func inMetadata(of checkpoint: Checkpoint) throws(DiffusionError) -> [String: LowRankScale] {
        guard let text = checkpoint.metadata["lora_adapter_metadata"],
            let values = try? JSONDecoder().decode([String: JSONValue].self, from: Data(text.utf8))
        else { return [:] }
        var scales: [String: LowRankScale] = [:]
        for (prefix, network) in [("unet.", "unet"), ("text_encoder.", "te")]
        where values.keys.contains(where: { $0.hasPrefix(prefix) }) {
            scales[network] = try LowRankScale(values, path: checkpoint.path, prefix: prefix)
        }
        return scales
    }

    private init(_ values: [String: JSONValue], path: String, prefix: String) throws(DiffusionError) {
        func number(_ key: String) -> Double? {
            if case .number(let number)? = values[prefix + key] { return number }
            return nil
        }
        func pattern(_ key: String) throws(DiffusionError) -> [(suffix: String, value: Double)] {
            guard case .object(let entries)? = values[prefix + key] else { return [] }
            var pattern: [(suffix: String, value: Double)] = []
            for (name, value) in entries.sorted(by: { $0.key.count > $1.key.count }) {
                let plain = name.replacingOccurrences(of: "\\.", with: ".").drop { $0 == "^" }
                guard case .number(let number) = value, !plain.contains(where: { "*+?[](){}|^$\\".contains($0) }) else {
                    throw .configuration(
                        path: path, field: "\(prefix)\(key).\(name)", found: "\(value)",
                        expected: "a number under the end of a map's name, not a regular expression")
                }
                pattern.append((String(plain), number))
            }
            return pattern
        }
        alpha = number("lora_alpha") ?? number("alpha")
        rank = number("r").flatMap(Int.init(exactly:))
        usesRootOfRank = values[prefix + "use_rslora"]?.description == "true"
        alphaPattern = try pattern("alpha_pattern")
        rankPattern = try pattern("rank_pattern")
        guard alpha?.isFinite ?? true else {
            throw .configuration(
                path: path, field: prefix + "lora_alpha", found: "\(alpha ?? 0)", expected: "a finite number")
        }
    }

    /// Gives an update what the file itself does not say.
    func complete(_ module: inout LowRankModule) {
        func matching(_ pattern: [(suffix: String, value: Double)]) -> Double? {
            pattern.first { module.spelling == $0.suffix || module.spelling.hasSuffix("." + $0.suffix) }?.value
        }
        if module.alpha == nil { module.alpha = matching(alphaPattern) ?? alpha }
        module.configuredRank = matching(rankPattern).flatMap(Int.init(exactly:)) ?? rank
        module.usesRootOfRank = usesRootOfRank
    }
}
