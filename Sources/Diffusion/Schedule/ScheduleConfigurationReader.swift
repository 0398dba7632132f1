import Foundation

extension ScheduleConfiguration {
    /// Reads diffusers' `scheduler_config.json`.
    ///
    /// A known key with a value of the wrong type or an option we do not have is an error; an unknown key is not, for
    /// every release of diffusers adds some.
    ///
    /// - Parameters:
    ///   - json: the file's bytes.
    ///   - path: its name, for errors.
    /// - Returns: the configuration, and the keys that were ignored, sorted.
    /// - Throws: ``ScheduleError`` naming the file, the key, what was found and what was expected.
    public static func read(
        json: Data, path: String
    ) throws(ScheduleError) -> (configuration: ScheduleConfiguration, unknownKeys: [String]) {
        let document: ScheduleDocument
        do {
            document = try JSONDecoder().decode(ScheduleDocument.self, from: JSONValue.quotingInfinities(in: json))
        } catch {
            throw ScheduleError(path: path, field: "the file", problem: "is not a JSON object: \(error)")
        }
        do {
            return try document.read()
        } catch {
            throw ScheduleError(path: path, field: error.field, problem: error.problem)
        }
    }
}

/// An option of diffusers that we do not have: the values that leave it off, and the samplers that know it.
struct AbsentOption {
    let key: String
    let off: [String]
    let samplers: Set<SamplerKind>

    private static let solvers: Set<SamplerKind> = [.dpmSolverMultistep, .uniPC, .deis]

    static let all: [AbsentOption] = [
        .init(key: "thresholding", off: ["false"], samplers: solvers.union([.ddim, .ddpm, .lcm, .tcd])),
        .init(
            key: "use_beta_sigmas", off: ["false"],
            samplers: solvers.union([.euler, .heun, .lms, .dpmSolverSDE])),
        .init(key: "use_lu_lambdas", off: ["false"], samplers: [.dpmSolverMultistep]),
        .init(key: "use_flow_sigmas", off: ["false"], samplers: solvers),
        .init(key: "use_dynamic_shifting", off: ["false"], samplers: solvers),
        .init(key: "interpolation_type", off: ["'linear'"], samplers: [.euler]),
        .init(key: "timestep_type", off: ["'discrete'"], samplers: [.euler]),
        .init(
            key: "variance_type", off: ["'fixed_small'", "'fixed_large'"], samplers: [.ddpm, .dpmSolverMultistep]),
        .init(key: "solver_p", off: [], samplers: [.uniPC]),
        .init(key: "shift_terminal", off: [], samplers: [.uniPC]),
        .init(key: "skip_prk_steps", off: ["true"], samplers: [.pndm]),
    ]
}

/// The keys of a scheduler's configuration, each with whatever value it has.
private struct ScheduleDocument: Decodable {
    var values: [String: JSONValue]

    init(from decoder: any Decoder) throws {
        values = try decoder.singleValueContainer().decode([String: JSONValue].self)
    }

    /// Keys that change nothing while the options above are off.
    private static let inertKeys = [
        "_diffusers_version", "dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type",
    ]

    func read() throws(ScheduleError) -> (configuration: ScheduleConfiguration, unknownKeys: [String]) {
        guard case .text(let name)? = present("_class_name") else {
            throw ScheduleError(
                field: "_class_name",
                problem: "is \(present("_class_name")?.description ?? "missing"); expected a scheduler of diffusers")
        }
        guard !name.hasPrefix("FlowMatch") else {
            throw ScheduleError(
                field: "_class_name",
                problem: "is '\(name)', of models of flow matching; expected one of Stable Diffusion 1 or 2")
        }
        // A class that is none of ours names a sampler only: what the model was trained with stands beside it.
        let sampler = SamplerKind(rawValue: name) ?? .ddim
        var configuration = ScheduleConfiguration()
        configuration.sampler = sampler
        // What a file leaves out has the default of its class in diffusers, not ours.
        let isDistilled = sampler == .lcm || sampler == .tcd
        let isLatent = isDistilled || sampler == .heun || sampler == .dpmSolverSDE
        configuration.betaStart = try number("beta_start") ?? (isLatent ? 0.00085 : 0.0001)
        configuration.betaEnd = try number("beta_end") ?? (isLatent ? 0.012 : 0.02)
        configuration.betaSchedule = try choice("beta_schedule") ?? (isDistilled ? .scaledLinear : .linear)
        configuration.numTrainTimesteps = try integer("num_train_timesteps") ?? 1000
        configuration.trainedBetas = try numbers("trained_betas")
        configuration.rescaleBetasZeroSNR = try bool("rescale_betas_zero_snr") ?? false
        configuration.predictionType = try choice("prediction_type") ?? .epsilon
        configuration.timestepSpacing = try choice("timestep_spacing")
        configuration.stepsOffset = try integer("steps_offset") ?? 0
        configuration.setAlphaToOne = try bool("set_alpha_to_one")
        configuration.clipSample = try bool("clip_sample")
        configuration.clipSampleRange = try number("clip_sample_range") ?? 1
        configuration.useKarrasSigmas = try bool("use_karras_sigmas") ?? false
        configuration.useExponentialSigmas = try bool("use_exponential_sigmas") ?? false
        configuration.sigmaMin = try number("sigma_min")
        configuration.sigmaMax = try number("sigma_max")
        configuration.finalSigma = try choice("final_sigmas_type") ?? .zero
        configuration.solverOrder = try integer("solver_order") ?? 2
        configuration.algorithmType = try choice("algorithm_type", except: "deis") ?? .dpmSolverPlusPlus
        configuration.solverType = try choice("solver_type", except: "logrho")
        configuration.lowerOrderFinal = try bool("lower_order_final") ?? true
        configuration.eulerAtFinal = try bool("euler_at_final") ?? false
        configuration.lambdaMinClipped = try lambda("lambda_min_clipped") ?? -.infinity
        configuration.predictX0 = try bool("predict_x0") ?? true
        configuration.disableCorrector = try integers("disable_corrector") ?? []
        configuration.originalInferenceSteps = try integer("original_inference_steps") ?? 50
        configuration.timestepScaling = try number("timestep_scaling") ?? 10
        configuration.usesLargeVariance = present("variance_type")?.description == "'fixed_large'"
        configuration.absentOptions = absentOptions
        try configuration.validate()
        return (configuration, unknownKeys)
    }

    private static let knownKeys = [
        "_class_name", "beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "trained_betas",
        "rescale_betas_zero_snr", "prediction_type", "timestep_spacing", "steps_offset", "set_alpha_to_one",
        "clip_sample",
        "clip_sample_range", "use_karras_sigmas", "use_exponential_sigmas", "sigma_min", "sigma_max",
        "final_sigmas_type",
        "solver_order", "algorithm_type", "solver_type", "lower_order_final", "euler_at_final", "lambda_min_clipped",
        "predict_x0", "disable_corrector", "original_inference_steps", "timestep_scaling", "skip_prk_steps",
    ]

    private var unknownKeys: [String] {
        let known = Set(Self.knownKeys + Self.inertKeys + AbsentOption.all.map(\.key))
        return values.keys.filter { !known.contains($0) }.sorted()
    }

    /// Those that are not off; PNDM's own default is on.
    private var absentOptions: [String: String] {
        var options: [String: String] = [:]
        for option in AbsentOption.all {
            if let value = present(option.key), !option.off.contains(value.description) {
                options[option.key] = value.description
            }
        }
        if case .text("PNDMScheduler")? = present("_class_name"), present("skip_prk_steps") == nil {
            options["skip_prk_steps"] = "missing"
        }
        return options
    }

    private func present(_ key: String) -> JSONValue? {
        if case .null? = values[key] { return nil }
        return values[key]
    }

    private func wrong(_ key: String, _ value: JSONValue, _ expected: String) -> ScheduleError {
        ScheduleError(field: key, problem: "is \(value); expected \(expected)")
    }

    private func bool(_ key: String) throws(ScheduleError) -> Bool? {
        guard let value = present(key) else { return nil }
        guard case .bool(let bool) = value else { throw wrong(key, value, "true or false") }
        return bool
    }

    private func number(_ key: String) throws(ScheduleError) -> Double? {
        guard let value = present(key) else { return nil }
        guard case .number(let number) = value else { throw wrong(key, value, "a number") }
        return number
    }

    private func integer(_ key: String) throws(ScheduleError) -> Int? {
        guard let value = present(key) else { return nil }
        guard case .number(let number) = value, let integer = Int(exactly: number) else {
            throw wrong(key, value, "a whole number")
        }
        return integer
    }

    private func numbers(_ key: String) throws(ScheduleError) -> [Double]? {
        guard let value = present(key) else { return nil }
        guard case .list(let list) = value else { throw wrong(key, value, "a list of numbers") }
        var numbers: [Double] = []
        for element in list {
            guard case .number(let number) = element else { throw wrong(key, element, "numbers only") }
            numbers.append(number)
        }
        return numbers
    }

    private func integers(_ key: String) throws(ScheduleError) -> [Int]? {
        guard let numbers = try numbers(key) else { return nil }
        let integers = numbers.compactMap(Int.init(exactly:))
        guard integers.count == numbers.count else {
            throw ScheduleError(field: key, problem: "has a number that is not whole")
        }
        return integers
    }

    /// JSON has no infinity; diffusers writes `-Infinity`, which Python alone reads, or the text "-inf".
    private func lambda(_ key: String) throws(ScheduleError) -> Double? {
        guard case .text(let text)? = present(key) else { return try number(key) }
        guard let number = Double(text), !number.isNaN else { throw wrong(key, .text(text), "a number or '-inf'") }
        return number
    }

    private func choice<Choice: RawRepresentable & CaseIterable>(
        _ key: String, except other: String? = nil
    ) throws(ScheduleError) -> Choice? where Choice.RawValue == String {
        guard let value = present(key) else { return nil }
        // Another class's only value, which diffusers takes for the default.
        if case .text(let text) = value, text == other { return nil }
        guard case .text(let text) = value, let choice = Choice(rawValue: text) else {
            throw wrong(key, value, "one of \(Self.names(of: Choice.self))")
        }
        return choice
    }

    private static func names<Choice: RawRepresentable & CaseIterable>(of choices: Choice.Type) -> String
    where Choice.RawValue == String {
        choices.allCases.map(\.rawValue).joined(separator: ", ")
    }
}
