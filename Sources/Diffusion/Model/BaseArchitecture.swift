/// The bases that Stability AI's ModelSpec has names for; adapters say by them which base they were trained on.
///
/// Source: https://github.com/Stability-AI/ModelSpec, `modelspec.architecture`.
public enum BaseArchitecture: String, Sendable, CaseIterable {
    /// Stable Diffusion 1.1 to 1.5 and their fine-tunes.
    case stableDiffusion1 = "stable-diffusion-v1"
    /// Stable Diffusion 2.0-base and 2.1-base.
    case stableDiffusion2 = "stable-diffusion-v2-512"
    /// Stable Diffusion 2.0-v and 2.1-v.
    case stableDiffusion2v = "stable-diffusion-v2-768-v"

    /// As a person calls it.
    public var title: String {
        switch self {
        case .stableDiffusion1: "Stable Diffusion 1"
        case .stableDiffusion2: "Stable Diffusion 2"
        case .stableDiffusion2v: "Stable Diffusion 2 at 768 pixels (v-prediction)"
        }
    }
}

extension ModelConfiguration {
    /// The base this model is, or nil for one of another geometry.
    public var architecture: BaseArchitecture? {
        guard unet.modelChannels == 320, unet.channelMultipliers == [1, 2, 4, 4] else { return nil }
        switch (unet.contextSize, schedule.predictionType) {
        case (768, _): return .stableDiffusion1
        case (1024, .vPrediction): return .stableDiffusion2v
        case (1024, _): return .stableDiffusion2
        default: return nil
        }
    }
}
