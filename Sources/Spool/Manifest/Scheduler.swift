/// A sampler as a manifest names it. Which of them a renderer can carry out is for the renderer to say.
public struct Scheduler: Sendable, Hashable, Codable, RawRepresentable {
    /// The method, by diffusers' class name; one that shares its class with another, by AUTOMATIC1111's.
    public enum Method: String, Sendable, CaseIterable, Codable {
        case ddim = "DDIMScheduler"
        case ddpm = "DDPMScheduler"
        case pndm = "PNDMScheduler"
        case euler = "EulerDiscreteScheduler"
        case eulerAncestral = "EulerAncestralDiscreteScheduler"
        case heun = "HeunDiscreteScheduler"
        case lms = "LMSDiscreteScheduler"
        case dpmSolverMultistep = "DPMSolverMultistepScheduler"
        case dpmSolverMultistepSDE = "DPM++ 2M SDE"
        case dpmSolverSDE = "DPMSolverSDEScheduler"
        case deis = "DEISMultistepScheduler"
        case unipcMultistep = "UniPCMultistepScheduler"
        case lcm = "LCMScheduler"
        case tcd = "TCDScheduler"

        /// AUTOMATIC1111's name.
        public var label: String {
            switch self {
            case .ddim: "DDIM"
            case .ddpm: "DDPM"
            case .pndm: "PLMS"
            case .euler: "Euler"
            case .eulerAncestral: "Euler a"
            case .heun: "Heun"
            case .lms: "LMS"
            case .dpmSolverMultistep: "DPM++ 2M"
            case .dpmSolverMultistepSDE: "DPM++ 2M SDE"
            case .dpmSolverSDE: "DPM++ SDE"
            case .deis: "DEIS"
            case .unipcMultistep: "UniPC"
            case .lcm: "LCM"
            case .tcd: "TCD"
            }
        }

        /// Other names: short ones, AUTOMATIC1111's older ones, ComfyUI's and k-diffusion's.
        var names: [String] {
            switch self {
            case .ddim: ["ddim"]
            case .ddpm: ["ddpm"]
            case .pndm: ["pndm", "PNDM", "plms"]
            case .euler: ["euler", "k_euler"]
            case .eulerAncestral: ["euler_a", "Euler A", "euler_ancestral", "k_euler_a", "k_euler_ancestral"]
            case .heun: ["heun", "k_heun"]
            case .lms: ["lms", "k_lms"]
            case .dpmSolverMultistep: ["dpm++_2m", "dpmpp_2m", "k_dpmpp_2m", "dpmsolver++"]
            case .dpmSolverMultistepSDE:
                ["dpm++_2m_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "k_dpmpp_2m_sde", "sde-dpmsolver++"]
            case .dpmSolverSDE: ["dpm++_sde", "dpmpp_sde", "dpmpp_sde_gpu", "k_dpmpp_sde"]
            case .deis: ["deis"]
            case .unipcMultistep: ["unipc", "uni_pc", "uni_pc_bh2"]
            case .lcm: ["lcm"]
            case .tcd: ["tcd"]
            }
        }

        /// Whether its sigmas can be spread otherwise.
        var hasSpacings: Bool {
            switch self {
            case .ddim, .ddpm, .pndm, .eulerAncestral, .lcm, .tcd: false
            default: true
            }
        }
    }

    /// How the sigmas of a run are spread.
    public enum Sigmas: String, Sendable, CaseIterable, Codable {
        /// Karras et al. 2022, equation 5.
        case karras = "Karras"
        /// Evenly in the logarithm.
        case exponential = "Exponential"
    }

    /// The method.
    public let method: Method
    /// The spread of its sigmas; nil is the model's own.
    public let sigmas: Sigmas?

    /// - Parameter sigmas: must be one that the method has.
    private init(_ method: Method, _ sigmas: Sigmas? = nil) {
        self.method = method
        self.sigmas = sigmas
    }

    /// All there are, plain ones first.
    public static let allCases: [Scheduler] =
        Method.allCases.map { Scheduler($0) }
        + Method.allCases.filter(\.hasSpacings).flatMap { method in Sigmas.allCases.map { Scheduler(method, $0) } }

    /// The name it is recorded by: `EulerDiscreteScheduler`, `EulerDiscreteScheduler Karras`.
    public var rawValue: String { method.rawValue + suffix }

    /// AUTOMATIC1111's name.
    public var label: String { method.label + suffix }

    private var suffix: String { sigmas.map { " " + $0.rawValue } ?? "" }

    /// Other spellings a manifest may use.
    public var aliases: [String] {
        let names = [method.label] + method.names
        guard let sigmas else { return names.filter { $0 != method.rawValue } }
        return names.flatMap { name in
            let spellings = [name + " " + sigmas.rawValue, name + "_" + sigmas.rawValue.lowercased()]
            return spellings.filter { $0 != rawValue }
        }
    }

    /// The sampler recorded by that name.
    public init?(rawValue: String) {
        guard let match = Self.allCases.first(where: { $0.rawValue == rawValue }) else { return nil }
        self = match
    }

    /// The sampler of that name or alias.
    public init?(named name: String) {
        guard let match = Self.allCases.first(where: { $0.rawValue == name || $0.aliases.contains(name) }) else {
            return nil
        }
        self = match
    }

    /// Every name a manifest may use for it, as a manifest's `scheduler`.
    static let schema: Schema = {
        let aliases = allCases.flatMap { scheduler in scheduler.aliases.map { ($0, scheduler.rawValue) } }
        return .choice(allCases.map(\.rawValue), aliases: Dictionary(aliases) { first, _ in first })
    }()

    /// DDIM, what is taken where nothing is said.
    public static let ddim = Scheduler(.ddim)
    /// Euler with ancestral sampling.
    public static let eulerAncestral = Scheduler(.eulerAncestral)
}
