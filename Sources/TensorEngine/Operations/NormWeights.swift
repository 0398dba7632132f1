/// Scale and shift of a normalisation, one of each per channel.
public struct NormWeights {
    let weight: Tensor
    let bias: Tensor

    /// `weight` and `bias` hold one value per channel.
    public init(weight: [Float], bias: [Float], engine: Engine) throws(EngineError) {
        self.weight = try engine.tensor(weight, shape: [weight.count])
        self.bias = try engine.tensor(bias, shape: [weight.count])
    }
}
