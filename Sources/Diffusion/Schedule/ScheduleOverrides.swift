/// What a configuration says of a model's schedule over what its files say. Properties are those of
/// ``ScheduleConfiguration``; nil leaves the files' value.
public struct ScheduleOverrides: Sendable, Hashable {
    /// The sampler of requests that name none.
    public var sampler: SamplerChoice?
    /// See ``ScheduleConfiguration/timestepSpacing``.
    public var timestepSpacing: TimestepSpacing?
    /// See ``ScheduleConfiguration/rescaleBetasZeroSNR``.
    public var rescaleBetasZeroSNR: Bool?
    /// See ``ScheduleConfiguration/betaStart``.
    public var betaStart: Double?
    /// See ``ScheduleConfiguration/betaEnd``.
    public var betaEnd: Double?
    /// See ``ScheduleConfiguration/betaSchedule``.
    public var betaSchedule: BetaSchedule?
    /// See ``ScheduleConfiguration/stepsOffset``.
    public var stepsOffset: Int?
    /// See ``ScheduleConfiguration/setAlphaToOne``.
    public var setAlphaToOne: Bool?
    /// See ``ScheduleConfiguration/clipSample``.
    public var clipSample: Bool?
    /// See ``ScheduleConfiguration/originalInferenceSteps``.
    public var originalInferenceSteps: Int?

    /// None.
    public init() {}

    /// What of it changes the noise a model was trained with, as text; nil where nothing does.
    public var training: String? {
        let parts = [
            rescaleBetasZeroSNR.map { "rescale_betas_zero_snr \($0)" }, betaStart.map { "beta_start \($0)" },
            betaEnd.map { "beta_end \($0)" }, betaSchedule.map { "beta_schedule \($0.rawValue)" },
        ].compactMap { $0 }
        return parts.isEmpty ? nil : parts.joined(separator: " ")
    }
}

extension ScheduleConfiguration {
    /// Takes what is said over what is there.
    /// - Throws: ``ScheduleError`` for values no schedule can be made from.
    mutating func apply(_ overrides: ScheduleOverrides) throws(ScheduleError) {
        if let sampler = overrides.sampler { self = selecting(sampler) }
        timestepSpacing = overrides.timestepSpacing ?? timestepSpacing
        rescaleBetasZeroSNR = overrides.rescaleBetasZeroSNR ?? rescaleBetasZeroSNR
        betaStart = overrides.betaStart ?? betaStart
        betaEnd = overrides.betaEnd ?? betaEnd
        betaSchedule = overrides.betaSchedule ?? betaSchedule
        stepsOffset = overrides.stepsOffset ?? stepsOffset
        setAlphaToOne = overrides.setAlphaToOne ?? setAlphaToOne
        clipSample = overrides.clipSample ?? clipSample
        originalInferenceSteps = overrides.originalInferenceSteps ?? originalInferenceSteps
        try validate()
    }
}
