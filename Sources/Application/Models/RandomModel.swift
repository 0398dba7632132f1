import Bytes
import Checkpoint
import Diffusion
import DreamCache
import Foundation
import TensorEngine

/// A model of random weights, complete with adapter: the whole program can be tried on it without a download, at the size
/// of a real one too. Its pictures are noise.
public enum RandomModel {
    /// A model's shape.
    public enum Geometry: String, CaseIterable, Sendable {
        /// Stable Diffusion 2.1.
        case sd21
        /// Stable Diffusion 1.5.
        case sd15
        /// Pictures of 128 x 128 pixels, within seconds.
        case tiny

        var configuration: ModelConfiguration {
            var configuration = ModelConfiguration()
            switch self {
            case .sd21: break
            case .sd15:
                configuration.unet = .stableDiffusion1
                configuration.text = .clipViTL
            case .tiny: configuration = RandomModel.tiny
            }
            return configuration
        }
    }

    /// Files of the model in its folder.
    public static let checkpointName = "random.safetensors"
    /// The adapter's file.
    public static let adapterName = "random-adapter.safetensors"

    fileprivate static var tiny: ModelConfiguration {
        var model = ModelConfiguration()
        model.unet = UNetConfiguration(heads: .channels(16), contextSize: 64)
        model.unet.modelChannels = 32
        model.unet.channelMultipliers = [1, 1, 2, 2]
        model.autoencoder.channels = 32
        model.autoencoder.channelMultipliers = [1, 2, 2, 2]
        model.text = TextEncoderConfiguration(width: 64, layers: 3)
        model.latentSize = 16
        return model
    }

    /// The shape a weight has in a published LDM file. Both networks have 1x1 convolutions, `[outputs, inputs, 1, 1]`, where
    /// the engine multiplies matrices: CompVis/stable-diffusion, `ldm/modules/diffusionmodules/model.py` (`nin_shortcut`, the
    /// attention of the middle), `ldm/models/autoencoder.py` (`quant_conv`, `post_quant_conv`), `openaimodel.py`
    /// (`skip_connection`) and, where `use_linear_in_transformer` is off, as in version 1, `attention.py` (`proj_in`,
    /// `proj_out`).
    static func publishedShape(_ name: String, _ shape: [Int], _ geometry: Geometry) -> [Int] {
        let parts = name.split(separator: ".")
        guard shape.count == 2, parts.last == "weight", parts.count > 1 else { return shape }
        let layer = String(parts[parts.count - 2])
        let isConvolution =
            if name.hasPrefix("first_stage_model.") {
                ["nin_shortcut", "q", "k", "v", "proj_out", "quant_conv", "post_quant_conv"].contains(layer)
            } else if name.hasPrefix("model.diffusion_model.") {
                layer == "skip_connection" || geometry == .sd15 && ["proj_in", "proj_out"].contains(layer)
            } else {
                false
            }
        return isConvolution ? shape + [1, 1] : shape
    }

    /// Writes the model into a folder, which is made; of Stable Diffusion's size that is 5 GB. Each file appears whole.
    /// - Throws: what the file system or the model's code throws.
    public static func write(_ geometry: Geometry, into folder: String) throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        func path(_ name: String) -> String { URL(fileURLWithPath: folder).appendingPathComponent(name).path }
        let engine = try Engine(path: .openBLAS)
        let store = ParameterStore(randomSeed: 1)
        let model = try StableDiffusion(store, geometry.configuration, engine: engine)
        try store.takenTensors(
            metadata: ["modelspec.title": "random weights", "modelspec.prediction_type": "epsilon"],
            shapedAs: { publishedShape($0, $1, geometry) }
        ).write(toPath: path(checkpointName))
        let adapterStore = ParameterStore(randomSeed: 2)
        _ = try Adapter(adapterStore, for: model.unet, engine: engine)
        try adapterStore.takenTensors(metadata: ["modelspec.title": "random adapter"]).write(toPath: path(adapterName))
        // Other geometries are recognised by their weights.
        guard geometry == .tiny else { return }
        let yaml = URL(fileURLWithPath: path(checkpointName)).deletingPathExtension().appendingPathExtension("yaml")
        try AtomicFile.write(Array(ldmYaml.utf8), to: yaml.path)
    }

    private static var ldmYaml: String {
        let (unet, autoencoder) = (tiny.unet, tiny.autoencoder)
        return """
            model:
              params:
                image_size: \(tiny.latentSize)
                unet_config:
                  params:
                    in_channels: \(unet.inChannels)
                    out_channels: \(unet.outChannels)
                    model_channels: \(unet.modelChannels)
                    attention_resolutions: [4, 2, 1]
                    num_res_blocks: \(unet.residualBlocks)
                    channel_mult: \(unet.channelMultipliers)
                    num_head_channels: 16
                    context_dim: \(unet.contextSize)
                first_stage_config:
                  params:
                    ddconfig:
                      z_channels: \(autoencoder.latentChannels)
                      ch: \(autoencoder.channels)
                      ch_mult: \(autoencoder.channelMultipliers)
                      num_res_blocks: \(autoencoder.residualBlocks)

            """
    }
}
