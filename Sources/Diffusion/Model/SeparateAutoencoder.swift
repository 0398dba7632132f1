import Checkpoint
import Foundation

/// An autoencoder in a file or folder of its own: a file in LDM's names, with or without `first_stage_model.` before them, a
/// file in diffusers' names, or a diffusers folder (of an autoencoder, or of a whole model).
///
/// Proved by `Tests/Fixtures/families`.
struct SeparateAutoencoder {
    let part: ParameterStore.Part
    let configuration: AutoencoderConfiguration
    /// What its configuration says latents are multiplied by.
    let latentScale: Float?

    /// Entries of such files that are no parameters.
    static let ignored: [ParameterStore.IgnoredKeys] = [
        .prefix("loss."), .prefix("model_ema."), .prefix(LDMNames.autoencoder + "loss."),
    ]

    /// The files that hold its weights.
    static func weightFiles(of path: String, variant: String?) throws(DiffusionError) -> [String] {
        guard try ModelPath.isFolder(path) else { return [path] }
        let folder = try folder(path)
        return try DiffusersFolder.autoencoderWeights(folder, variant: variant).files.map {
            DiffusersFolder.join(folder, $0)
        }
    }

    /// The autoencoder's own folder in that of a whole model.
    private static func folder(_ path: String) throws(DiffusionError) -> String {
        let inner = DiffusersFolder.join(path, "vae")
        return try ModelPath.isFolder(inner) ? inner : path
    }

    init(path: String, variant: String?) throws(DiffusionError) {
        do {
            guard try !ModelPath.isFolder(path) else {
                let folder = try Self.folder(path)
                let config = try JSONDocument(path: DiffusersFolder.join(folder, "config.json"))
                configuration = try AutoencoderConfiguration(diffusers: config)
                latentScale = try config.number("scaling_factor").map { Float($0) }
                let weights = try DiffusersFolder.autoencoderWeights(folder, variant: variant)
                let files = try weights.files.map { file throws(CheckpointError) in
                    try Checkpoint.open(DiffusersFolder.join(folder, file))
                }
                part = try Self.part(files, weights.files.map { DiffusersFolder.join(folder, $0) }, configuration)
                return
            }
            let file = try Checkpoint.open(path)
            latentScale = nil
            if file.tensors["encoder.down_blocks.0.resnets.0.conv1.weight"] != nil {
                configuration = Self.recognised(file, down: { "down_blocks.\($0).resnets.\($1)" })
                part = try Self.part([file], [path], configuration)
                return
            }
            let prefix =
                file.tensors[LDMNames.autoencoder + "encoder.conv_in.weight"] == nil ? "" : LDMNames.autoencoder
            guard file.tensors[prefix + "encoder.conv_in.weight"] != nil else {
                throw DiffusionError.configuration(
                    path: path, field: "vae",
                    found: FileKind.of(Array(file.tensors.keys)) ?? "no encoder.conv_in.weight",
                    expected: "an autoencoder in LDM's or diffusers' names")
            }
            configuration = Self.recognised(file, prefix: prefix, down: { "down.\($0).block.\($1)" })
            part = try ParameterStore.Part(
                prefix: LDMNames.autoencoder, [file], label: path, filePrefix: prefix,
                renaming: KeyRenaming(table: [.init(LDMNames.autoencoder, prefix)]))
        } catch let error as CheckpointError {
            throw .checkpoint(error)
        } catch let error as DiffusionError {
            throw error
        } catch {
            throw .configuration(path: path, field: "vae", found: "\(error)", expected: "an autoencoder")
        }
    }

    private static func part(
        _ files: [Checkpoint], _ paths: [String], _ configuration: AutoencoderConfiguration
    ) throws(CheckpointError) -> ParameterStore.Part {
        let isOld = files.contains { $0.tensors["decoder.mid_block.attentions.0.query.weight"] != nil }
        let table = DiffusersNames.autoencoder(configuration, isOld: isOld).under(LDMNames.autoencoder)
        return try ParameterStore.Part(
            prefix: LDMNames.autoencoder, files, label: paths.first, labels: paths, renaming: KeyRenaming(table: table))
    }

    /// The geometry that shapes show; what is missing is named when the parameters are taken.
    /// - Parameter down: the name of a residual block of the encoder by level and place.
    private static func recognised(
        _ file: Checkpoint, prefix: String = "", down: (Int, Int) -> String
    ) -> AutoencoderConfiguration {
        func shape(_ name: String) -> [Int]? {
            file.tensors[prefix + name]?.shape.filter { $0 > 0 }.count == 4 ? file.tensors[prefix + name]?.shape : nil
        }
        var configuration = AutoencoderConfiguration()
        guard let first = shape("encoder.conv_in.weight") else { return configuration }
        configuration.channels = first[0]
        configuration.latentChannels = shape("decoder.conv_in.weight")?[1] ?? 4
        configuration.normGroups = min(configuration.normGroups, first[0])
        var multipliers: [Int] = []
        while multipliers.count < 8, let conv = shape("encoder.\(down(multipliers.count, 0)).conv1.weight") {
            multipliers.append(max(1, conv[0] / first[0]))
        }
        guard !multipliers.isEmpty else { return configuration }
        configuration.channelMultipliers = multipliers
        var blocks = 0
        while blocks < 16, shape("encoder.\(down(0, blocks)).conv1.weight") != nil { blocks += 1 }
        configuration.residualBlocks = max(1, blocks)
        return configuration
    }
}
