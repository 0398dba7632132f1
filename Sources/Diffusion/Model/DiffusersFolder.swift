import Checkpoint
import Foundation

/// A Stable Diffusion model in diffusers' folder layout: `model_index.json` and one folder per part.
///
/// Source: diffusers `DiffusionPipeline.from_pretrained` (names of files, variants, shards). Proved by
/// `Tests/Fixtures/families`.
struct DiffusersFolder {
    /// The files that hold the weights of a part.
    struct Weights {
        /// How messages name the place of a tensor that is in none of the files.
        let label: String
        /// Paths relative to the model's folder.
        let files: [String]
    }

    let path: String
    let unet, autoencoder, text: Weights

    /// A part of the model: its folder, the class that can be loaded, and the stems of its weights' names.
    private struct Part {
        let folder: String
        let classes: [String]
        let stems: [String]

        static let unet = Part(
            folder: "unet", classes: ["UNet2DConditionModel"], stems: ["diffusion_pytorch_model"])
        static let autoencoder = Part(folder: "vae", classes: ["AutoencoderKL"], stems: ["diffusion_pytorch_model"])
        static let text = Part(
            folder: "text_encoder", classes: ["CLIPTextModel"], stems: ["model", "pytorch_model"])
    }

    /// Reads the index and finds the files of every part.
    /// - Parameter variant: such as `fp16`; nil takes the files without one, or the only variant there is.
    /// - Parameter hasAutoencoder: false where another takes the place of the folder's own.
    init(path: String, variant: String?, hasAutoencoder: Bool = true) throws(DiffusionError) {
        self.path = path
        let index = try JSONDocument(path: Self.join(path, "model_index.json"))
        if let name = try index.text("_class_name"), let family = FileKind.otherPipeline(name) {
            throw .configuration(
                path: index.path, field: "_class_name", found: "\(name) (\(family))", expected: FileKind.supported)
        }
        for (key, name) in [
            ("text_encoder_2", "Stable Diffusion XL or 3"), ("transformer", "a diffusion transformer"),
            ("controlnet", "a ControlNet pipeline"), ("prior", "a pipeline with a prior"),
        ] {
            guard case .list(let entry)? = index[key], entry.contains(where: { $0.description != "null" }) else {
                continue
            }
            throw .configuration(
                path: index.path, field: key, found: name, expected: FileKind.supported)
        }
        for part in [Part.unet, .text] + (hasAutoencoder ? [.autoencoder] : []) {
            guard case .list(let entry)? = index[part.folder], case .text(let name)? = entry.last else {
                throw index.wrong(part.folder, "[library, \(part.classes.joined(separator: " or "))]")
            }
            guard part.classes.contains(name) else {
                throw .configuration(
                    path: index.path, field: part.folder, found: name,
                    expected: part.classes.joined(separator: " or "))
            }
        }
        unet = try Self.weights(path, .unet, variant)
        autoencoder = hasAutoencoder ? try Self.weights(path, .autoencoder, variant) : Weights(label: "vae", files: [])
        text = try Self.weights(path, .text, variant)
    }

    /// The weights of an autoencoder whose files lie in `folder` itself.
    static func autoencoderWeights(_ folder: String, variant: String?) throws(DiffusionError) -> Weights {
        let part = Part(folder: "", classes: Part.autoencoder.classes, stems: Part.autoencoder.stems)
        return try weights(folder, part, variant)
    }

    static func join(_ parts: String...) -> String {
        parts.dropFirst().filter { !$0.isEmpty }
            .reduce(parts.first ?? "") { $0.isEmpty || $0.hasSuffix("/") ? $0 + $1 : "\($0)/\($1)" }
    }

    /// All weight files, relative to the folder.
    var weightFiles: [String] { (text.files + unet.files + autoencoder.files).sorted() }

    // MARK: Files

    /// A name that weights can have, taken apart.
    private struct Candidate {
        let file: String, variant: String
        let isIndex: Bool
        /// Lower is better: safetensors before pickles.
        let rank: Int
    }

    /// `STEM[.VARIANT].safetensors`, `.bin`, each also with `.index.json`; the older index is
    /// `STEM.safetensors.index.VARIANT.json`. A shard of many is no candidate.
    private static func candidate(_ file: String, stems: [String]) -> Candidate? {
        for stem in stems where file.hasPrefix(stem + ".") {
            var segments = file.dropFirst(stem.count + 1).split(separator: ".").map(String.init)
            var isIndex = false
            if segments.last == "json", let position = segments.firstIndex(of: "index") {
                isIndex = true
                segments.removeLast()
                segments.remove(at: position)
            }
            guard let position = segments.firstIndex(where: { $0 == "safetensors" || $0 == "bin" }) else { return nil }
            let isPickle = segments.remove(at: position) == "bin"
            guard segments.count <= 1, segments.first.map({ !$0.contains("-of-") }) ?? true else { return nil }
            return Candidate(
                file: file, variant: segments.first ?? "", isIndex: isIndex,
                rank: (isPickle ? 2 : 0) + (isIndex ? 1 : 0))
        }
        return nil
    }

    private static func weights(
        _ path: String, _ part: Part, _ variant: String?
    ) throws(DiffusionError) -> Weights {
        let folder = join(path, part.folder)
        let candidates = try ModelPath.names(in: folder).compactMap { candidate($0, stems: part.stems) }.sorted {
            $0.rank < $1.rank
        }
        let variants = Set(candidates.map(\.variant))
        let expected = part.stems.map { "\($0)\(variant.map { "." + $0 } ?? "").safetensors or .bin" }
            .joined(separator: ", ")
        // As diffusers, a part that lacks the variant is taken without.
        guard
            let wanted = [variant ?? "", ""].first(where: variants.contains)
                ?? (variant == nil && variants.count == 1 ? variants.first : nil)
        else {
            throw .configuration(
                path: folder, field: "weights",
                found: variants.isEmpty
                    ? "none" : "only the variants \(variants.sorted().joined(separator: ", "))",
                expected: variants.count > 1 ? "one of them to be named as variant" : expected)
        }
        guard let chosen = candidates.first(where: { $0.variant == wanted }) else {
            throw .configuration(path: folder, field: "weights", found: "none", expected: expected)
        }
        let label = join(part.folder, chosen.file)
        guard chosen.isIndex else { return Weights(label: label, files: [label]) }
        return Weights(
            label: label, files: try shards(index: join(path, label), folder: folder).map { join(part.folder, $0) })
    }

    /// The files that an index names.
    private static func shards(index path: String, folder: String) throws(DiffusionError) -> [String] {
        let index = try JSONDocument(path: path)
        guard case .object(let map)? = index["weight_map"], !map.isEmpty else {
            throw index.wrong("weight_map", "an object of tensor to file")
        }
        var files: Set<String> = []
        for (key, value) in map {
            guard case .text(let file) = value, !file.contains("/"), !file.hasPrefix(".") else {
                throw .configuration(
                    path: path, field: "weight_map.\(key)", found: "\(value)", expected: "a file beside the index")
            }
            files.insert(file)
        }
        for file in files.sorted() where try !ModelPath.isFile(join(folder, file)) {
            throw .configuration(
                path: path, field: "weight_map", found: "\(file), which is not in \(folder)", expected: "every shard")
        }
        return files.sorted()
    }

    // MARK: Contents

    /// Geometry and conventions, from the configurations of the parts.
    /// - Parameter separate: an autoencoder that takes the place of the folder's own.
    func configuration(separate: SeparateAutoencoder? = nil) throws(DiffusionError) -> ModelConfiguration {
        var configuration = ModelConfiguration()
        let unet = try JSONDocument(path: Self.join(path, "unet/config.json"))
        configuration.unet = try UNetConfiguration(diffusers: unet)
        if let size = try unet.ints("sample_size", in: 8...1024)?.first { configuration.latentSize = size }
        if let separate {
            configuration.autoencoder = separate.configuration
            configuration.latentScale = separate.latentScale ?? configuration.latentScale
        } else {
            let autoencoder = try JSONDocument(path: Self.join(path, "vae/config.json"))
            configuration.autoencoder = try AutoencoderConfiguration(diffusers: autoencoder)
            configuration.latentScale = Float(try autoencoder.number("scaling_factor") ?? 0.18215)
            guard configuration.latentScale > 0, configuration.latentScale.isFinite else {
                throw autoencoder.wrong("scaling_factor", "a positive number")
            }
        }
        configuration.text = try TextEncoderConfiguration(
            diffusers: try JSONDocument(path: Self.join(path, "text_encoder/config.json")))
        let schedule = Self.join(path, "scheduler/scheduler_config.json")
        do {
            configuration.schedule = try ScheduleConfiguration.read(
                json: try JSONDocument.data(ofFile: schedule), path: schedule
            ).configuration
            // As StableDiffusionPipeline has it, whatever the file says: clipping is meant for pixels, and training's first
            // timestep is 1.
            configuration.schedule.clipSample = false
            configuration.schedule.stepsOffset = 1
        } catch let error as ScheduleError {
            throw .schedule(error, path: schedule, scope: "")
        } catch let error as DiffusionError {
            throw error
        } catch {
            throw .configuration(path: schedule, field: "file", found: "\(error)", expected: "a schedule")
        }
        return configuration
    }

    /// All weights under LDM's names, those of the autoencoder only where no other takes its place.
    func parts(
        _ configuration: ModelConfiguration, withAutoencoder: Bool
    ) throws(DiffusionError) -> [ParameterStore.Part] {
        let textFiles = try open(text)
        // transformers 5 leaves out the name of the module between model and layers.
        let hasModule = textFiles.contains { $0.tensors.keys.contains { $0.hasPrefix("text_model.") } }
        let (unetFiles, autoencoderFiles) = (try open(unet), withAutoencoder ? try open(autoencoder) : [])
        let isOld = autoencoderFiles.contains { $0.tensors["decoder.mid_block.attentions.0.query.weight"] != nil }
        do {
            var parts = [
                try ParameterStore.Part(
                    prefix: LDMNames.unet, unetFiles, label: unet.label, labels: unet.files,
                    renaming: KeyRenaming(table: DiffusersNames.unet(configuration.unet).under(LDMNames.unet))),
                try .init(
                    prefix: LDMNames.transformers, textFiles, label: text.label, labels: text.files,
                    renaming: KeyRenaming(table: [.init(LDMNames.transformers, hasModule ? "text_model." : "")])),
            ]
            if withAutoencoder {
                parts.append(
                    try .init(
                        prefix: LDMNames.autoencoder, autoencoderFiles, label: autoencoder.label,
                        labels: autoencoder.files,
                        renaming: KeyRenaming(
                            table: DiffusersNames.autoencoder(configuration.autoencoder, isOld: isOld).under(
                                LDMNames.autoencoder))))
            }
            return parts
        } catch { throw .checkpoint(error) }
    }

    private func open(_ weights: Weights) throws(DiffusionError) -> [Checkpoint] {
        do {
            return try weights.files.map { file throws(CheckpointError) in
                try Checkpoint.open(Self.join(path, file))
            }
        } catch { throw .checkpoint(error) }
    }

    /// The tokenizer of a folder.
    static func tokenizer(of path: String) throws(DiffusionError) -> Tokenizer {
        let folder = URL(fileURLWithPath: join(path, "tokenizer"))
        do { return try Tokenizer(diffusersFolder: folder) } catch {
            throw .configuration(path: error.path, field: "tokenizer", found: error.problem, expected: "a tokenizer")
        }
    }
}
