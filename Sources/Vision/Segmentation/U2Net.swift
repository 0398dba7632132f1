import Checkpoint
import TensorEngine

/// U-2-Net in its small form, u2netp (Qin, Zhang, Huang, Dehghan, Zaiane & Jagersand 2020): a U-net of U-nets that finds the
/// salient object of a picture.
///
/// Golden: Tests/Fixtures/u2netp.
struct U2Net {
    private let engine: Engine
    /// Stages 1 to 6.
    private let encoder: [ResidualUBlock]
    /// Stages 1d to 5d.
    private let decoder: [ResidualUBlock]
    /// One map each of stages 1d to 5d and 6.
    private let sides: [Weights]
    private let join: Weights

    /// Takes all of a checkpoint whose names are those of the authors' code.
    /// - Throws: `VisionError.checkpoint` listing what does not fit.
    init(_ checkpoint: Checkpoint, engine: Engine) throws(VisionError) {
        let store = ParameterStore(checkpoint)
        self.engine = engine
        do throws(EngineError) {
            let maker = ConvolutionMaker(engine: engine)
            let levels = [7, 6, 5, 4, 4, 4]
            var (encoder, decoder, sides): ([ResidualUBlock], [ResidualUBlock], [Weights]) = ([], [], [])
            for stage in 1...6 {
                encoder.append(
                    try ResidualUBlock(
                        store["stage\(stage)"], maker, levels: levels[stage - 1], isFlat: stage > 4,
                        inputs: stage == 1 ? 3 : 64))
                sides.append(try maker(store["side\(stage)"], inputs: 64, outputs: 1))
                guard stage < 6 else { continue }
                decoder.append(
                    try ResidualUBlock(
                        store["stage\(stage)d"], maker, levels: levels[stage - 1], isFlat: stage > 4, inputs: 128))
            }
            (self.encoder, self.decoder, self.sides) = (encoder, decoder, sides)
            join = try maker(store["outconv"], inputs: 6, outputs: 1, kernel: 1)
        } catch { throw .engine(error) }
        do { try store.finish() } catch { throw .checkpoint(error) }
    }

    /// How many stages ``callAsFunction(_:beforeStage:)`` runs.
    static let stages = 11

    /// `[1, h, w, 3]`, normalised, to `[1, h, w, 1]`: how likely each pixel belongs to the salient object, 0 to 1.
    ///
    /// - Parameter beforeStage: called before each of the ``stages``; what it throws ends the work.
    func callAsFunction(_ x: Tensor, beforeStage: (Int) throws(VisionError) -> Void) throws(VisionError) -> Tensor {
        var features = x
        var skips: [Tensor] = []
        for (index, stage) in encoder.enumerated() {
            try beforeStage(index)
            features = try onEngine { () throws(EngineError) in
                try stage(index == 0 ? features : try engine.maxPooled(features))
            }
            skips.append(features)
        }
        var maps = try onEngine { () throws(EngineError) in try map(of: skips.removeLast(), 5, like: x) }
        for (index, stage) in decoder.enumerated().reversed() {
            try beforeStage(Self.stages - 1 - index)
            features = try onEngine { () throws(EngineError) in
                try stage(try engine.joined(features, skips.removeLast()))
            }
            maps = try onEngine { () throws(EngineError) in
                try engine.concatenated(try map(of: features, index, like: x), maps, entries: [0])
            }
        }
        return try onEngine { () throws(EngineError) in
            let result = try engine.product(maps, join)
            try engine.sigmoid(result)
            return result
        }
    }

    /// The map of one stage, in the size of the network's input.
    private func map(of features: Tensor, _ side: Int, like x: Tensor) throws(EngineError) -> Tensor {
        try engine.resized(try engine.product(features, sides[side]), height: x.shape[1], width: x.shape[2])
    }
}
