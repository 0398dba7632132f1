import Bytes
import Diffusion
import Foundation

/// The files of a model, and what of them is taken. The ``options`` are members too: `files.clipSkip`.
@dynamicMemberLookup
public struct ModelFiles: Sendable, Hashable {
    /// Base model: an LDM checkpoint, or a diffusers folder.
    public var checkpoint: String
    /// What of it is loaded, and how.
    public var options = StableDiffusion.Options()
    /// The adapter; without one the base itself reads caches, as ``selfReading`` says.
    public var adapter: String?
    /// How the base reads caches where there is no adapter.
    public var selfReading = SelfReading()

    /// Paths of the files; the other fields have the values that leave the model as its files have it.
    public init(checkpoint: String, yaml: String? = nil, adapter: String? = nil) {
        self.checkpoint = checkpoint
        self.adapter = adapter
        options.yaml = yaml
    }

    /// One of the ``options``.
    public subscript<Value>(dynamicMember option: WritableKeyPath<StableDiffusion.Options, Value>) -> Value {
        get { options[keyPath: option] }
        set { options[keyPath: option] = newValue }
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
            try StableDiffusion.weightFiles(
                of: checkpoint, variant: options.variant,
                hasAutoencoder: options.autoencoder == nil)
        }
    }

    /// All files that a model is made of: weights, what describes them, adapter, LoRAs.
    public func allFiles() throws(DreamCacheError) -> [String] {
        let additions = try onModel { () throws(DiffusionError) in
            try
                (options.autoencoder.map { path throws(DiffusionError) in
                    try StableDiffusion.autoencoderFiles(of: path, variant: options.variant)
                } ?? []) + StableDiffusion.embeddingFiles(of: options.embeddings).map(\.path)
        }
        let loras = try onModel { () throws(DiffusionError) in
            try options.loras.map { lora throws(DiffusionError) in try lora.files() }
        }
        return try weightFiles() + describingFiles() + [adapter].compactMap(\.self) + additions
            + loras.flatMap { [$0.weights] + $0.describing }
    }

    /// The files that say how the base model's weights are used.
    func describingFiles() throws(DreamCacheError) -> [String] {
        try onModel { () throws(DiffusionError) in
            try StableDiffusion.describingFiles(of: checkpoint, yaml: options.yaml)
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
        if options.usesEMA { lines.append("ema") }
        if options.clipSkip > 0 { lines.append("clip_skip \(options.clipSkip)") }
        if let autoencoder = options.autoencoder {
            let files = try onModel { () throws(DiffusionError) in
                try StableDiffusion.autoencoderFiles(of: autoencoder, variant: options.variant)
            }
            for file in files { lines.append("vae \(try known.sha256(of: file, monitor))") }
        }
        let inversions = try onModel { () throws(DiffusionError) in
            try StableDiffusion.embeddingFiles(of: options.embeddings)
        }
        for file in inversions {
            lines.append("embedding \(file.word ?? "") \(try known.sha256(of: file.path, monitor))")
        }
        if let training = options.schedule.training { lines.append("schedule \(training)") }
        for lora in options.loras {
            let parts = [lora.unetWeight.map { " unet \($0)" }, lora.textEncoderWeight.map { " text \($0)" }]
            let weights = "\(lora.weight)" + parts.compactMap { $0 }.joined()
            let files = try onModel { () throws(DiffusionError) in try lora.files() }
            for file in files.describing { lines.append("lora of \(try known.sha256(of: file, monitor))") }
            lines.append("lora \(try known.sha256(of: files.weights, monitor)) \(weights)")
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
