/// A sampler as a request or a configuration asks for it. Whatever it leaves open is the model's own.
///
/// Samplers have many names. They are the affair of whoever reads them: a manifest's are in the module Spool (`Scheduler`).
public struct SamplerChoice: Sendable, Hashable {
    /// How the sigmas of a run are spread.
    public enum Sigmas: Sendable {
        /// See ``ScheduleConfiguration/useKarrasSigmas``.
        case karras
        /// See ``ScheduleConfiguration/useExponentialSigmas``.
        case exponential
    }

    /// The sampler.
    public var sampler: SamplerKind
    /// DPM-Solver's equation.
    public var algorithm: DPMSolverAlgorithm?
    /// The spread of its sigmas, for a sampler that works with sigmas; others have no use for it.
    public var sigmas: Sigmas?

    /// A choice.
    public init(_ sampler: SamplerKind, algorithm: DPMSolverAlgorithm? = nil, sigmas: Sigmas? = nil) {
        self.sampler = sampler
        self.algorithm = algorithm
        self.sigmas = sigmas
    }
}

extension ScheduleConfiguration {
    /// This configuration with another sampler, as diffusers' `from_config` would make it.
    public func selecting(_ choice: SamplerChoice) -> ScheduleConfiguration {
        var chosen = self
        chosen.sampler = choice.sampler
        if let algorithm = choice.algorithm { chosen.algorithmType = algorithm }
        if let sigmas = choice.sigmas {
            chosen.useKarrasSigmas = sigmas == .karras
            chosen.useExponentialSigmas = sigmas == .exponential
        }
        return chosen
    }
}
