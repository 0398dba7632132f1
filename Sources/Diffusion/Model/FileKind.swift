/// What else a file may be that people take for a checkpoint or an adapter.
public enum FileKind {
    /// What a file is by its keys; nil for anything else, a Stable Diffusion checkpoint too.
    public static func of(_ names: [String]) -> String? {
        func any(_ test: (String) -> Bool) -> Bool { names.contains(where: test) }
        if any({ $0.contains("lora_down") || $0.contains("lora_A") || $0.contains("lora.down") }) {
            return "a LoRA file (list it under loras)"
        }
        if any({ $0.contains("attn_mem.") }) { return "a DreamCache adapter (name it as adapter)" }
        if any({ $0.hasPrefix("sites.") }) { return "a .dcache" }
        if any({ $0.hasPrefix("conditioner.embedders.") }) { return "a Stable Diffusion XL checkpoint" }
        if any({ $0.contains("joint_blocks.") }) { return "a Stable Diffusion 3 checkpoint" }
        if any({ $0.contains("double_blocks.") }) { return "a Flux checkpoint" }
        if any({ $0.hasPrefix("control_model.") || $0.hasPrefix("controlnet_") }) { return "a ControlNet" }
        if any({ $0.hasPrefix("down_blocks.") }) { return "a U-Net of diffusers alone (name the model's folder)" }
        if any({ $0.hasPrefix("encoder.") || $0.hasPrefix("decoder.") }) { return "an autoencoder alone" }
        if any({ $0.hasPrefix("string_to_param") || $0.hasPrefix("emb_params") }) { return "a textual inversion" }
        return nil
    }
}
