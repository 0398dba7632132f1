"""Writes the trained model as people have models: a diffusers folder in fp16.

    python export.py --preset gpu --work .build/demo-model/gpu --to Tools/demo-model/model
"""

import argparse
import json
import pathlib

from safetensors.torch import save_file

from networks import PRESETS, unet
from tokens import LENGTH, Tokenizer
from train import all_captions, averaged


def diffusers_names(geometry):
    """LDM's beginnings of names to diffusers', the longer ones first."""
    table = [
        ("time_embed.0.", "time_embedding.linear_1."), ("time_embed.2.", "time_embedding.linear_2."),
        ("input_blocks.0.0.", "conv_in."), ("out.0.", "conv_norm_out."), ("out.2.", "conv_out."),
        ("middle_block.0.", "mid_block.resnets.0."), ("middle_block.1.", "mid_block.attentions.0."),
        ("middle_block.2.", "mid_block.resnets.1.")]
    levels, blocks = len(geometry.multipliers), geometry.residual_blocks
    for level in range(levels):
        first = 1 + level * (blocks + 1)
        for i in range(blocks):
            table.append((f"input_blocks.{first + i}.0.", f"down_blocks.{level}.resnets.{i}."))
            table.append((f"input_blocks.{first + i}.1.", f"down_blocks.{level}.attentions.{i}."))
        if level + 1 < levels:
            table.append((f"input_blocks.{first + blocks}.0.op.", f"down_blocks.{level}.downsamplers.0.conv."))
        first = level * (blocks + 1)
        has_attention = levels - 1 - level in geometry.attention_levels
        for i in range(blocks + 1):
            table.append((f"output_blocks.{first + i}.0.", f"up_blocks.{level}.resnets.{i}."))
            if has_attention:
                table.append((f"output_blocks.{first + i}.1.", f"up_blocks.{level}.attentions.{i}."))
        if level + 1 < levels:
            position = 2 if has_attention else 1
            table.append((f"output_blocks.{first + blocks}.{position}.conv.", f"up_blocks.{level}.upsamplers.0.conv."))
    return sorted(table, key=lambda pair: -len(pair[0]))


INSIDE_RESIDUAL = [
    ("in_layers.0.", "norm1."), ("in_layers.2.", "conv1."), ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."), ("out_layers.3.", "conv2."), ("skip_connection.", "conv_shortcut.")]


def renamed(name, table):
    ldm, diffusers = next(pair for pair in table if name.startswith(pair[0]))
    rest = name[len(ldm):]
    for inside, outside in INSIDE_RESIDUAL:
        if rest.startswith(inside):
            rest = outside + rest[len(inside):]
    return diffusers + rest


def configurations(preset, vocabulary, latent_scale):
    """The config.json of each part."""
    g = preset.unet
    levels = range(len(g.multipliers))
    attends = [level in g.attention_levels for level in levels]
    widths = [g.channels * m for m in g.multipliers]
    return {
        "model_index.json": {
            "_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]},
        "unet/config.json": {
            "_class_name": "UNet2DConditionModel", "sample_size": g.latent, "in_channels": 4, "out_channels": 4,
            "block_out_channels": widths, "layers_per_block": g.residual_blocks, "cross_attention_dim": g.context,
            "attention_head_dim": [g.heads(w) for w in widths], "norm_num_groups": g.groups,
            "use_linear_projection": True,
            "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
            "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)]},
        "vae/config.json": {
            "_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 4,
            "block_out_channels": list(preset.autoencoder), "layers_per_block": preset.autoencoder_blocks,
            "norm_num_groups": preset.autoencoder_groups, "scaling_factor": latent_scale, "sample_size": 128,
            "down_block_types": ["DownEncoderBlock2D"] * len(preset.autoencoder),
            "up_block_types": ["UpDecoderBlock2D"] * len(preset.autoencoder)},
        "text_encoder/config.json": {
            "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_act": "quick_gelu",
            "hidden_size": g.context, "intermediate_size": 4 * g.context,
            "num_attention_heads": max(1, g.context // 32), "num_hidden_layers": preset.text_layers,
            "vocab_size": vocabulary, "max_position_embeddings": LENGTH, "layer_norm_eps": 1e-5,
            "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1},
        "scheduler/scheduler_config.json": {
            "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000, "prediction_type": "epsilon", "steps_offset": 1, "set_alpha_to_one": False,
            "clip_sample": False, "timestep_spacing": "leading"},
    }


def write(tensors, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in tensors.items()}, path, metadata={"format": "pt"})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--to", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    preset, to = PRESETS[arguments.preset], arguments.to
    tokenizer = Tokenizer(all_captions())
    scale = json.loads((arguments.work / "latents.json").read_text())["scaling_factor"]
    for name, content in configurations(preset, len(tokenizer.vocabulary), scale).items():
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
    tokenizer.write(to / "tokenizer")

    base = averaged(arguments.work, "base")
    table = diffusers_names(preset.unet)
    write({renamed(n, table): v for n, v in base["unet"].items() if not unet.is_adapter(n)},
          to / "unet/diffusion_pytorch_model.safetensors")
    write(base["text"], to / "text_encoder/model.safetensors")
    write(averaged(arguments.work, "autoencoder")["autoencoder"], to / "vae/diffusion_pytorch_model.safetensors")


if __name__ == "__main__":
    main()
