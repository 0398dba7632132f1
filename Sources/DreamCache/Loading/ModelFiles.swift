import Bytes
import Diffusion
import Foundation

/// The files of a model, and what of them is taken.
public struct ModelFiles: Sendable, Hashable {
    /// Base model: an LDM checkpoint, or a diffusers folder.
    public var checkpoint: String
    /// Its LDM yaml, if it does not lie beside it.
    public var yaml: String?
    /// The adapter; without one the base itself reads caches, as ``selfReading`` says.
    public var adapter: String?
    /// How the base reads caches where there is no adapter.
    public var selfReading = SelfReading()
    /// Variant of a folder's weights, such as `fp16`.
    public var variant: String?
    /// Whether the averaged (EMA) U-Net of a single file is taken.
    public var usesEMA = false
    /// Text encoder blocks that are left out (diffusers' `clip_skip`).
    public var clipSkip = 0
    /// What the U-Net predicts, where the files do not say it.
    public var predictionType: PredictionType?
    /// LoRA files, merged in this order.
    public var loras: [LowRankFile] = []
    /// An autoencoder that takes the place of the model's own: a file, or a diffusers folder.
    public var autoencoder: String?
    /// Textual inversions: files, or folders of them.
    public var embeddings: [EmbeddingFile] = []
    /// What is said of the schedule over the files.
    public var schedule = ScheduleOverrides()
    /// Whether tensors that are no part of the model are an error.
    public var isStrict = false

    /// Paths of the files; the other fields have the values that leave the model as its files have it.
    public init(checkpoint: String, yaml: String? = nil, adapter: String? = nil) {
        self.checkpoint = checkpoint
        self.yaml = yaml
        self.adapter = adapter
    }

    package var options: StableDiffusion.Options {
        var options = StableDiffusion.Options()
        options.yaml = yaml
        options.variant = variant
        options.usesEMA = usesEMA
        options.clipSkip = clipSkip
        options.predictionType = predictionType
        options.loras = loras
        options.autoencoder = autoencoder
        options.embeddings = embeddings
        options.schedule = schedule
        options.isStrict = isStrict
        return options
    }

    /// The model's tokenizer, without loading anything else.
    public func tokenizer() throws(DreamCacheError) -> Tokenizer {
        try onModel { () throws(DiffusionError) in
            try StableDiffusion.tokenizer(of: checkpoint, options: options)
        }
    }

    /// The files that hold the base model's weights.
    public func weightFiles() throws(DreamCacheError) -> [String] {
        try onModel { () throws(DiffusionError) in
            try StableDiffusion.weightFiles(of: checkpoint, variant: variant, hasAutoencoder: autoencoder == nil)
        }
    }

    /// All files that a model is made of: weights, what describes them, adapter, LoRAs.
    public func allFiles() throws(DreamCacheError) -> [String] {
        let additions = try onModel { () throws(DiffusionError) in
            try
                (autoencoder.map { path throws(DiffusionError) in
                    try StableDiffusion.autoencoderFiles(of: path, variant: variant)
                } ?? []) + StableDiffusion.embeddingFiles(of: embeddings).map(\.path)
        }
        return try weightFiles() + describingFiles() + [adapter].compactMap(\.self) + additions
            + loras.flatMap { [$0.file] + $0.describingFiles }
    }

    /// The files that say how the base model's weights are used.
    func describingFiles() throws(DreamCacheError) -> [String] {
        try onModel { () throws(DiffusionError) in
            try StableDiffusion.describingFiles(of: checkpoint, yaml: yaml)
        }
    }

    /// What identifies the base model: SHA-256 of a single file; of a folder, SHA-256 over the SHA-256 of each of its weight
    /// files, in hexadecimal, sorted, a line each.
    public func weightsHash() throws(DreamCacheError) -> String { try weightsHash(KnownFiles(), .none) }

    func weightsHash(_ known: KnownFiles, _ monitor: Monitor) throws(DreamCacheError) -> String {
        let files = try weightFiles()
        if files == [checkpoint] { return try known.sha256(of: checkpoint, monitor) }
        let hashes = try files.map { file throws(DreamCacheError) in try known.sha256(of: file, monitor) }
        return Self.hash(of: hashes.sorted())
    }

    /// What a cache's features depend on: `weightsHash` alone where the model runs as its files have it, else together with
    /// all that changes its features.
    func featureHash(
        weightsHash: String, _ known: KnownFiles, _ monitor: Monitor
    ) throws(DreamCacheError) -> String {
        var lines = [weightsHash]
        if usesEMA { lines.append("ema") }
        if clipSkip > 0 { lines.append("clip_skip \(clipSkip)") }
        if let autoencoder {
            let files = try onModel { () throws(DiffusionError) in
                try StableDiffusion.autoencoderFiles(of: autoencoder, variant: variant)
            }
            for file in files { lines.append("vae \(try known.sha256(of: file, monitor))") }
        }
        let inversions = try onModel { () throws(DiffusionError) in
            try StableDiffusion.embeddingFiles(of: embeddings)
        }
        for file in inversions {
            lines.append("embedding \(file.word ?? "") \(try known.sha256(of: file.path, monitor))")
        }
        if let training = schedule.training { lines.append("schedule \(training)") }
        for lora in loras {
            let parts = [lora.unetWeight.map { " unet \($0)" }, lora.textEncoderWeight.map { " text \($0)" }]
            let weights = "\(lora.weight)" + parts.compactMap { $0 }.joined()
            for file in lora.describingFiles { lines.append("lora of \(try known.sha256(of: file, monitor))") }
            lines.append("lora \(try known.sha256(of: lora.file, monitor)) \(weights)")
        }
        return lines.count == 1 ? weightsHash : Self.hash(of: lines)
    }

    /// SHA-256 over the names and bytes of ``describingFiles()``.
    func descriptionHash(_ known: KnownFiles, _ monitor: Monitor) throws(DreamCacheError) -> String {
        Self.hash(
            of: try describingFiles().map { path throws(DreamCacheError) in
                try known.sha256(of: path, monitor) + " " + URL(fileURLWithPath: path).lastPathComponent
            })
    }

    static func hash(of lines: [String]) -> String {
        sha256(lines.map { $0 + "\n" }.joined().utf8)
    }
}
