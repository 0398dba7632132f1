import Checkpoint
import Glibc

/// What else a file or folder may be that people take for a checkpoint or an adapter.
public enum FileKind {
    /// What can be loaded, for messages.
    static let supported =
        "Stable Diffusion 1 or 2 (1.1 to 1.5, 2.0, 2.1 and their fine-tunes), one file in LDM naming or a diffusers folder"

    /// Keys that only models of another kind have, by a part of the key; the first that fits names the model.
    private static let families: [(part: String, name: String)] = [
        ("conditioner.embedders.1.", "Stable Diffusion XL"),
        ("conditioner.embedders.0.", "Stable Diffusion XL refiner"),
        ("joint_blocks.", "Stable Diffusion 3"),
        ("distilled_guidance_layer.", "Chroma"),
        ("individual_token_refiner", "HunyuanVideo"),
        ("double_blocks.", "Flux"),
        ("double_stream_modulation", "Flux 2"),
        ("single_transformer_blocks.", "Flux"),
        ("attn.add_q_proj.", "Stable Diffusion 3 or another diffusion transformer"),
        ("double_layers.", "AuraFlow"),
        ("mlp_t5.", "HunyuanDiT"),
        ("img_mod.", "Qwen-Image"),
        ("clip_txt_mapper", "Stable Cascade"),
        ("effnet_mapper", "Stable Cascade"),
        ("cap_embedder.", "Lumina or Z-Image"),
        ("t_block.1.", "PixArt"),
        ("adaln_single.", "PixArt, LTX-Video or another diffusion transformer"),
        (".time_stack.", "Stable Video Diffusion"),
        (".time_mixer.", "Stable Video Diffusion"),
        (".temporal_transformer.", "AnimateDiff"),
        ("motion_modules.", "AnimateDiff"),
        ("patch_embedding.", "Wan or CogVideoX"),
        ("noise_augmentor.", "Stable Diffusion unCLIP"),
        (".label_emb.", "a model with class embeddings (unCLIP or XL)"),
        ("add_embedding.linear_1.", "Stable Diffusion XL"),
    ]

    /// Pipelines of diffusers by the beginning of their class's name, longest first.
    private static let pipelines: [(start: String, name: String)] = [
        ("StableDiffusionXL", "Stable Diffusion XL"),
        ("StableDiffusion3", "Stable Diffusion 3"),
        ("StableDiffusionInstructPix2Pix", "InstructPix2Pix"),
        ("StableDiffusionInpaint", "an inpainting model"),
        ("StableDiffusionUpscale", "an upscaler"),
        ("StableDiffusionLatentUpscale", "an upscaler"),
        ("StableDiffusionDepth2Img", "a model of depth"),
        ("StableDiffusionImageVariation", "a model of image variations"),
        ("StableUnCLIP", "Stable Diffusion unCLIP"),
        ("StableVideoDiffusion", "Stable Video Diffusion"),
        ("StableCascade", "Stable Cascade"),
        ("Wuerstchen", "Wuerstchen"),
        ("Flux", "Flux"),
        ("PixArt", "PixArt"),
        ("Kandinsky", "Kandinsky"),
        ("AuraFlow", "AuraFlow"),
        ("HunyuanDiT", "HunyuanDiT"),
        ("Hunyuan", "HunyuanVideo"),
        ("Lumina", "Lumina"),
        ("ZImage", "Z-Image"),
        ("Sana", "Sana"),
        ("CogView", "CogView"),
        ("CogVideo", "CogVideoX"),
        ("Wan", "Wan"),
        ("LTX", "LTX-Video"),
        ("QwenImage", "Qwen-Image"),
        ("Chroma", "Chroma"),
        ("Mochi", "Mochi"),
        ("OmniGen", "OmniGen"),
        ("HiDream", "HiDream"),
        ("UnCLIP", "unCLIP"),
        ("IF", "DeepFloyd IF"),
        ("AnimateDiff", "AnimateDiff"),
        ("Latte", "Latte"),
        ("Allegro", "Allegro"),
        ("DiT", "DiT"),
    ]

    /// The name of a kind of model that is not supported, by its keys; nil for Stable Diffusion 1 and 2, and for what is
    /// unknown.
    static func otherFamily(_ names: [String]) -> String? {
        // strstr(3), since a model has a thousand names and Swift's own search takes its time for each.
        families.first { family in names.contains { strstr($0, family.part) != nil } }?.name
    }

    /// The name of a pipeline that is not supported; nil for others.
    static func otherPipeline(_ className: String) -> String? {
        pipelines.first { className.hasPrefix($0.start) }?.name
    }

    /// What a file is by its keys; nil for anything else, a Stable Diffusion checkpoint too.
    public static func of(_ names: [String]) -> String? {
        func any(_ test: (String) -> Bool) -> Bool { names.contains(where: test) }
        let updates = ["lora_down", "lora_A", "lora.down", "lokr_w", "hada_w"]
        if any({ name in updates.contains(where: name.contains) }) {
            return "a LoRA file (list it under loras)"
        }
        if any({ $0.contains("attn_mem.") }) { return "a DreamCache adapter (name it as adapter)" }
        if any({ $0.hasPrefix("sites.") }) { return "a .dcache" }
        if let family = otherFamily(names) { return family }
        if any({ $0.hasPrefix("control_model.") || $0.hasPrefix("controlnet_") }) { return "a ControlNet" }
        if any({ $0.hasPrefix("down_blocks.") }) { return "a U-Net of diffusers alone (name the model's folder)" }
        if any({ $0.hasPrefix("encoder.") || $0.hasPrefix("decoder.") }) {
            return "an autoencoder alone (name it as vae)"
        }
        if any({ $0.hasPrefix("string_to_param") || $0.hasPrefix("emb_params") }) {
            return "a textual inversion (name it under embeddings)"
        }
        return nil
    }
}
