"""Makes the files beside it: updates of Tests/Fixtures/families/sd1 in every kind and naming, and what PEFT, LyCORIS and
diffusers make of each, for Tests/DiffusionTests/LowRankTests.swift.

Run by hand: pip install torch diffusers transformers safetensors peft lycoris-lora; python Tests/Fixtures/lora/generate.py
The versions it ran with are recorded in versions.json. Weights are random; nothing here was trained.
"""

import copy
import importlib.metadata
import json
import math
import pathlib
import shutil
import tempfile

import peft
import safetensors.torch
import torch
from diffusers import UNet2DConditionModel
from lycoris.modules import locon, loha, lokr
from transformers import CLIPTextModel

HERE = pathlib.Path(__file__).resolve().parent
FAMILY = HERE.parent / "families/sd1"
WEIGHT = 0.8

torch.set_grad_enabled(False)
unet = UNet2DConditionModel.from_pretrained(FAMILY / "folder/unet", variant="fp16", torch_dtype=torch.float32).eval()
text = CLIPTextModel.from_pretrained(
    FAMILY / "folder/text_encoder", variant="fp16", torch_dtype=torch.float32, attn_implementation="eager").eval()
ids = safetensors.torch.load_file(FAMILY / "expected.safetensors")["text.ids"][:1].long()
context = text(ids).last_hidden_state
result = {"text.plain": context}


def wave(*shape, rate=0.7, phase=0.3):
    count = math.prod(shape)
    return torch.sin(torch.arange(count, dtype=torch.float64) * rate + phase).float().reshape(shape)


def run(model):
    return model(wave(1, 4, 16, 16), 481, context).sample


def random(shape, generator, scale=1.0):
    return torch.randn(shape, generator=generator) * scale


def fill(module, seed, scale):
    """No parameter of an update keeps its initialisation; magnitudes stay near what they were."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        if any(part in name for part in ("lora_", "hada_", "lokr_")) and "magnitude" not in name:
            parameter.copy_(random(parameter.shape, generator, scale))
        elif "magnitude" in name or "dora_scale" in name:
            parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=generator))


# MARK: PEFT, as its save_pretrained leaves it

ATTENTION = r".*up_blocks\.1\.attentions\.0\..*(to_q|to_v|to_out\.0)"
CONVOLUTION = r".*(up_blocks\.1\.attentions\.0\..*(to_q|to_v|to_out\.0)|down_blocks\.0\.resnets\.0\.conv1)"
CONFIGURATIONS = {
    "peft-alpha": peft.LoraConfig(r=2, lora_alpha=7, target_modules=CONVOLUTION),
    "peft-patterns": peft.LoraConfig(
        r=2, lora_alpha=3, use_rslora=True, target_modules=ATTENTION, rank_pattern={"to_v": 3},
        alpha_pattern={"attn1.to_q": 5}),
    "peft-dora": peft.LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=CONVOLUTION),
    "peft-loha": peft.LoHaConfig(r=2, alpha=3, target_modules=ATTENTION),
    "peft-lokr": peft.LoKrConfig(r=2, alpha=3, target_modules=ATTENTION),
}
for seed, (name, configuration) in enumerate(CONFIGURATIONS.items()):
    shutil.rmtree(HERE / name, ignore_errors=True)
    model = peft.get_peft_model(copy.deepcopy(unet), configuration)
    fill(model, seed, 0.5)
    model.save_pretrained(HERE / name)
    for file in (HERE / name).iterdir():
        if file.name not in ("adapter_config.json", "adapter_model.safetensors"):
            file.unlink()
    result[f"{name}.unet"] = run(model.merge_and_unload())

# MARK: LyCORIS, whose modules save themselves


def lycoris(name, kind, targets, prefix="lycoris_", rank=2, **options):
    model = copy.deepcopy(unet)
    state, generator = {}, torch.Generator().manual_seed(100 + len(result))
    modules = dict(model.named_modules())
    for target in targets:
        module = modules[target]
        stem = prefix + target.replace(".", "_")
        update = kind(stem, module, multiplier=1.0, lora_dim=rank, alpha=3, **options)
        for key, parameter in sorted(update.named_parameters()):
            if key == "dora_scale":
                parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=generator))
            elif "org_module" not in key and key != "scalar":
                parameter.copy_(random(parameter.shape, generator, 0.5))
        state |= {f"{stem}.{key}": value.clone().contiguous() for key, value in update.state_dict().items()
                  if "org_module" not in key}
        if kind is locon.LoConModule:
            module.weight.copy_(update.get_merged_weight(multiplier=WEIGHT, shape=module.weight.shape)[0])
        else:
            # get_merged_weight of LoHa and LoKr has the scale twice in 4.1.3; what is trained (forward) has it once.
            module.weight += WEIGHT * update.get_weight(module.weight.shape)
    safetensors.torch.save_file(state, HERE / f"{name}.safetensors")
    result[f"{name}.unet"] = run(model)


BLOCK = "up_blocks.1.attentions.0.transformer_blocks.0"
LINEAR = [f"{BLOCK}.attn1.to_q", f"{BLOCK}.attn2.to_k", f"{BLOCK}.ff.net.0.proj"]
CONV = ["down_blocks.0.resnets.0.conv1", "up_blocks.0.resnets.1.conv_shortcut"]
lycoris("locon", locon.LoConModule, LINEAR + CONV)
lycoris("locon-tucker", locon.LoConModule, CONV, prefix="lora_unet_", use_tucker=True)
lycoris("loha", loha.LohaModule, LINEAR + CONV)
lycoris("loha-tucker", loha.LohaModule, CONV, use_tucker=True)
lycoris("lokr", lokr.LokrModule, LINEAR + CONV, factor=2)
lycoris("lokr-both", lokr.LokrModule, LINEAR, factor=4, decompose_both=True)
lycoris("lokr-tucker", lokr.LokrModule, CONV, rank=1, factor=2, use_tucker=True)
lycoris("lokr-full", lokr.LokrModule, LINEAR, factor=2, full_matrix=True)
lycoris("dora", locon.LoConModule, LINEAR + CONV, weight_decompose=True, wd_on_out=True)
lycoris("dora-inputs", locon.LoConModule, LINEAR + CONV, weight_decompose=True, wd_on_out=False)

# MARK: Other names of the same


def pair(module, generator):
    inputs = module.weight[0].numel()
    down, up = random((2, inputs), generator, 1 / math.sqrt(inputs)), random((module.weight.shape[0], 2), generator, 0.5)
    return down, up, (up @ down).reshape(module.weight.shape)


def names():
    """diffusers 0.15 to 0.18's names of the text encoder, LDM's of the U-Net, and both networks in one file."""
    generator = torch.Generator().manual_seed(7)
    changed, model = copy.deepcopy(text), copy.deepcopy(unet)
    old, native, both = {}, {}, {}
    maps = dict(changed.named_modules())
    for target in [name for name in maps if name.endswith(("q_proj", "k_proj", "v_proj", "out_proj"))]:
        down, up, change = pair(maps[target], generator)
        maps[target].weight += WEIGHT * change
        stem, last = target.rsplit(".", 1)
        stem = "text_encoder.text_model." + stem.removeprefix("text_model.")
        part = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}[last]
        old |= {f"{stem}.{part}_lora.down.weight": down, f"{stem}.{part}_lora.up.weight": up}
        kohya = "lora_te_" + (stem.removeprefix("text_encoder.") + "." + last).replace(".", "_")
        both |= {f"{kohya}.lora_down.weight": down.clone(), f"{kohya}.lora_up.weight": up.clone()}
    result["old-text.text"] = changed(ids).last_hidden_state
    maps = dict(model.named_modules())
    # Of two residual blocks per level, LDM's output block 3 is the first of the second level.
    for last in ("attn1.to_q", "attn2.to_v"):
        down, up, change = pair(maps[f"{BLOCK}.{last}"], generator)
        maps[f"{BLOCK}.{last}"].weight += WEIGHT * change
        stem = f"diffusion_model.output_blocks.3.1.transformer_blocks.0.{last}"
        native |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        both |= {f"lora_unet_{(BLOCK + '.' + last).replace('.', '_')}.lora_down.weight": down.clone(),
                 f"lora_unet_{(BLOCK + '.' + last).replace('.', '_')}.lora_up.weight": up.clone()}
    result["native.unet"] = run(model)
    for name, state in (("old-text", old), ("native", native), ("both", both)):
        safetensors.torch.save_file(state, HERE / f"{name}.safetensors")


names()
result["plain.unet"] = run(unet)
safetensors.torch.save_file({k: v.contiguous() for k, v in result.items()}, HERE / "expected.safetensors")
names = ("torch", "diffusers", "transformers", "peft", "lycoris-lora", "safetensors")
(HERE / "versions.json").write_text(json.dumps({n: importlib.metadata.version(n) for n in names}, indent=1) + "\n")
