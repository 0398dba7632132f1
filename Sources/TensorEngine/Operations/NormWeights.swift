/// Scale and shift of a normalisation, one of each per channel.
public struct NormWeights {
    let weight: Tensor
    let bias: Tensor

    /// Scale and shift `[channels]` (float32) that stay where they are: what is trained is read as it is at the time.
    public init(weight: Tensor, bias: Tensor) {
        precondition(weight.shape == bias.shape && weight.elementType == .float32 && bias.elementType == .float32)
        self.weight = weight
        self.bias = bias
    }

    /// `weight` and `bias` hold one value per channel.
    public init(weight: [Float], bias: [Float], engine: Engine) throws(EngineError) {
        self.weight = try engine.tensor(weight, shape: [weight.count])
        self.bias = try engine.tensor(bias, shape: [weight.count])
    }
}
