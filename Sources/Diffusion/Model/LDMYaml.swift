import Foundation
import Yams

/// The parts of an LDM yaml that describe a model (`model: params: ...`); the rest of the file, which configures
/// training, is not looked at.
struct LDMYaml: Decodable {
    struct Model: Decodable { let params: Parameters }
    struct Parameters: Decodable {
        let linearStart, linearEnd: Double?
        let timesteps: Int?
        let imageSize: Int?
        let scaleFactor: Float?
        let parameterization: String?
        let unetConfig: Part<UNet>
        let firstStageConfig: Part<FirstStage>

        enum CodingKeys: String, CodingKey {
            case linearStart = "linear_start"
            case linearEnd = "linear_end"
            case timesteps
            case imageSize = "image_size"
            case scaleFactor = "scale_factor"
            case parameterization
            case unetConfig = "unet_config"
            case firstStageConfig = "first_stage_config"
        }
    }
    struct Part<P: Decodable>: Decodable { let params: P }
    struct UNet: Decodable {
        let inChannels, outChannels, modelChannels, numResBlocks, contextDim: Int
        let numHeads, numHeadChannels, transformerDepth: Int?
        let attentionResolutions, channelMult: [Int]

        enum CodingKeys: String, CodingKey {
            case inChannels = "in_channels"
            case outChannels = "out_channels"
            case modelChannels = "model_channels"
            case numResBlocks = "num_res_blocks"
            case contextDim = "context_dim"
            case numHeads = "num_heads"
            case numHeadChannels = "num_head_channels"
            case transformerDepth = "transformer_depth"
            case attentionResolutions = "attention_resolutions"
            case channelMult = "channel_mult"
        }
    }
    struct FirstStage: Decodable {
        struct Configuration: Decodable {
            let zChannels, ch, numResBlocks: Int
            let chMult: [Int]

            enum CodingKeys: String, CodingKey {
                case zChannels = "z_channels"
                case ch
                case numResBlocks = "num_res_blocks"
                case chMult = "ch_mult"
            }
        }
        let ddconfig: Configuration
    }

    let model: Model
}

extension ModelConfiguration {
    /// Takes what an LDM yaml says over what was recognised from the weights.
    /// - Throws: `DiffusionError.configuration` naming the file and the field.
    mutating func apply(ldmYaml path: String) throws(DiffusionError) {
        let failure: Failure = { .configuration(path: path, field: $0, found: $1, expected: $2) }
        let yaml: LDMYaml
        do {
            let text = try String(contentsOfFile: path, encoding: .utf8)
            yaml = try YAMLDecoder().decode(LDMYaml.self, from: text)
        } catch let error as DecodingError {
            throw failure(error.path, error.reason, "an LDM model configuration")
        } catch {
            throw failure("file", "\(error)", "a readable LDM yaml")
        }

        let parameters = yaml.model.params
        try apply(parameters.unetConfig.params, failure)
        try apply(parameters.firstStageConfig.params.ddconfig, failure)
        try applySchedule(parameters, path, failure)
    }

    private typealias Failure = (_ field: String, _ found: String, _ expected: String) -> DiffusionError

    private mutating func apply(
        _ unetYaml: LDMYaml.UNet, _ failure: Failure
    ) throws(DiffusionError) {
        guard !unetYaml.channelMult.isEmpty, unetYaml.channelMult.allSatisfy((1...64).contains),
            (1...4096).contains(unetYaml.modelChannels), (1...16).contains(unetYaml.numResBlocks),
            (1...64).contains(unetYaml.transformerDepth ?? 1), (1...65536).contains(unetYaml.contextDim),
            unetYaml.channelMult.count <= 8, (1...4096).contains(unetYaml.inChannels),
            (1...4096).contains(unetYaml.outChannels)
        else {
            throw failure(
                "model.params.unet_config.params", "sizes out of range",
                "channel_mult of 1 to 8 values 1...64, in_channels, out_channels and model_channels 1...4096, "
                    + "num_res_blocks 1...16, transformer_depth 1...64")
        }
        unet.inChannels = unetYaml.inChannels
        unet.outChannels = unetYaml.outChannels
        unet.modelChannels = unetYaml.modelChannels
        unet.residualBlocks = unetYaml.numResBlocks
        unet.contextSize = unetYaml.contextDim
        unet.channelMultipliers = unetYaml.channelMult
        unet.transformerDepth = unetYaml.transformerDepth ?? 1
        // LDM names the levels with attention by how far they are scaled down.
        unet.attentionLevels = Set(
            unetYaml.channelMult.indices.filter { unetYaml.attentionResolutions.contains(1 << $0) })
        switch (unetYaml.numHeadChannels, unetYaml.numHeads) {
        case (let size?, _) where size > 0: unet.heads = .channels(size)
        case (_, let count?) where count > 0: unet.heads = .count(count)
        default:
            throw failure("model.params.unet_config.params", "neither", "num_heads or num_head_channels above 0")
        }
    }

    private mutating func apply(
        _ first: LDMYaml.FirstStage.Configuration, _ failure: Failure
    ) throws(DiffusionError) {
        guard (1...4096).contains(first.ch), !first.chMult.isEmpty, first.chMult.count <= 8,
            first.chMult.allSatisfy((1...64).contains), (1...16).contains(first.numResBlocks),
            (1...4096).contains(first.zChannels)
        else {
            throw failure(
                "model.params.first_stage_config.params.ddconfig", "sizes out of range",
                "ch 1...4096, ch_mult of 1 to 8 values 1...64, num_res_blocks 1...16, z_channels 1...4096")
        }
        autoencoder.channels = first.ch
        autoencoder.channelMultipliers = first.chMult
        autoencoder.residualBlocks = first.numResBlocks
        autoencoder.latentChannels = first.zChannels
    }

    private mutating func applySchedule(
        _ parameters: LDMYaml.Parameters, _ path: String, _ failure: Failure
    ) throws(DiffusionError) {
        schedule.betaStart = parameters.linearStart ?? schedule.betaStart
        schedule.betaEnd = parameters.linearEnd ?? schedule.betaEnd
        schedule.numTrainTimesteps = parameters.timesteps ?? schedule.numTrainTimesteps
        latentScale = parameters.scaleFactor ?? latentScale
        latentSize = parameters.imageSize ?? latentSize
        guard (8...1024).contains(latentSize) else {
            throw failure("model.params.image_size", "\(latentSize)", "8...1024")
        }
        do { try schedule.validate() } catch {
            throw .schedule(error, path: path, scope: "model.params.")
        }
        switch parameters.parameterization ?? "eps" {
        case "eps": schedule.predictionType = .epsilon
        case "v": schedule.predictionType = .vPrediction
        case let other: throw failure("model.params.parameterization", other, "eps or v")
        }
    }
}

extension DecodingError {
    fileprivate var context: Context? {
        switch self {
        case .keyNotFound(_, let context), .typeMismatch(_, let context), .valueNotFound(_, let context),
            .dataCorrupted(let context):
            context
        @unknown default: nil
        }
    }

    fileprivate var path: String {
        var path = (context?.codingPath ?? []).map(\.stringValue)
        if case .keyNotFound(let key, _) = self { path.append(key.stringValue) }
        return path.isEmpty ? "document" : path.joined(separator: ".")
    }

    fileprivate var reason: String {
        if case .keyNotFound = self { return "nothing" }
        return context?.debugDescription ?? "\(self)"
    }
}
