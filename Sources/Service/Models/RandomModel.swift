import Checkpoint
import Diffusion
import DreamCache
import Foundation
import TensorEngine

/// A small model of random weights, complete with adapter and yaml: the whole program can be tried on it without a
/// download. Its pictures are noise.
public enum RandomModel {
    /// Files of the model in its folder.
    public static let checkpointName = "random.safetensors"
    /// The adapter's file.
    public static let adapterName = "random-adapter.safetensors"

    /// Its geometry: 128 x 128 pixels.
    static var configuration: ModelConfiguration {
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

    /// Writes the model into a folder, which is made.
    /// - Throws: what the file system or the model's code throws.
    public static func write(into folder: String) throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        func path(_ name: String) -> String { URL(fileURLWithPath: folder).appendingPathComponent(name).path }
        let engine = try Engine(path: .openBLAS)
        let store = ParameterStore(randomSeed: 1)
        let model = try StableDiffusion(store, configuration, engine: engine)
        try store.takenTensors(metadata: ["modelspec.title": "random weights"]).write(toPath: path(checkpointName))
        let adapterStore = ParameterStore(randomSeed: 2)
        _ = try Adapter(adapterStore, for: model.unet, engine: engine)
        try adapterStore.takenTensors(metadata: ["modelspec.title": "random adapter"]).write(toPath: path(adapterName))
        let yaml = URL(fileURLWithPath: path(checkpointName)).deletingPathExtension().appendingPathExtension("yaml")
        try Data(ldmYaml.utf8).write(to: yaml)
    }

    private static var ldmYaml: String {
        let (unet, autoencoder) = (configuration.unet, configuration.autoencoder)
        return """
            model:
              params:
                image_size: \(configuration.latentSize)
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
