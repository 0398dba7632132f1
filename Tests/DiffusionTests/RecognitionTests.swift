import Checkpoint
import Foundation
import Testing

@testable import Diffusion

/// Sizes read from files: none of them makes later arithmetic overflow or divide by zero.
@Suite struct RecognitionTests {
    private let path = NSTemporaryDirectory() + "recognition-\(UUID().uuidString).safetensors"

    private static let sound: [String: [Int]] = [
        "model.diffusion_model.input_blocks.0.0.weight": [32, 4, 3, 3],
        "model.diffusion_model.input_blocks.1.0.in_layers.2.weight": [32, 32, 3, 3],
        "model.diffusion_model.out.2.weight": [4, 32, 3, 3],
        "first_stage_model.encoder.conv_in.weight": [32, 3, 3, 3],
        "first_stage_model.encoder.down.0.block.0.conv1.weight": [32, 32, 3, 3],
        "first_stage_model.decoder.conv_in.weight": [32, 4, 3, 3],
        "cond_stage_model.model.token_embedding.weight": [100, 64],
        "cond_stage_model.model.positional_embedding": [77, 64],
        "cond_stage_model.model.transformer.resblocks.0.mlp.c_fc.weight": [256, 64],
    ]

    private func recognised(_ changes: [String: [Int]?] = [:]) throws -> ModelConfiguration {
        defer { unlink(path) }
        var writer = SafetensorsWriter()
        for (name, shape) in Self.sound.merging(changes.compactMapValues(\.self), uniquingKeysWith: { $1 })
        where changes[name] != .some(nil) {
            writer.add(
                name, type: .f32, shape: shape,
                floats: [Float](repeating: 0, count: shape.contains(0) ? 0 : shape.reduce(1, *)))
        }
        try writer.write(toPath: path)
        return try ModelConfiguration(recognisedFrom: ParameterStore(try Checkpoint.open(path)), path: path)
    }

    @Test func aSoundModelIsRecognised() throws {
        let model = try recognised()
        #expect(model.autoencoder.channelMultipliers == [1] && model.autoencoder.downscale == 1)
    }

    /// Finding 16: an encoder without levels was shifted by -1.
    @Test(
        arguments: [
            (
                "first_stage_model.encoder.down.0.block.0.conv1.weight", nil,
                "encoder.down.*: levels: found 0, expected 1 to 8"
            ),
            ("model.diffusion_model.input_blocks.1.0.in_layers.2.weight", nil, "levels: found 0, expected 1 to 8"),
            ("first_stage_model.encoder.conv_in.weight", [1 << 40, 0, 3, 3], "found shape"),
            ("model.diffusion_model.input_blocks.0.0.weight", [5000, 1, 1, 1], "found 5000, expected 1 to 4096"),
            ("first_stage_model.encoder.down.0.block.0.conv1.weight", [1 << 60, 0, 3, 3], "expected 1 to 64"),
        ] as [(String, [Int]?, String)])
    func sizesThatNoModelHasAreRefused(_ name: String, _ shape: [Int]?, _ message: String) throws {
        let error = try #require(throws: DiffusionError.self) { try recognised([name: shape]) }
        #expect("\(error)".contains(message), "\(error)")
    }

    /// Finding 17: `z_channels` is doubled.
    @Test(arguments: ["z_channels: 9223372036854775807", "z_channels: 0", "z_channels: -4"])
    func aLatentOfImpossibleSizeIsRefused(_ line: String) throws {
        let yaml = path + ".yaml"
        defer { unlink(yaml) }
        let text = """
            model:
              params:
                unet_config:
                  params: {in_channels: 4, out_channels: 4, model_channels: 32, num_res_blocks: 1, context_dim: 64,
                    num_heads: 8, attention_resolutions: [1], channel_mult: [1]}
                first_stage_config:
                  params:
                    ddconfig: {ch: 32, num_res_blocks: 1, ch_mult: [1], \(line)}
            """
        try Data(text.utf8).write(to: URL(fileURLWithPath: yaml))
        var configuration = ModelConfiguration()
        let error = try #require(throws: DiffusionError.self) { try configuration.apply(ldmYaml: yaml) }
        #expect("\(error)".contains("z_channels 1...4096"), "\(error)")
        try Data(text.replacingOccurrences(of: line, with: "z_channels: 4").utf8).write(to: URL(fileURLWithPath: yaml))
        try configuration.apply(ldmYaml: yaml)
        #expect(configuration.autoencoder.latentChannels == 4)
    }
}
