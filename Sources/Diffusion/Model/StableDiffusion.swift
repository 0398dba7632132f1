import Checkpoint
import Foundation
import TensorEngine

/// A latent diffusion model in memory: tokenizer, text encoder, U-Net and autoencoder on one engine.
public final class StableDiffusion {
    /// Its geometry and conventions.
    public let configuration: ModelConfiguration
    /// What runs it.
    public let engine: Engine
    /// Text to token ids.
    public let tokenizer: Tokenizer
    /// Token ids to states.
    public let textEncoder: TextEncoder
    /// The denoiser.
    public let unet: UNet
    /// Images to latents and back.
    public let autoencoder: Autoencoder

    /// Loads an LDM checkpoint, `.ckpt` or `.safetensors`, told apart by content.
    ///
    /// - Parameters:
    ///   - path: the checkpoint.
    ///   - yaml: its LDM configuration; without one, a file of the same base name with `.yaml` is used if it exists, and
    ///     the geometry is recognised from the weights if not.
    /// - Throws: `DiffusionError`; all missing, unused and misshapen tensors in one error.
    public static func load(
        checkpoint path: String, yaml: String? = nil, engine: Engine
    ) throws(DiffusionError) -> StableDiffusion {
        let store: ParameterStore
        do { store = ParameterStore(try Checkpoint.open(path)) } catch { throw .checkpoint(error) }
        var configuration = try ModelConfiguration(recognisedFrom: store, path: path)
        if let yaml = yaml ?? sibling(of: path) { try configuration.apply(ldmYaml: yaml) }
        return try StableDiffusion(store, configuration, engine: engine)
    }

    /// The yaml that lies beside a checkpoint under the same base name.
    static func sibling(of path: String) -> String? {
        let yaml = URL(fileURLWithPath: path).deletingPathExtension().appendingPathExtension("yaml").path
        return FileManager.default.fileExists(atPath: yaml) ? yaml : nil
    }

    /// Builds the model from parameters in LDM naming, or from a random store.
    public init(
        _ store: ParameterStore, _ configuration: ModelConfiguration, engine: Engine
    ) throws(DiffusionError) {
        self.configuration = configuration
        self.engine = engine
        do { tokenizer = try Tokenizer.clip() } catch { throw .resource("\(error)") }
        do {
            textEncoder = try TextEncoder(
                store.scoped(configuration.text.family == .clip ? LDMNames.clip : LDMNames.openCLIP),
                configuration.text, engine: engine)
            unet = try UNet(store.scoped(LDMNames.unet), configuration.unet, engine: engine)
            autoencoder = try Autoencoder(
                store.scoped(LDMNames.autoencoder), configuration.autoencoder, engine: engine)
        } catch { throw .engine(error) }
        do {
            // OpenCLIP's last block is in the file and, by "penultimate", never run.
            try store.finish(ignoring: LDMNames.ignored)
        } catch { throw .checkpoint(error) }
    }

    /// The states of a prompt, `[1, 77, width]`.
    public func encode(prompt: String) throws(DiffusionError) -> Tensor {
        let padding: Tokenizer.Padding = configuration.text.family == .clip ? .endOfText : .zero
        do {
            return try textEncoder.encode(
                tokenizer.encode(prompt, contextLength: configuration.text.contextLength, padding: padding))
        } catch { throw .engine(error) }
    }

    /// A latent in files' order, `[channels, h, w]` repeated for `count` entries of a batch, as the U-Net takes it.
    public func latentTensor(_ latent: [Float], height: Int, width: Int, count: Int) throws(EngineError) -> Tensor {
        let channels = configuration.unet.inChannels
        let pixels = channelsLast(latent, channels: channels)
        return try engine.tensor(
            Array(repeatElement(pixels, count: count).joined()), shape: [count, height, width, channels])
    }

    /// The predictions of a batch, each in files' order `[channels, h, w]`.
    public func predictions(_ output: Tensor) -> [[Float]] {
        let all = engine.floats(output)
        let size = all.count / max(1, output.shape[0])
        return (0..<output.shape[0]).map {
            channelsFirst(Array(all[$0 * size..<($0 + 1) * size]), channels: output.channels)
        }
    }
}
