"""Makes the files beside it: textual inversions in every format, and what diffusers makes of them on
Tests/Fixtures/families/sd1, for Tests/DiffusionTests/TextualInversionTests.swift.

Run by hand: pip install torch diffusers transformers safetensors; python Tests/Fixtures/embeddings/generate.py
The versions it ran with are recorded in versions.json. Vectors are random; nothing here was trained.
"""

import importlib.metadata
import json
import pathlib

import safetensors.torch
import torch
from diffusers import StableDiffusionPipeline

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE.parent / "families/sd1/folder"
PROMPT = "a photo of <cat-toy>, in the style of my-style, not webui"

torch.set_grad_enabled(False)
generator = torch.Generator().manual_seed(3)
one, two, three = (torch.randn(n, 16, generator=generator) for n in (1, 2, 3))
safetensors.torch.save_file({"<cat-toy>": one[0].clone()}, HERE / "learned_embeds.safetensors")
torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": two.clone()}, "name": "my-style", "step": 500,
            "sd_checkpoint": None, "sd_checkpoint_name": None}, HERE / "my-style.pt")
safetensors.torch.save_file({"emb_params": three.clone()}, HERE / "webui.safetensors")

pipe = StableDiffusionPipeline.from_pretrained(
    FOLDER, variant="fp16", torch_dtype=torch.float32, safety_checker=None, requires_safety_checker=False)
plain = pipe.encode_prompt(PROMPT, "cpu", 1, False)[0]
pipe.load_textual_inversion(HERE / "learned_embeds.safetensors")
pipe.load_textual_inversion(HERE / "my-style.pt", token="my-style")
pipe.load_textual_inversion(HERE / "webui.safetensors", token="webui")
states = pipe.encode_prompt(PROMPT, "cpu", 1, False)[0]
assert (states - plain).norm() > 0.1 * plain.norm()
prompt = pipe.maybe_convert_prompt(PROMPT, pipe.tokenizer)
ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
safetensors.torch.save_file({"states": states[0].contiguous(), "ids": ids[0].int()}, HERE / "expected.safetensors")
names = ("torch", "diffusers", "transformers", "safetensors")
(HERE / "versions.json").write_text(json.dumps({n: importlib.metadata.version(n) for n in names}, indent=1) + "\n")
