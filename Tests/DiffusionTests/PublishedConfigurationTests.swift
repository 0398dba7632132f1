import Foundation
import Testing

@testable import Diffusion

/// The geometry in the configurations that Stable Diffusion was published with; the values are those of the files on
/// Hugging Face (CompVis/stable-diffusion-v1-4, stabilityai/stable-diffusion-2-1-base), reduced to the keys that are read.
@Suite struct PublishedConfigurationTests {
    private func document(_ json: String) throws -> JSONDocument {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).json").path
        try Data(json.utf8).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try JSONDocument(path: path)
    }

    private func unet(_ heads: String, _ context: Int) -> String {
        """
        {"act_fn": "silu", "attention_head_dim": \(heads), "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": false, "cross_attention_dim": \(context),
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
        "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
        "dual_cross_attention": false,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]}
        """
    }

    @Test func unets() throws {
        #expect(try UNetConfiguration(diffusers: document(unet("8", 768))) == .stableDiffusion1)
        #expect(try UNetConfiguration(diffusers: document(unet("[5, 10, 20, 20]", 1024))) == .stableDiffusion2)
        #expect(
            try UNetConfiguration(diffusers: document(unet("[5, 10, 20, 40]", 1024))).heads
                == .perLevel([5, 10, 20, 40]))
    }

    @Test func autoencoder() throws {
        let json = """
            {"act_fn": "silu", "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D",
            "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"], "in_channels": 3, "latent_channels": 4,
            "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": 512, "up_block_types":
            ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}
            """
        #expect(try AutoencoderConfiguration(diffusers: document(json)) == .stableDiffusion)
    }

    @Test func textEncoders() throws {
        let clip = """
            {"architectures": ["CLIPTextModel"], "hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072,
            "layer_norm_eps": 1e-05, "max_position_embeddings": 77, "num_attention_heads": 12, "num_hidden_layers": 12,
            "vocab_size": 49408}
            """
        #expect(try TextEncoderConfiguration(diffusers: document(clip)) == .clipViTL)
        let openCLIP = """
            {"architectures": ["CLIPTextModel"], "hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096,
            "layer_norm_eps": 1e-05, "max_position_embeddings": 77, "num_attention_heads": 16, "num_hidden_layers": 23,
            "vocab_size": 49408}
            """
        var expected = TextEncoderConfiguration.openCLIPViTH
        (expected.naming, expected.layers, expected.skippedLayers) = (.transformers, 23, 0)
        #expect(try TextEncoderConfiguration(diffusers: document(openCLIP)) == expected)
    }

    @Test func pythonsInfinitiesAreRead() throws {
        let json = Data(#"{"a": -Infinity, "b": [Infinity, NaN], "c": "-Infinity \" NaN", "d": 1}"#.utf8)
        let values = try JSONDecoder().decode(
            [String: JSONValue].self, from: JSONValue.quotingInfinities(in: json))
        #expect("\(values["a"] ?? .null)" == "'-Infinity'")
        #expect("\(values["b"] ?? .null)" == "['Infinity', 'NaN']")
        #expect("\(values["c"] ?? .null)" == "'-Infinity \" NaN'")
    }
}
