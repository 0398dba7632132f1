import Checkpoint
import TensorEngine

/// Whether a U-Net predicts v, told by running it: a single file of Stable Diffusion 2 does not say it, and its weights
/// have the same names and shapes either way.
///
/// At the noisiest timestep a model of epsilon gives back about what it is given; one of v gives back something far below.
/// Input, timestep and bound are those that AUTOMATIC1111's web UI has used for the same question
/// (`sd_models_config.py`, `is_using_v_parameterization_for_sd2`).
enum PredictionProbe {
    private static let side = 8
    private static let bound: Float = -1

    /// - Parameter store: the model's; the U-Net made of it here is gone, and its memory given back, on return.
    static func predictsV(
        _ store: ParameterStore, _ configuration: UNetConfiguration, engine: Engine
    ) throws(EngineError) -> Bool {
        defer { engine.trimMemory() }
        return try mean(store, configuration, engine) < bound
    }

    /// The mean of output less input.
    private static func mean(
        _ store: ParameterStore, _ configuration: UNetConfiguration, _ engine: Engine
    ) throws(EngineError) -> Float {
        let unet = try UNet(store.scoped(LDMNames.unet), configuration, engine: engine)
        let count = side * side * configuration.inChannels
        let x = try engine.tensor(
            Array(repeating: 0.5, count: count), shape: [1, side, side, configuration.inChannels])
        let context = try engine.tensor(
            Array(repeating: 0.5, count: 2 * configuration.contextSize), shape: [1, 2, configuration.contextSize])
        let text = try unet.textKeys(context)
        var output: [Float] = []
        for time in try unet.timeEmbeddings([999]) {
            output = engine.floats(try unet.decode(try unet.encode(x, time: time, text: text), time: time, text: text))
        }
        return output.reduce(0) { $0 + $1 - 0.5 } / Float(max(1, output.count))
    }
}
