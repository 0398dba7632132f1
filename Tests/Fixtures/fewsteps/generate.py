"""Makes expected.safetensors: latents of the settings that models distilled to a few steps are run with, on the random
models of Tests/Fixtures/families, by diffusers, for Tests/DreamCacheTests/FewStepTests.swift.

Run by hand: pip install torch diffusers transformers safetensors peft; python Tests/Fixtures/fewsteps/generate.py
The versions it ran with are recorded in versions.json.
"""

import importlib.metadata
import json
import pathlib

import diffusers
import safetensors.torch
import torch
from diffusers import StableDiffusionPipeline

HERE = pathlib.Path(__file__).resolve().parent
FAMILIES = HERE.parent / "families"
PROMPT = "a photo of a backpack, on the beach"

# name: (family, low-rank updates, scheduler, its options, steps, guidance_scale, eta)
CASES = {
    "sd-turbo-1": ("sd2", None, "EulerDiscreteScheduler", dict(timestep_spacing="trailing"), 1, 0.0, 0.0),
    "sd-turbo-4": ("sd2", None, "EulerDiscreteScheduler", dict(timestep_spacing="trailing"), 4, 0.0, 0.0),
    "lcm-lora-4": ("sd1", "kohya.safetensors", "LCMScheduler", {}, 4, 1.0, 0.0),
    "lcm-lora-8": ("sd1", "kohya.safetensors", "LCMScheduler", {}, 8, 1.0, 0.0),
    "tcd-lora-4": ("sd1", "kohya.safetensors", "TCDScheduler", {}, 4, 0.0, 0.3),
    "hyper-sd-2": (
        "sd1", "kohya.safetensors", "DDIMScheduler",
        dict(timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False), 2, 0.0, 0.0),
    "hyper-sd-1": ("sd1", "kohya.safetensors", "TCDScheduler", {}, 1, 0.0, 1.0),
    "lightning-4": ("sd1", "kohya.safetensors", "EulerDiscreteScheduler", dict(timestep_spacing="trailing"), 4, 1.0, 0.0),
}

torch.set_grad_enabled(False)
result = {}
for name, (family, lora, kind, options, steps, guidance, eta) in CASES.items():
    folder = FAMILIES / family / "folder"
    extra = {"variant": "fp16"} if family == "sd1" else {}
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, safety_checker=None, requires_safety_checker=False, **extra)
    pipe.set_progress_bar_config(disable=True)
    if lora:
        # Of the text encoder too: diffusers' own loader does not read it from files of every version of transformers.
        state = safetensors.torch.load_file(FAMILIES / family / lora)
        maps = {"unet": dict(pipe.unet.named_modules()), "te": dict(pipe.text_encoder.named_modules())}
        flat = {"lora_unet_" + n.replace(".", "_"): m for n, m in maps["unet"].items()}
        flat |= {"lora_te_text_model_" + n.removeprefix("text_model.").replace(".", "_"): m for n, m in maps["te"].items()}
        for stem in {key.split(".")[0] for key in state}:
            down, up = state[f"{stem}.lora_down.weight"], state[f"{stem}.lora_up.weight"]
            scale = state[f"{stem}.alpha"] / down.shape[0]
            weight = flat[stem].weight
            weight += scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    values = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, **options)
    pipe.scheduler = getattr(diffusers, kind)(**values)
    result[name] = pipe(
        prompt=PROMPT, guidance_scale=guidance, num_inference_steps=steps, eta=eta, output_type="latent", height=64,
        width=64, generator=torch.Generator().manual_seed(42)).images[0]
safetensors.torch.save_file({k: v.contiguous() for k, v in result.items()}, HERE / "expected.safetensors")
names = ("torch", "diffusers", "transformers", "safetensors")
(HERE / "versions.json").write_text(json.dumps({n: importlib.metadata.version(n) for n in names}, indent=1) + "\n")
