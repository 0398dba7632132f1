import Checkpoint
import Foundation

/// A LoRA file and how strongly it is added.
public struct LowRankFile: Sendable, Hashable {
    /// The file, safetensors or torch, in kohya's, LyCORIS', diffusers' or PEFT's naming, told apart by content; or a folder
    /// that PEFT or diffusers saved.
    public var path: String
    /// Factor of its updates; 1 is as trained, 0 nothing, negative the contrary.
    public var weight: Double
    /// Factor of its updates of the U-Net instead; nil is ``weight``.
    public var unetWeight: Double?
    /// Factor of its updates of the text encoder instead; nil is ``weight``.
    public var textEncoderWeight: Double?

    /// A file and its factors.
    public init(path: String, weight: Double = 1, unetWeight: Double? = nil, textEncoderWeight: Double? = nil) {
        self.path = path
        self.weight = weight
        self.unetWeight = unetWeight
        self.textEncoderWeight = textEncoderWeight
    }

    /// The file itself, where `path` is a folder.
    func file() throws(DiffusionError) -> String {
        guard try ModelPath.isFolder(path) else { return path }
        let names = ["adapter_model.safetensors", "adapter_model.bin", "pytorch_lora_weights.safetensors"]
        let files = names.map { DiffusersFolder.join(path, $0) }
        for file in files where try ModelPath.isFile(file) { return file }
        return files[0]
    }

    /// The file itself, and those beside it that say how its updates count: PEFT's configuration.
    /// - Throws: `.checkpoint` when one cannot be looked at.
    public func files() throws(DiffusionError) -> (weights: String, describing: [String]) {
        let weights = try file()
        let folder = weights.lastIndex(of: "/").map { String(weights[..<$0]) } ?? "."
        let configuration = DiffusersFolder.join(folder, "adapter_config.json")
        return (weights, try ModelPath.isFile(configuration) ? [configuration] : [])
    }
}
