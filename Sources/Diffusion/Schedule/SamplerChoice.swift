/// What samplers are called: diffusers' classes, AUTOMATIC1111's and ComfyUI's names.
extension ScheduleConfiguration {
    /// Short names, without the white space, `_` and `-` that do not matter.
    private static let short: [String: SamplerKind] = [
        "ddim": .ddim, "ddpm": .ddpm, "pndm": .pndm, "plms": .pndm, "euler": .euler, "eulera": .eulerAncestral,
        "eulerancestral": .eulerAncestral, "heun": .heun, "lms": .lms, "dpm++2m": .dpmSolverMultistep,
        "dpm++2msde": .dpmSolverMultistep, "dpmsolver++": .dpmSolverMultistep, "sdedpmsolver++": .dpmSolverMultistep,
        "dpmsolvermultistep": .dpmSolverMultistep, "dpm++sde": .dpmSolverSDE, "unipc": .uniPC, "unipcbh2": .uniPC,
        "lcm": .lcm, "tcd": .tcd, "deis": .deis,
    ]

    private static let withSpacedSigmas: Set<SamplerKind> = [
        .euler, .heun, .lms, .dpmSolverMultistep, .dpmSolverSDE, .uniPC, .deis,
    ]

    /// This configuration with the sampler a manifest names, as diffusers' `from_config` would make it.
    ///
    /// - Parameter name: diffusers' class name, or a short name such as `ddim`, `plms`, `euler`, `euler_a`, `dpm++_2m`,
    ///   `dpmpp_2m_sde`, `unipc`, `lcm`, `heun`; `karras` or `exponential` behind it chooses those sigmas. Case, spaces, `-`
    ///   and `_` do not matter.
    /// - Throws: ``ScheduleError`` listing the names.
    public func selecting(_ name: String) throws(ScheduleError) -> ScheduleConfiguration {
        var key = name.lowercased().filter { !" _-".contains($0) }
        var chosen = self
        let respacing = ["karras", "exponential"].first { key.hasSuffix($0) }
        if let respacing {
            key.removeLast(respacing.count)
            chosen.useKarrasSigmas = respacing == "karras"
            chosen.useExponentialSigmas = respacing == "exponential"
        }
        // ComfyUI's and k-diffusion's spellings.
        if key.hasPrefix("k"), Self.short[String(key.dropFirst())] != nil { key.removeFirst() }
        if key.hasSuffix("gpu") { key.removeLast("gpu".count) }
        key = key.hasPrefix("dpmpp") ? "dpm++" + key.dropFirst("dpmpp".count) : key
        let kind = Self.short[key] ?? SamplerKind.allCases.first { $0.rawValue.lowercased() == key }
        guard let kind else {
            let names = SamplerKind.allCases.map(\.rawValue) + Self.short.keys.sorted()
            throw ScheduleError(
                field: "scheduler",
                problem: "'\(name)' is not known; expected one of \(names.joined(separator: ", ")), "
                    + "with 'karras' or 'exponential' behind it")
        }
        if key.hasPrefix("dpm++2msde") || key == "sdedpmsolver++" {
            chosen.algorithmType = .sdeDPMSolverPlusPlus
        } else if key.hasPrefix("dpm++") || key == "dpmsolver++" {
            chosen.algorithmType = .dpmSolverPlusPlus
        }
        if respacing != nil, !Self.withSpacedSigmas.contains(kind) {
            throw ScheduleError(
                field: "scheduler", problem: "'\(name)': \(kind.rawValue) has no Karras or exponential sigmas")
        }
        chosen.sampler = kind
        return chosen
    }
}
