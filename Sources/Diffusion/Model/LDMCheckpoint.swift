import Checkpoint
import Foundation

/// How LDM checkpoints name the parts, and the entries in them that are no parameters.
enum LDMNames {
    static let unet = "model.diffusion_model."
    static let autoencoder = "first_stage_model."
    static let openCLIP = "cond_stage_model.model."
    static let transformers = "cond_stage_model.transformer.text_model."

    /// Buffers of training, averages of the weights, and parts of CLIP that Stable Diffusion never runs.
    static let ignored: [ParameterStore.IgnoredKeys] = [
        .exact("betas"), .exact("alphas_cumprod"), .exact("alphas_cumprod_prev"), .exact("sqrt_alphas_cumprod"),
        .exact("sqrt_one_minus_alphas_cumprod"), .exact("log_one_minus_alphas_cumprod"),
        .exact("sqrt_recip_alphas_cumprod"), .exact("sqrt_recipm1_alphas_cumprod"), .exact("posterior_variance"),
        .exact("posterior_log_variance_clipped"), .exact("posterior_mean_coef1"), .exact("posterior_mean_coef2"),
        .exact(LDMCheckpoint.predictsVMarker), .exact(LDMCheckpoint.zeroSNRMarker),
        .exact("logvar"), .exact("lvlb_weights"), .exact("scale_factor"), .prefix("model_ema."),
        .prefix("first_stage_model.loss."), .exact("cond_stage_model.model.logit_scale"),
        .exact("cond_stage_model.model.text_projection"), .exact("cond_stage_model.model.attn_mask"),
        .suffix(".position_ids"), .suffix("text_model.logit_scale"), .suffix("text_projection.weight"),
    ]
}

/// A whole model in one file, in LDM naming: whose text encoder it has, whether its averaged weights are taken, and what
/// its metadata says about it.
struct LDMCheckpoint {
    let file: Checkpoint
    let usesEMA: Bool

    /// - Parameter prefersEMA: take the averaged U-Net, which must then be there; it is taken in any case from a file that
    ///   has no other.
    init(path: String, prefersEMA: Bool) throws(DiffusionError) {
        do { file = try Checkpoint.open(path) } catch { throw .checkpoint(error) }
        let names = Array(file.tensors.keys)
        if let family = FileKind.otherFamily(names) {
            throw .configuration(path: path, field: "model", found: family, expected: FileKind.supported)
        }
        let first = LDMNames.unet + "input_blocks.0.0.weight"
        let hasEMA = file.tensors[Self.averaged(first)] != nil
        guard hasEMA || !prefersEMA else {
            throw .checkpoint(
                CheckpointError(
                    path: path, cause: .unsupported, place: Self.averaged(first), found: "no such tensor",
                    expected: "averaged (EMA) weights, as were asked for"))
        }
        usesEMA = hasEMA && (prefersEMA || file.tensors[first] == nil)
    }

    /// LDM's name of the average of a parameter of the U-Net: without dots, for torch's buffers allow none.
    private static func averaged(_ name: String) -> String {
        "model_ema." + name.dropFirst("model.".count).filter { $0 != "." }
    }

    /// Tensors of no size by which ComfyUI and others mark a file.
    static let predictsVMarker = "v_pred"
    static let zeroSNRMarker = "ztsnr"

    /// All weights under the names the networks ask for, as a whole model and as a part of one.
    var store: ParameterStore { ParameterStore(file, renaming: renaming) }

    var part: ParameterStore.Part {
        get throws(DiffusionError) {
            do { return try ParameterStore.Part([file], renaming: renaming) } catch { throw .checkpoint(error) }
        }
    }

    private var renaming: KeyRenaming {
        let usesEMA = usesEMA
        // Files written by transformers before 4.0 or after 5.0 lack the module between model and layers.
        let old = "cond_stage_model.transformer."
        let lacksModule = file.tensors["\(old)embeddings.token_embedding.weight"] != nil
        guard usesEMA || lacksModule else { return .none }
        return KeyRenaming { name in
            if usesEMA, name.hasPrefix(LDMNames.unet) { return Self.averaged(name) }
            guard lacksModule, name.hasPrefix(LDMNames.transformers) else { return name }
            return old + name.dropFirst(LDMNames.transformers.count)
        }
    }

    /// Takes what markers say over everything else in or beside the file.
    /// - Returns: whether they say what the U-Net predicts.
    func applyMarkers(to configuration: inout ModelConfiguration) -> Bool {
        if file.tensors[Self.zeroSNRMarker] != nil {
            configuration.schedule.rescaleBetasZeroSNR = true
            // Pure noise is at the last timestep, which only this spacing begins with (Lin et al. 2023, section 3.3).
            configuration.schedule.timestepSpacing = .trailing
        }
        guard file.tensors[Self.predictsVMarker] != nil else { return false }
        configuration.schedule.predictionType = .vPrediction
        return true
    }

    /// Entries that are no parameters, or weights beside the averages that are taken.
    var ignored: [ParameterStore.IgnoredKeys] { LDMNames.ignored + (usesEMA ? [.prefix(LDMNames.unet)] : []) }

    /// Takes what the metadata of a safetensors file says (Stability AI's ModelSpec) over what was recognised.
    /// - Returns: whether it says what the U-Net predicts.
    func applyMetadata(to configuration: inout ModelConfiguration) -> Bool {
        let architecture = file.metadata["modelspec.architecture"]
        var isSaid = architecture?.hasPrefix(BaseArchitecture.stableDiffusion2.rawValue) ?? false
        if architecture?.hasPrefix(BaseArchitecture.stableDiffusion2v.rawValue) ?? false {
            isSaid = true
            configuration.schedule.predictionType = .vPrediction
            configuration.latentSize = 768 / configuration.autoencoder.downscale
        }
        switch file.metadata["modelspec.prediction_type"] {
        case "v": (configuration.schedule.predictionType, isSaid) = (.vPrediction, true)
        case "epsilon": (configuration.schedule.predictionType, isSaid) = (.epsilon, true)
        default: break
        }
        if let side = file.metadata["modelspec.resolution"]?.split(separator: "x").first.flatMap({ Int($0) }),
            (64...8192).contains(side)
        {
            configuration.latentSize = side / configuration.autoencoder.downscale
        }
        return isSaid
    }

    /// The yaml given, or the one that lies beside a checkpoint under the same base name.
    static func yaml(_ given: String?, of path: String) throws(DiffusionError) -> String? {
        if let given { return given }
        let yaml = URL(fileURLWithPath: path).deletingPathExtension().appendingPathExtension("yaml").path
        return try ModelPath.isFile(yaml) ? yaml : nil
    }
}
